"""Runs one drill: warm up, the story, the way back to two sites, the accounting, the numbers."""

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sitecontrol.drills import carriers, checks, measure
from sitecontrol.drills.accounting import Accounting, Doubt, Fate, Unanswered
from sitecontrol.drills.drill import Drill
from sitecontrol.drills.ledger import Ack, Ledger, now
from sitecontrol.drills.outcome import Moment, Outcome
from sitecontrol.drills.stage import DrillFailedError, Stage
from sitecontrol.drills.traffic import BEGINS, Traffic, access_to
from sitecontrol.drills.watch import Watch
from sitecontrol.lab.control import Json, LabControl
from sitecontrol.lab.errors import LabError, LabRefusedError
from sitecontrol.lab.faults import other_site
from sitecontrol.lab.plan import Plan
from sitecontrol.lab.ports import SITES
from sitecontrol.settings import load

WARM_UP = 3.0  # seconds of traffic before the fault, and a random part of a second more
COOL_DOWN = 2.0  # and after both sites are in step again
CONVERGE_WITHIN = 90.0
SETTLE_WITHIN = 60.0
# Seconds from a client's last try until it is certain whether its text is accepted: a dispatcher holds it for 10 s
# (`hold_for`), and gives the last attempt 3 s more.
HELD_AT_MOST = 16.0
FIND_WITHIN = 30.0
BUCKET = 0.1

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What was asked for."""

    drill: Drill
    site: str | None
    rate: float
    seed: int
    quick: bool = False
    in_swap: bool = False  # strike while a planned swap holds requests
    patience: float = 1.0  # how many times as long as usual it waits for the lab

    @property
    def idle(self) -> bool:
        """Nobody sends anything meanwhile, so no pause can be seen."""
        return self.rate == 0


async def run_drill(control: LabControl, order: Order, *, say: Say) -> Outcome:
    """Leaves the lab healed, whatever happens. Raises LabRefusedError when it is not whole to begin with."""
    rng = random.Random(order.seed)  # noqa: S311 # to be repeatable, not secret
    cluster = await _whole(control)
    live = str(cluster["live_site"])
    if order.in_swap:
        order = replace(order, drill=order.drill.during_a_swap())
    site = order.site or (live if order.drill.strikes == "live" else other_site(live))
    if site not in SITES:
        raise LabRefusedError(f"{site!r} is no site: use one of {', '.join(SITES)}")
    run = f"{order.drill.name}-{secrets.token_hex(4)}"
    ledger = Ledger(control.plan.directory.root / "drills" / f"{run}.jsonl")
    access = access_to(control.plan)
    mark = carriers.mark(control.plan)
    watch = Watch(control)
    stage = Stage(
        control=control,
        watch=watch,
        live_before=live,
        term_before=int(cluster["term"]),
        quick=order.quick,
        in_swap=order.in_swap,
        patience=order.patience,
    )
    traffic = Traffic(access, ledger, rate=order.rate, run=run, rng=rng)
    started_wall, started = datetime.now(UTC), now()
    ledger.open()
    try:
        watch.start()
        await traffic.start()
        say("traffic runs")
        await stage.steady(WARM_UP + rng.random())
        say(order.drill.story.__doc__ or order.drill.summary)
        two_site_again = await _play(stage, order.drill, site)
        await stage.steady(COOL_DOWN)
        if order.idle:
            await traffic.send_last()
        ended = now()
        await traffic.stop()
        say("asking what became of every message")
        accounting = Accounting(access)
        settled_within = settle_within(control.plan) * order.patience
        fates = await accounting.settle(ledger.ids, within=settled_within)
        found = await _look_up_unanswered(accounting, ledger, within=settled_within)
        after = await control.cluster()
        doubts = await accounting.doubts(_terms(stage, after), within=FIND_WITHIN)
        swap_over = await stage.no_swap()
    finally:
        await traffic.stop()
        await watch.stop()
        ledger.close()
    received = carriers.received_since(control.plan, mark)
    return _outcome(
        order,
        site,
        stage,
        ledger=ledger,
        fates=fates,
        found=found,
        doubts=doubts,
        received=received if simulated(control.plan) else None,
        delivers=delivers(control.plan),
        traffic=traffic,
        started=started,
        started_wall=started_wall,
        ended=ended,
        two_site_again=two_site_again,
        swap_over=swap_over,
        live_after=after.get("live_site"),
        term_after=int(after.get("term") or 0),
    )


async def _whole(control: LabControl) -> Json:
    cluster = await control.cluster()
    if cluster.get("durability") != "two-site" or cluster.get("live_site") is None:
        raise LabRefusedError(
            "the lab is not whole (two sites in step): `sitectl lab status` tells what is missing, "
            "`sitectl lab heal` mends faults"
        )
    return cluster


async def _play(stage: Stage, drill: Drill, site: str) -> bool:
    """The story, then the way back; returns whether both sites came into step again. Once it has struck, what the lab
    refuses is a missed fact: what was measured until then is told all the same.
    """
    try:
        await drill.story(stage, site)
    except (LabError, DrillFailedError) as error:
        if not stage.blows:
            raise
        stage.miss(f"the story broke off: {error}", "the story broke off")
        await _mend(stage)
    except BaseException:  # ended from outside, perhaps after it had mended what it broke before
        await _mend(stage)
        raise
    else:
        if stage.healed_at is None:
            await _mend(stage)
    whole = await stage.until(
        "both sites are in step again", stage.control.is_two_site, within=CONVERGE_WITHIN
    )
    if stage.in_swap:
        await stage.until("the swap has ended", stage.no_swap, within=CONVERGE_WITHIN)
    return whole


async def _mend(stage: Stage) -> None:
    try:
        await stage.tidy()
    except LabError as error:
        left = "something may still be broken; `sitectl lab heal` mends it"
        stage.miss(f"{left}: {error}", left)


async def _look_up_unanswered(
    accounting: Accounting, ledger: Ledger, *, within: float
) -> dict[str, Fate | None]:
    """What became of the texts for which nobody had a 2xx, by reference: None when it was not accepted. Left out: those
    of which nobody can say.
    """
    if not ledger.unanswered:
        return {}
    await asyncio.sleep(HELD_AT_MOST)  # a dispatcher may hold, and then accept, what its client has given up
    ids = await accounting.find(ledger.unanswered, within=FIND_WITHIN)
    accepted = {message_id: reference for reference, message_id in ids.items() if message_id is not None}
    fates = await accounting.settle(accepted, within=within)
    return {
        reference: None if message_id is None else fates[message_id] for reference, message_id in ids.items()
    }


def _terms(stage: Stage, after: Json) -> range:
    """All that a text of this run may have been sent in."""
    return range(stage.term_before, max(stage.term_before, int(after.get("term") or 0)) + 1)


def windows(plan: Plan) -> dict[str, int]:
    """By carrier: how many submits a dispatcher has unanswered at most, by the settings of the sites."""
    return {
        carrier.name: carrier.window
        for site in SITES
        for carrier in load(plan.directory.config(site)).carrier
    }


def simulated(plan: Plan) -> bool:
    """All carriers are the lab's own simulators: they log what they take."""
    return all(carrier.simulated for carrier in plan.carriers)


def delivers(plan: Plan) -> bool:
    """All carriers are the lab's own simulators, and deliver all that they take."""
    outcomes = {share.partition("=")[0] for share in plan.lab.options.simulator.receipt_outcome.split(",")}
    return simulated(plan) and outcomes == {"DELIVRD"}


def settle_within(plan: Plan) -> float:
    """Seconds that the carriers' receipts may take until every text is settled."""
    return SETTLE_WITHIN + plan.lab.options.simulator.receipt_delay_ms / 1000


def _outcome(
    order: Order,
    site: str,
    stage: Stage,
    *,
    ledger: Ledger,
    fates: dict[str, Fate],
    found: dict[str, Fate | None],
    doubts: list[Doubt] | None,
    received: list[carriers.Received] | None,
    delivers: bool,
    traffic: Traffic,
    started: float,
    started_wall: datetime,
    ended: float,
    two_site_again: bool,
    swap_over: bool,
    live_after: str | None,
    term_after: int,
) -> Outcome:
    fault_at = stage.fault_at if stage.fault_at is not None else started
    acknowledged = ledger.acknowledged
    lost = lost_messages(acknowledged, fates, ledger, received)
    known = [*fates.values(), *(fate for fate in found.values() if fate is not None)]
    known_ids = {fate.id for fate in known}
    doubtful = frozenset(fate.reference for fate in known if fate.was_in_doubt)
    doubles = measure.duplicates(carriers.copies(received or []), ledger.texts, doubtful)
    unanswered = unanswered_texts(ledger, found, received)
    pause = measure.longest_gap(ledger.acks, traffic.clients, end=ended if unanswered else None)
    ours = [
        one for one in received or () if one.text.startswith(BEGINS)
    ]  # somebody else may use the lab, too
    strangers = {one.text for one in ours} - {text.body for text in ledger.texts.values()}
    broken = measure.unexpected(ledger.broken, killed=stage.killed_doors, since=fault_at)
    held, notes = checks.check(
        checks.Evidence(
            drill=order.drill,
            site=site,
            acks=ledger.acks,
            refusals=ledger.refusals,
            lost=lost,
            fates=list(fates.values()),
            unanswered=unanswered,
            acknowledged=len(acknowledged),
            strangers=sorted(strangers),
            delivers=delivers,
            broken=broken,
            fencing=stage.watch.fencing.get(site, {}),
            doubles=doubles,
            doubts=None if doubts is None else Counter(one.carrier for one in doubts if one.id in known_ids),
            windows=windows(stage.control.plan),
            pause=pause,
            idle=order.idle,
            fault_at=fault_at,
            healed_at=stage.healed_at if stage.healed_at is not None else ended,
            two_site_again=two_site_again,
            swap_over=swap_over,
            live_before=stage.live_before,
            live_after=live_after,
            term_before=stage.term_before,
            term_after=term_after,
            missed=stage.missed,
        )
    )

    def wall(moment: float) -> str:
        return (started_wall + timedelta(seconds=moment - started)).isoformat(timespec="milliseconds")

    return Outcome(
        drill=order.drill.name,
        seed=order.seed,
        site=site,
        started_at=wall(started),
        fault_at=wall(fault_at),
        healed_at=None if stage.healed_at is None else wall(stage.healed_at),
        quick=order.quick,
        in_swap=order.in_swap,
        rate=order.rate,
        pause_s=None if order.idle else round(pause.length if pause else ended - started, 3),
        pause_limit_s=order.drill.pause_limit,
        pause_from_s=round(pause.start - fault_at, 3) if pause else 0.0,
        first_ack_after_fault_s=_rounded(measure.first_ack_after(ledger.acks, fault_at)),
        first_submit_after_fault_s=_first_submit(ledger, received or [], fault_at),
        accepted=len(acknowledged),
        refused=len(ledger.refusals),
        connections_broken=len(ledger.broken),
        connections_broken_unexpectedly=len(broken),
        unanswered=len(unanswered),
        acknowledged_lost=len(lost),
        not_final=sum(not fate.final for fate in fates.values()),
        not_delivered=sum(fate.final and fate.state != checks.DELIVERED for fate in fates.values()),
        by_state=dict(Counter(fate.state for fate in fates.values()).most_common()),
        at_carriers=None if received is None else len({(one.to, one.text) for one in ours}),
        in_doubt=len(doubtful),
        duplicates_at_carrier=doubles.copies,
        duplicates_declared=doubles.declared,
        two_site_again_s=_rounded(measure.in_step_again(stage.watch.whole, stage.back_since)),
        fencing_ms=dict(stage.watch.fencing.get(site, {})),
        live_before=stage.live_before,
        live_after=live_after,
        term_before=stage.term_before,
        term_after=term_after,
        held=held,
        timeline=[
            Moment(t=round(t - fault_at, 2), what=what, where=where)
            for t, what, where in sorted(stage.watch.events)
        ],
        acks_per_tenth=_histogram(ledger.acks, fault_at),
        notes=notes,
    )


def lost_messages(
    acknowledged: dict[str, Ack],
    fates: dict[str, Fate],
    ledger: Ledger,
    received: list[carriers.Received] | None,
) -> list[str]:
    """References of messages that nobody knows any more, or that count as delivered and no carrier received."""
    at_carriers = None if received is None else {(r.to.lstrip("+"), r.text) for r in received}
    lost = []
    for message_id, ack in acknowledged.items():
        fate, text = fates.get(message_id), ledger.texts[ack.reference]
        unknown = fate is None or fate.state == "missing"
        claimed = fate is not None and fate.state == "delivered" and at_carriers is not None
        if unknown or (claimed and (text.to.lstrip("+"), text.body) not in (at_carriers or ())):
            lost.append(ack.reference)
    return sorted(lost)


def unanswered_texts(
    ledger: Ledger, found: dict[str, Fate | None], received: list[carriers.Received] | None
) -> list[Unanswered]:
    """Every text for which nobody had a 2xx, with what the system and the carriers know of it."""
    at_carriers = {(r.to.lstrip("+"), r.text) for r in received or ()}
    return [
        Unanswered(
            reference=reference,
            known=reference in found,
            fate=found.get(reference),
            at_carrier=(ledger.texts[reference].to.lstrip("+"), ledger.texts[reference].body) in at_carriers,
        )
        for reference in ledger.unanswered
    ]


def _first_submit(ledger: Ledger, received: list[carriers.Received], fault_at: float) -> float | None:
    """Seconds until a carrier had a text that was first sent after the fault."""
    offset = time.time() - now()
    fresh = {ledger.texts[ack.reference].body for ack in ledger.acks if ack.asked_at >= fault_at}
    return _rounded(min((r.wall - offset - fault_at for r in received if r.text in fresh), default=None))


def _histogram(acks: list[Ack], fault_at: float) -> list[tuple[float, int]]:
    buckets: dict[int, int] = {}
    for ack in acks:
        bucket = int((ack.t - fault_at) // BUCKET)
        buckets[bucket] = buckets.get(bucket, 0) + 1
    return [(round(bucket * BUCKET, 1), count) for bucket, count in sorted(buckets.items())]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


async def wait_until_whole(control: LabControl, within: float) -> bool:
    """Between drills: until both sites are in step and every dispatcher is ready again."""
    deadline = now() + within
    while now() < deadline:
        urls = [f"http://127.0.0.1:{port}" for site in SITES for _, port in control.plan.dispatchers(site)]
        ready = await asyncio.gather(*(control.is_ready(url) for url in urls))
        if all(ready) and await control.is_two_site():
            return True
        await asyncio.sleep(0.2)
    return False
