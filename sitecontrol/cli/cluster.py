"""`status`, `swap`, `pause`, `resume`, `history`, `node list`: the cluster as operators see and move it.

What people and agents said is shown as it is: in the markup of rich, `[/]` would end a colour, or the command.
"""

import contextlib
import getpass
import time
from collections.abc import Sequence
from typing import Any

import click
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from sitecontrol.cli.agents import Agents, Answer, OutcomeUnknown, Unreachable
from sitecontrol.cli.session import Exit, Globals, Problem, leave, with_globals
from sitecontrol.records import SWAP_PHASES, Phase

SWAP_TIMEOUT = 60.0  # seconds; the swap itself rolls back long before
POLL = 0.1

# The phases whose durations, each from the one before, make up the pause: from held to opened.
PAUSE = SWAP_PHASES[SWAP_PHASES.index(Phase.HELD) + 1 : SWAP_PHASES.index(Phase.OPENED) + 1]


def cluster_table(cluster: dict[str, Any]) -> Table:
    """The one-screen answer to "how are we?"; a word stands beside every colour."""
    live, durability = cluster.get("live_site") or "none", cluster.get("durability")
    swap, paused = cluster.get("swap"), cluster.get("paused")
    lines = [f"live site [bold]{live}[/]", f"term {cluster.get('term')}"]
    lines.append(f"durability {'[green]' if durability == 'two-site' else '[yellow]'}{durability}[/]")
    if swap:
        lines.append(f"[cyan]swap to {swap['to_node']}: {swap['phase']}[/]")
    if paused:
        lines.append(f"[yellow]automatic swaps paused[/] {escape(cluster.get('paused_reason') or '')}")
    decision = cluster.get("decision") or {}
    table = Table(
        title="  ·  ".join(lines),
        title_justify="left",
        title_style="",
        caption=escape(f"{cluster.get('told_by')}: {decision['sentence']}") if decision else None,
        caption_justify="left",
        caption_style="dim",
    )
    for column in (
        "node",
        "site",
        "role",
        "in step",
        "ready",
        "timeline",
        "replay lag",
        "what is in the way",
    ):
        table.add_column(column)
    in_step = {s["node"] for s in cluster.get("sync", [])}
    for member in sorted(cluster.get("members", []), key=lambda m: str(m["node"])):
        leads = member["node"] == cluster.get("leader")
        lag = max(0, member.get("received_lsn", 0) - member.get("replayed_lsn", 0))
        table.add_row(
            member["node"],
            member["site"],
            "[bold]leader[/]" if leads else member["role"],
            "-" if leads else "[green]yes[/]" if member["node"] in in_step else "[yellow]no[/]",
            "[green]yes[/]" if member.get("ready") else "[red]no[/]",
            str(member.get("timeline", "?")),
            f"{lag} B",
            escape("; ".join(member.get("reasons", []))),
        )
    return table


@click.command()
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@with_globals
def status(options: Globals, *, watch: bool) -> None:
    """Live site, term, durability, nodes. Exit code 6 when not every site is in step."""
    agents = Agents(options)
    cluster = agents.get("/cluster")
    if watch:
        with Live(cluster_table(cluster), console=options.console, refresh_per_second=2) as live:
            while True:
                time.sleep(1)
                live.update(cluster_table(agents.get("/cluster")))
    if options.as_json:
        options.emit(cluster)
    else:
        options.console.print(cluster_table(cluster))
    healthy = cluster.get("leader") and cluster.get("durability") == "two-site"
    leave(Exit.DONE if healthy else Exit.DEGRADED)


@click.command()
@click.option("--to", "target", required=True, help="The site (or node) that production moves to.")
@click.option("--reason", default="", help="Kept in the history.")
@click.option("--dry-run", is_flag=True, help="Run every check and tell what would happen; move nothing.")
@with_globals
def swap(options: Globals, *, target: str, reason: str, dry_run: bool) -> None:
    """Move production to another site, as planned work: no request is refused."""
    agents = Agents(options)
    sites = list(dict.fromkeys(site for site, _ in agents.nodes))
    if target not in sites and target not in {node.name for _, node in agents.nodes}:
        raise Problem(f"--to {target}: no such site; there are: {', '.join(sites)}", Exit.USAGE)
    body = {"to": target, "reason": reason, "by": getpass.getuser(), "dry_run": dry_run}
    if not dry_run and not options.yes and not _confirmed(target):
        raise Problem("not confirmed; nothing was changed (--yes goes on without asking)", Exit.REFUSED)
    try:
        answer = agents.post("/swap", body, changes=not dry_run)
    except OutcomeUnknown as error:
        raise OutcomeUnknown(f"{error.message}; {_what_is_seen(agents)}") from error
    if answer.status >= 400:
        if options.as_json:
            options.emit(answer.body)
        raise _refusal(answer)
    if dry_run:
        if options.as_json:
            options.emit(answer.body)
        else:
            options.console.print(f"Nothing stands in the way: {answer.body['to']} could take over now.")
        return
    _follow(options, agents, str(answer.body["id"]))


def _confirmed(target: str) -> bool:
    try:
        typed = click.prompt(f"Production moves to {target}. Type the site's name to go on", err=True)
    except click.Abort:  # Ctrl-C, or nobody there to type
        return False
    return bool(typed == target)


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


def _refusal(answer: Answer) -> Problem:
    return Problem(f"{answer.body.get('title')}: {answer.body.get('detail')}", Exit.REFUSED)


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


@click.command()
@click.option("--reason", required=True, help="Shown to everybody who looks at the status.")
@with_globals
def pause(options: Globals, *, reason: str) -> None:
    """Automatic swaps off: nothing but an operator moves production."""
    _want(options, "/pause", reason, "Automatic swaps are paused.")


@click.command()
@click.option("--reason", default="", help="Kept with the record.")
@with_globals
def resume(options: Globals, *, reason: str) -> None:
    """Automatic swaps on again."""
    _want(options, "/resume", reason, "Automatic swaps are on.")


def _want(options: Globals, path: str, reason: str, done: str) -> None:
    try:
        answer = Agents(options).post(path, {"reason": reason, "by": getpass.getuser()})
    except OutcomeUnknown as error:
        raise OutcomeUnknown(
            f"{error.message}; `sitectl status` tells what holds; asking again is safe"
        ) from error
    if answer.status != 200:
        raise _refusal(answer)
    if options.as_json:
        options.emit(answer.body)
    else:
        options.console.print(done)


@click.command()
@click.argument("term", required=False, type=int)
@with_globals
def history(options: Globals, term: int | None) -> None:
    """Who led, from when, why, who or what decided, and how long each step took."""
    entries = Agents(options).get("/history")["history"]
    chosen = [e for e in entries if term is None or e.get("term") == term]
    if options.as_json:
        options.emit(chosen)
        return
    options.console.print(history_table(chosen))


def history_table(entries: Sequence[dict[str, Any]]) -> Table:
    table = Table()
    for column in ("term", "when (UTC)", "what", "live site", "by", "reason", "phases (ms)"):
        table.add_column(column)
    for e in entries:
        steps = "  ".join(f"{name} {ms}" for name, ms in e.get("durations_ms", {}).items())
        when = str(e.get("at", ""))[:19].replace("T", " ")
        cells = (e.get("kind"), e.get("site"), e.get("by"), e.get("reason"))
        table.add_row(str(e.get("term")), when, *(escape(str(c)) for c in cells), escape(steps))
    return table


@click.group()
def node() -> None:
    """The PostgreSQL nodes."""


@node.command("list")
@with_globals
def node_list(options: Globals) -> None:
    """Every configured node as its own agent tells, reached or not."""
    agents = Agents(options)
    rows = []
    for site, known in agents.nodes:
        answer = agents.get_from(known, "/status")
        told = answer.body if answer else {}
        rows.append({"node": known.name, "site": site, "reached": answer is not None, **told})
    if options.as_json:
        options.emit(rows)
    else:
        table = Table()
        for column in ("node", "site", "agent", "role", "postgres", "timeline", "ready", "deciding rule"):
            table.add_column(column)
        for row in rows:
            postgres = row.get("postgres", {})
            table.add_row(
                row["node"],
                row["site"],
                "[green]reached[/]" if row["reached"] else "[red]silent[/]",
                str(row.get("role", "?")),
                str(postgres.get("state", "?")),
                str(postgres.get("timeline", "?")),
                "yes" if row.get("ready") else "no",
                str((row.get("decision") or {}).get("rule", "?")),
            )
        options.console.print(table)
    leave(Exit.DONE if all(row["reached"] for row in rows) else Exit.DEGRADED)
