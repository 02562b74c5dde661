"""The demo: a utility tells its customers of an outage while one of its two sites is lost, and nothing is.

Both sites are started, the outage list is sent through both of them, every process of the live site is killed
in the middle, the site comes back, production moves home. Then every promise is checked: against what the
system says of each message, and against the carriers' own logs.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sitecontrol.cli.session import Globals
from sitecontrol.drills import carriers, measure
from sitecontrol.drills.accounting import Accounting, Fate
from sitecontrol.drills.client import Client
from sitecontrol.drills.ledger import Ledger, Text, now
from sitecontrol.drills.run import lost_messages
from sitecontrol.drills.stage import DrillFailedError, Stage
from sitecontrol.drills.traffic import access_to
from sitecontrol.drills.watch import Watch
from sitecontrol.lab import startup
from sitecontrol.lab.control import LabControl
from sitecontrol.lab.demo_report import Findings, print_report
from sitecontrol.lab.faults import other_site
from sitecontrol.lab.outages import make_outages, read_outages
from sitecontrol.lab.plan import Plan
from sitecontrol.lab.ports import SITES
from sitecontrol.lab.shutdown import bring_down
from sitecontrol.lab.starting import start

DEFAULT_DIR = Path(".lab-demo")
SEED = 1
RATE = 250.0  # texts a second, both clients together
PARALLEL = 24  # requests under way per client
KILL_AT, RETURN_AT = 0.35, 0.65  # of the customers told
SEND_WITHIN = 60.0
SETTLE_WITHIN = 90.0
REDRAW = 0.2


def run_demo(options: Globals, *, keep: bool, customers: int, base_port: int) -> bool:
    """Everything, from an empty folder to the report. True when every check held."""
    options = replace(options, directory=options.directory or DEFAULT_DIR)
    console = options.console
    began = time.monotonic()
    plan = startup.prepare(options.lab, {"base_port": base_port}, {}, fresh=True)
    outages = plan.directory.root / "outages.csv"
    make_outages(outages, customers=customers, seed=SEED)
    start(options, plan, foreground=not keep, to_try=False)
    try:
        findings = asyncio.run(_tell_everybody(plan, read_outages(outages), console))
        print_report(console, findings, took=time.monotonic() - began)
    finally:
        if not keep:
            bring_down(plan.directory)
    if keep:
        console.print("The NOC pages:")
        for site in SITES:
            console.print(f"  {site:9} http://127.0.0.1:{plan.ports.place(site).healthcheck}/")
        console.print(f"The lab still runs; `sitectl lab down --dir {options.lab}` ends it.")
    else:
        console.print(
            f"The lab was ended; its logs are in {plan.directory.root / 'logs'}. "
            "`sitectl demo --keep` leaves it running."
        )
    return findings.ok


@dataclass
class Campaign:
    """Sends every text once, through clients at both sites, no faster than `RATE`."""

    plan: Plan
    ledger: Ledger
    texts: Sequence[Text]
    sent: dict[str, int] = field(default_factory=dict)  # acknowledged, by client
    unanswered: int = 0

    async def run(self) -> None:
        access = access_to(self.plan)
        halves = {site: self.texts[i :: len(access.doors)] for i, site in enumerate(access.doors)}
        clients = [
            Client(site, doors, key=access.key, program=access.program, ledger=self.ledger)
            for site, doors in access.doors.items()
        ]
        self.sent = dict.fromkeys(access.doors, 0)
        await asyncio.gather(*(self._send_half(client, halves[client.name]) for client in clients))

    @property
    def total(self) -> int:
        return sum(self.sent.values())

    async def _send_half(self, client: Client, texts: Sequence[Text]) -> None:
        await client.start()
        queue = iter(texts)
        every = len(self.sent) / RATE
        due = now()

        async def worker() -> None:
            nonlocal due
            for text in queue:
                due = max(
                    due + every, now() - 1.0
                )  # after a pause at most one second's worth is made good at once
                await asyncio.sleep(max(0.0, due - now()))
                if await client.send(text, within=SEND_WITHIN):
                    self.sent[client.name] += 1
                else:
                    self.unanswered += 1

        try:
            await asyncio.gather(*(worker() for _ in range(PARALLEL)))
        finally:
            await client.stop()


async def _tell_everybody(plan: Plan, texts: list[Text], console: Console) -> Findings:
    ledger = Ledger(plan.directory.root / "drills" / f"demo-{secrets.token_hex(4)}.jsonl")
    ledger.open()
    async with LabControl.open(plan.directory.root) as control:
        cluster = await control.cluster()
        home = str(cluster["live_site"])
        watch = Watch(control)
        stage = Stage(control=control, watch=watch, live_before=home, term_before=int(cluster["term"]))
        campaign = Campaign(plan=plan, ledger=ledger, texts=texts)
        console.print(
            f"\nTelling {len(texts)} customers of the outage, through both sites. [bold]{home}[/] is live."
        )
        with _bars(console) as progress:
            drawing = asyncio.create_task(_draw(progress, campaign, plan, len(texts)))
            sending = asyncio.create_task(campaign.run())
            try:
                two_site_again = await _lose_and_return(stage, campaign, sending, len(texts), console)
                await sending
                pause = measure.longest_gap(ledger.acks, list(campaign.sent))
                await _swap_home(stage, home, console)
                fates = await _settle(progress, plan, ledger)
            finally:
                ledger.close()
                for task in (drawing, sending):
                    task.cancel()
                await asyncio.gather(drawing, sending, return_exceptions=True)
        live = (await control.cluster()).get("live_site")
    return _findings(plan, ledger, fates, campaign, stage, texts, pause, two_site_again, live == home)


async def _lose_and_return(
    stage: Stage, campaign: Campaign, sending: asyncio.Task[None], customers: int, console: Console
) -> float | None:
    """The live site dies in the middle and comes back; seconds from its return until both are in step."""

    def told(share: float) -> bool:
        return campaign.total >= share * customers or sending.done()

    home, refuge = stage.live_before, other_site(stage.live_before)
    await _when(lambda: told(KILL_AT))
    await stage.strike("site-loss", home)
    console.print(f"  [red]every process of {home} was killed[/], after {campaign.total} customers were told")
    if await stage.until(f"{refuge} is live", stage.is_live(refuge), within=30):
        console.print(
            f"  [bold]{refuge}[/] is live, {now() - (stage.fault_at or 0):.1f} s later; requests go on"
        )
    await _when(lambda: told(RETURN_AT))
    await stage.heal()
    console.print(f"  {home} is started again")
    returned = now()
    if not await stage.until("both sites are in step", stage.control.is_two_site, within=90):
        return None
    console.print(f"  both sites are in step again, {now() - returned:.1f} s later")
    return now() - returned


async def _swap_home(stage: Stage, home: str, console: Console) -> None:
    try:
        await stage.swap(to=home)
    except DrillFailedError as error:
        stage.missed.append(str(error))
    else:
        console.print(f"  production is home in [bold]{home}[/]")


async def _when(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 # counted by tasks that know nothing of us
        await asyncio.sleep(0.02)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=False,
    )


async def _draw(progress: Progress, campaign: Campaign, plan: Plan, customers: int) -> None:
    """Keep the bars true. The carriers' bar counts the lines of their own logs."""
    start = carriers.mark(plan)
    bars: dict[str, TaskID] = {}
    at_carriers = progress.add_task("received by the carriers", total=customers)
    while True:
        for site, count in campaign.sent.items():
            if site not in bars:
                half = (customers + 1 - len(bars)) // 2
                bars[site] = progress.add_task(f"accepted, asked in {site}", total=half)
            progress.update(bars[site], completed=count)
        received = await asyncio.to_thread(carriers.received_since, plan, start)
        progress.update(at_carriers, completed=len({(r.to, r.text) for r in received}))
        await asyncio.sleep(REDRAW)


async def _settle(progress: Progress, plan: Plan, ledger: Ledger) -> dict[str, Fate]:
    bar = progress.add_task("looked up, and final", total=len(ledger.acknowledged))
    return await Accounting(access_to(plan)).settle(
        ledger.ids,
        within=SETTLE_WITHIN,
        progress=lambda settled, total: progress.update(bar, completed=settled, total=total),
    )


def _findings(
    plan: Plan,
    ledger: Ledger,
    fates: dict[str, Fate],
    campaign: Campaign,
    stage: Stage,
    texts: Sequence[Text],
    pause: measure.Gap | None,
    two_site_again: float | None,
    home_again: bool,  # noqa: FBT001 # a fact, not a switch
) -> Findings:
    received = carriers.received_since(plan, carriers.Mark(offsets={}))
    doubtful = frozenset(fate.reference for fate in fates.values() if fate.was_in_doubt)
    promised = {
        (text.to.lstrip("+"), text.body)
        for text in (ledger.texts[ack.reference] for ack in ledger.acknowledged.values())
    }
    at_carriers = {(r.to.lstrip("+"), r.text) for r in received}
    return Findings(
        customers=len(texts),
        accepted=len(ledger.acknowledged),
        refused=len(ledger.refusals),
        unanswered=campaign.unanswered,
        delivered=sum(fate.state == "delivered" for fate in fates.values()),
        not_final=sum(not fate.final for fate in fates.values()),
        lost=len(lost_messages(ledger.acknowledged, fates, ledger, received)),
        in_doubt=len(doubtful),
        doubles=measure.duplicates(carriers.copies(received), ledger.texts, doubtful),
        at_carriers=len(at_carriers),
        missing_at_carriers=len(promised - at_carriers),
        unknown_at_carriers=len(at_carriers - promised),
        stale=len(measure.stale_acks(ledger.acks)),
        pause_s=pause.length if pause else None,
        two_site_again_s=two_site_again,
        home_again=home_again,
        missed=tuple(stage.missed),
    )
