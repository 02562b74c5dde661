"""`traffic status / test`: where clients are sent, by the live site's agent; and what the adapters would do."""

import asyncio
from typing import Any

import click
from rich.console import Group
from rich.text import Text

from sitecontrol.cli.agents import Agents, Unreachable
from sitecontrol.cli.session import Exit, Globals, Problem, leave, with_globals
from sitecontrol.cli.tables import Column, table_of
from sitecontrol.settings import Secrets, SettingsError
from sitecontrol.traffic.adapters import adapters_of
from sitecontrol.traffic.api import Adapter, AdapterFailed, Move

NONE = "no adapter is configured: [traffic] in the settings names them, docs/traffic.md tells of each"
STATUS = (Column(title="adapter", whole=True), Column(title="state", whole=True), Column(title="reason"))
COLOURS = {"ok": "green", "failed": "red"}


@click.group()
def traffic() -> None:
    """How clients are moved when production moves."""


@traffic.command()
@with_globals
def status(options: Globals) -> None:
    """Every adapter as the live site's agent tells. Exit code 6 when one fails, or when no site is live."""
    agents = Agents(options)
    rows = []
    for site, known in agents.nodes:
        answer = agents.get_from(known, "/status")
        told = answer.body if answer else {}
        row = {"node": known.name, "site": site, "reached": answer is not None}
        rows.append({**row, "live": bool(told.get("live")), "traffic": told.get("traffic", [])})
    if not any(row["reached"] for row in rows):
        agents.get("/status")  # raises, and tells who was asked
    live = next((row for row in rows if row["live"]), None)
    if options.as_json:
        options.emit(rows)
    else:
        options.console.print(_lines(live))
    failing = live is None or any(one["state"] == "failed" for one in live["traffic"])
    leave(Exit.DEGRADED if failing else Exit.DONE)


def _lines(live: dict[str, Any] | None) -> Group | Text:
    if live is None:
        return Text("no site is live: nobody moves clients", "yellow")
    head = Text.assemble("clients belong to ", (live["site"], "bold"), f", as {live['node']} tells")
    if not live["traffic"]:
        return Group(head, Text(NONE))
    rows = [
        [Text(one["adapter"]), Text(one["state"], COLOURS.get(one["state"], "")), Text(one["reason"] or "-")]
        for one in live["traffic"]
    ]
    return Group(head, Text(), table_of(STATUS, rows))


@traffic.command()
@click.option("--to", "site", help="The site that clients would be sent to (else the live one).")
@click.option("--dry-run", is_flag=True, help="Show what would be sent to move clients there; ask nobody.")
@with_globals
def test(options: Globals, *, site: str | None, dry_run: bool) -> None:
    """Try the adapters of these settings from here; nothing is changed.

    Each is asked whether clients are sent to the site. With --dry-run nothing is asked either: it shows, line by line,
    what would be sent. Exit code 6 when one fails or sends clients elsewhere.
    """
    agents = Agents(options)
    try:
        adapters = adapters_of(agents.settings, Secrets.of(agents.settings))
    except SettingsError as error:
        raise Problem(str(error), Exit.USAGE) from error
    move = _move(agents, site, dry_run=dry_run)
    told: list[dict[str, Any]]
    if dry_run:
        told = [{"adapter": adapter.name, "would": adapter.plan(move)} for adapter in adapters]
    else:
        told = asyncio.run(_look(adapters, move))
    if options.as_json:
        options.emit({"site": move.site, "term": move.term, "adapters": told})
    else:
        options.console.print(Text(f"clients to {move.site}, term {move.term}"))
        for one in told:
            lines = one.get("would") or [one["wrong"] or "in order"]
            options.console.print(
                Group(*(Text(f"{one['adapter']}: {line}") for line in lines)), soft_wrap=True
            )
        if not adapters:
            options.console.print(Text(NONE))
    leave(Exit.DEGRADED if any(one.get("wrong") for one in told) else Exit.DONE)


def _move(agents: Agents, site: str | None, *, dry_run: bool) -> Move:
    """To `site`, or to the live one, in the term that holds; in none where nobody can tell and nothing is asked."""
    sites = list(dict.fromkeys(known for known, _ in agents.nodes))
    if site is not None and site not in sites:
        raise Problem(f"--to {site}: no such site; there are: {', '.join(sites)}", Exit.USAGE)
    try:
        cluster = agents.get("/cluster")
    except Unreachable:
        if site is None or not dry_run:
            raise
        return Move(site=site, term=0)
    chosen = site or cluster["live_site"]
    if chosen is None:
        raise Problem("no site is live: say --to which site", Exit.USAGE)
    return Move(site=chosen, term=cluster["term"])


async def _look(adapters: list[Adapter], move: Move) -> list[dict[str, Any]]:
    async def one(adapter: Adapter) -> str | None:
        try:
            return await adapter.check(move)
        except AdapterFailed as error:
            return str(error)

    found = await asyncio.gather(*(one(adapter) for adapter in adapters))
    return [{"adapter": adapter.name, "wrong": wrong} for adapter, wrong in zip(adapters, found, strict=True)]
