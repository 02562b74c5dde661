"""`status`, `swap`, `pause`, `resume`, `history`: the cluster as operators see and move it."""

import contextlib
import getpass
import time
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from sitecontrol.cli.acting import answered, dry_run_option, wished
from sitecontrol.cli.agents import Agents, OutcomeUnknown, Unreachable
from sitecontrol.cli.planned import Time, plan
from sitecontrol.cli.session import Exit, Globals, Problem, leave, typed, with_globals
from sitecontrol.cli.tables import history_lines, status_lines, unheard
from sitecontrol.cli.watching import seen_by_health, work_lines
from sitecontrol.records import SWAP_PHASES, Phase

SWAP_TIMEOUT = 150.0  # seconds; the swap itself ends before, by the deadlines of its phases
POLL = 0.1

# The phases whose durations, each from the one before, make up the pause: from held to opened.
PAUSE = SWAP_PHASES[SWAP_PHASES.index(Phase.HELD) + 1 : SWAP_PHASES.index(Phase.OPENED) + 1]


@click.command()
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@with_globals
def status(options: Globals, *, watch: bool) -> None:
    """Live site, term, durability, nodes, links, queue, alarms.

    Exit code 6 when a node is not heard or a site is not in step. Without a health daemon that answers, queue and
    alarms are said to be unknown.
    """
    agents = Agents(options)
    configured = {known.name: site for site, known in agents.nodes}
    cluster = agents.get("/cluster")
    seen = seen_by_health(agents)

    def shown() -> RenderableType:
        return Group(status_lines(cluster, configured), *work_lines(cluster, seen))

    if watch:
        with Live(shown(), console=options.console, refresh_per_second=2) as live:
            while True:
                time.sleep(1)
                cluster, seen = agents.get("/cluster"), seen_by_health(agents)
                live.update(shown())
    if options.as_json:
        options.emit({**cluster, "seen": seen})
    else:
        options.console.print(shown())
    whole = not unheard(cluster, configured)
    in_step = cluster.get("leader") and cluster.get("durability") == "two-site"
    leave(Exit.DONE if whole and in_step else Exit.DEGRADED)


@click.command()
@click.option("--to", "target", help="The site (or node) that production moves to.")
@click.option("--reason", default="", help="Kept in the history.")
@click.option(
    "--at", "when", type=Time(), help="Not now: 2030-01-31T03:00:00Z, or +10m from now; within 7 days."
)
@click.option("--cancel", is_flag=True, help="The swap that is planned is not wanted any more.")
@dry_run_option
@with_globals
def swap(
    options: Globals,
    *,
    target: str | None,
    reason: str,
    when: dict[str, Any] | None,
    cancel: bool,
    dry_run: bool,
) -> None:
    """Move production to another site, as planned work: no request is refused.

    With --at the leader's agent begins it then, by the same checks; what it refuses then is told in the history, and
    nothing moves. `sitectl status` shows what is planned.
    """
    agents = Agents(options)
    if cancel == (target is not None) or (cancel and when):
        raise click.UsageError("say where to (--to SITE), or --cancel what is planned")
    if target is None:
        plan(options, agents, "/swap/cancel", {}, dry_run=dry_run)
        return
    sites = list(dict.fromkeys(site for site, _ in agents.nodes))
    if target not in sites and target not in {node.name for _, node in agents.nodes}:
        raise Problem(f"--to {target}: no such site; there are: {', '.join(sites)}", Exit.USAGE)
    body = {"to": target, "reason": reason, "by": getpass.getuser(), "dry_run": dry_run}
    if (
        not dry_run
        and not options.yes
        and not typed(f"Production moves to {target}. Type the site's name to go on", target)
    ):
        raise Problem("not confirmed; nothing was changed (--yes goes on without asking)", Exit.REFUSED)
    if when is not None:
        plan(options, agents, "/swap/plan", {"to": target, "reason": reason, **when}, dry_run=dry_run)
        return
    try:
        told = answered(options, agents.post("/swap", body, changes=not dry_run))
    except OutcomeUnknown as error:
        raise OutcomeUnknown(f"{error.message}; {_what_is_seen(agents)}") from error
    if dry_run:
        if options.as_json:
            options.emit(told)
        else:
            options.console.print(f"Nothing stands in the way: {told['to']} could take over now.")
        return
    _follow(options, agents, str(told["id"]))


def _what_is_seen(agents: Agents) -> str:
    """After a swap was asked for without an answer: whether one runs, and whose. None seen is not none coming."""
    try:
        current = agents.get("/cluster").get("swap")
    except Unreachable:
        return "no agent tells at the moment whether a swap runs: see `sitectl status` before you ask again"
    if current is None:
        return (
            "no swap is seen, but it may still begin, or be over already: see `sitectl status` and"
            " `sitectl history` before you ask again"
        )
    return (
        f"swap {current['id']} to {current['to_node']} is in progress ({current['phase']}), asked for by"
        f" {current['by']}: `sitectl status --watch` follows it"
    )


def _follow(options: Globals, agents: Agents, swap_id: str) -> None:
    """Show the phases as they pass, until the history tells how the swap ended. Silence is no end."""
    shown: set[str] = set()
    deadline = time.monotonic() + (options.timeout or SWAP_TIMEOUT)
    while time.monotonic() < deadline:
        with contextlib.suppress(Unreachable):
            current = agents.get("/cluster").get("swap")
            if current is None or current["id"] != swap_id:
                entry = _ended(agents, swap_id)
                if entry is not None:
                    _tell_end(options, entry, shown)
                    return
            else:
                _tell_phases(options, current["times"], shown)
        time.sleep(POLL)
    raise Problem(
        f"the end of swap {swap_id} was not seen; `sitectl status` tells how far it is", Exit.TIMED_OUT
    )


def _ended(agents: Agents, swap_id: str) -> dict[str, Any] | None:
    for entry in agents.get("/history").get("history", []):
        known = entry.get("evidence", {})
        if known.get("id") == swap_id:
            return dict(entry)
    return None


def _tell_phases(options: Globals, times: list[dict[str, Any]], shown: set[str]) -> None:
    for step in times:
        if step["phase"] not in shown:
            shown.add(step["phase"])
            if not options.as_json:
                options.console.print(f"  {step['phase']}")


def _tell_end(options: Globals, entry: dict[str, Any], shown: set[str]) -> None:
    _tell_phases(options, entry["steps"], shown)
    if options.as_json:
        options.emit(entry)
    rolled_back = entry["kind"] == "swap rolled back"
    if rolled_back:
        raise Problem(f"the swap was rolled back: {entry['reason']}; nothing moved", Exit.REFUSED)
    if not options.as_json:
        pause = sum(entry["durations_ms"].get(p.value, 0) for p in PAUSE)
        options.console.print(
            f"Production runs in [bold]{entry['site']}[/], term {entry['term']}; held to opened took {pause} ms."
        )


def _said(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("say why, for those who look at the status.")
    return value


@click.command()
@click.option("--reason", required=True, callback=_said, help="Shown to everybody who looks at the status.")
@dry_run_option
@with_globals
def pause(options: Globals, *, reason: str, dry_run: bool) -> None:
    """Automatic swaps off: nothing but an operator moves production.

    Should the leader be lost meanwhile, no other node takes the lead, not even by `sitectl swap`: `sitectl resume` lets
    one that is in step take it.
    """
    _want(options, "/pause", reason, "Automatic swaps are paused by {by}: {reason}", dry_run=dry_run)


@click.command()
@click.option("--reason", default="", help="Kept with the record.")
@dry_run_option
@with_globals
def resume(options: Globals, *, reason: str, dry_run: bool) -> None:
    """Automatic swaps on again; what health moved before counts no more for its cool-down and its hourly limit."""
    _want(options, "/resume", reason, "Automatic swaps are on.", dry_run=dry_run)


def _want(options: Globals, path: str, reason: str, done: str, *, dry_run: bool) -> None:
    body = {"reason": reason}
    wanted = wished(options, Agents(options), path, body, dry_run=dry_run, look="`sitectl status`")
    if wanted is None:
        return
    if options.as_json:
        options.emit(wanted)
    else:
        by, why = (wanted.get(f"paused_{word}") for word in ("by", "reason"))
        options.console.print(Text(done.format(by=by, reason=why)))


@click.command()
@click.argument("wanted", metavar="[ID]", required=False)
@with_globals
def history(options: Globals, wanted: str | None) -> None:
    """Who led, from when, why, who or what decided, and how long each step took.

    ID is a term, or a swap's id: of that one the evidence is shown, too.
    """
    entries = Agents(options).get("/history")["history"]
    chosen = [e for e in entries if wanted is None or _is(e, wanted)]
    if not chosen and wanted is not None and not wanted.isdecimal():
        raise Problem(f"{wanted}: no such term and no such swap; `sitectl history` lists all", Exit.USAGE)
    if options.as_json:
        options.emit(chosen)
        return
    options.console.print(history_lines(chosen, evidence=wanted is not None))


def _is(entry: Mapping[str, Any], wanted: str) -> bool:
    return wanted in (str(entry.get("term")), (entry.get("evidence") or {}).get("id"))
