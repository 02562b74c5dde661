"""`audit`: who or what did what, when, from where and why; and whether the log is as it was written."""

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.text import Text

from sitecontrol.cli.agents import Agents
from sitecontrol.cli.session import Exit, Globals, Problem, with_globals
from sitecontrol.cli.tables import Listing

AUDIT = ("no.", "when (UTC)", "what", "by", "from")


@click.command()
@click.argument("number", required=False, type=click.IntRange(min=1))
@click.option(
    "--verify", is_flag=True, help="Only check it: exit code 1 when anything of it was changed since."
)
@with_globals
def audit(options: Globals, *, number: int | None, verify: bool) -> None:
    """What was done: who or what did it, when, from where and why. Of one entry, by its NUMBER, the evidence, too.

    Each entry is chained to the one before it and seals the records that it tells of. `sitectl history` has the
    evidence and each phase's duration.
    """
    log = Agents(options).get("/audit")
    if number is not None:
        log = {**log, "audit": [entry for entry in log["audit"] if entry["number"] == number]}
        if not log["audit"]:
            last = log["newest"]["number"] if log["newest"] else 0
            raise Problem(f"{number}: no such entry; the newest one is {last}", Exit.USAGE)
    if options.as_json:
        options.emit(log)
    elif verify and not log["flaws"]:
        options.console.print(Text(verified(log)))
    elif not verify:
        options.console.print(audit_lines(log))
        if number is not None:
            options.console.print(evidence_lines(log["audit"][0]))
    if verify and log["flaws"]:
        raise Problem(broken(log["flaws"]), Exit.FAILED)


def audit_lines(log: Mapping[str, Any]) -> RenderableType:
    rows = [(_cells(entry), (entry["about"], entry["reason"])) for entry in log["audit"]]
    below = [Text(_older(log["older"]))] if log["older"] else []
    if log["flaws"]:
        below.append(Text(broken(log["flaws"]), "red"))
    return Group(Listing(titles=AUDIT, rows=rows), *below)


def evidence_lines(entry: Mapping[str, Any]) -> RenderableType:
    """What it was decided on, the node whose agent wrote it, and the records that it answers for."""
    facts = {"through": entry["through"], "term": entry["term"], **(entry.get("evidence") or {})}
    seals = [Text(f"  seals {name}") for name in entry["seals"]]
    return Group(*(Text(f"  {name}: {said}") for name, said in facts.items()), *seals)


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    when = str(entry["at"])[:19].replace("T", " ")
    told = ("number", "", "what", "by", "source")
    return tuple(str(entry[field]) if field else when for field in told)


def _older(names: Sequence[str]) -> str:
    return f"older than the log, which does not answer for it: {', '.join(names)}"


def verified(log: Mapping[str, Any]) -> str:
    newest = log["newest"]
    if newest is None:
        return "There is no entry yet."
    told = f"All {newest['number']} entries, and all that they seal, are as they were written."
    return f"{told} The newest one's digest: {newest['digest']}"


def broken(flaws: Sequence[Mapping[str, Any]]) -> str:
    first, *more = flaws
    also = f" ({len(more)} more with --json)" if more else ""
    return f"the audit log does not verify: {first['key']} {first['what']}{also}"
