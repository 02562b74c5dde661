"""`why`: if the live site died now; what stands in the way of a site; and what the agents decided last, on what."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.text import Text

from sitecontrol.cli.agents import Agents
from sitecontrol.cli.session import Exit, Globals, Problem, leave, with_globals
from sitecontrol.cli.tables import Column, Phrases, broken_lines, planned_lines, table_of

WORDS = {True: ("yes", "green"), False: ("no", "red"), None: ("unknown", "yellow")}
PROSPECTS = (
    Column(title="node", whole=True),
    Column(title="site", whole=True),
    Column(title="could lead", whole=True),
    Column(title="by the row, or why not"),
)


@click.command()
@click.argument("site", required=False)
@click.option("--last", type=click.IntRange(0, 250), default=5, show_default=True, help="Decisions to show.")
@with_globals
def why(options: Globals, *, site: str | None, last: int) -> None:
    """If the live site died now: who would lead, how soon, what would be lost, what is in the way.

    With SITE: what stands in the way of its taking over, as its own agent knows it. Below: the last decisions, each
    with its rule and its evidence. Exit code 6 when nobody, or not SITE, could take over.
    """
    agents = Agents(options)
    sites = list(dict.fromkeys(known for known, _ in agents.nodes))
    if site is not None and site not in sites:
        raise Problem(f"{site}: no such site; there are: {', '.join(sites)}", Exit.USAGE)
    told = agents.get("/why", first=site)
    if options.as_json:
        options.emit(told)
    else:
        options.console.print(why_lines(told, site=site, last=last))
    leave(Exit.DONE if could_take_over(told, site) else Exit.DEGRADED)


def could_take_over(told: Mapping[str, Any], site: str | None) -> bool:
    """A site that leads already has nothing to take over."""
    would = told["site_lost"]["would_lead"]
    if site is None:
        return bool(would)
    nodes = [p["node"] for p in told["site_lost"]["nodes"] if p["site"] == site]
    return site == told["live_site"] or any(node in would for node in nodes)


def why_lines(told: Mapping[str, Any], *, site: str | None = None, last: int = 5) -> RenderableType:
    seen = told["site_lost"]
    return Group(
        *broken_lines(told),
        *(_of_all(told) if site is None else _of_site(told, site)),
        *planned_lines(told.get("planned")),
        Text(),
        table_of(PROSPECTS, [_row(prospect) for prospect in seen["nodes"]]),
        *(Text(note) for prospect in seen["nodes"] for note in prospect["notes"]),
        *_how_soon(seen),
        *_decisions(told, last),
    )


def _of_all(told: Mapping[str, Any]) -> Iterable[RenderableType]:
    seen, nearer = told["site_lost"], told["leader_lost"]
    yield Text(seen["sentence"], "bold")
    yield Text(f"Lost: {seen['lost']}")
    yield from _in_the_way(seen["in_the_way"])
    if nearer["would_lead"][:1] != seen["would_lead"][:1]:
        yield Text(nearer["sentence"])


def _of_site(told: Mapping[str, Any], site: str) -> Iterable[RenderableType]:
    """What stands in the way of one site: by the loss of the other, and by a planned swap."""
    seen = told["site_lost"]
    if site == told["live_site"]:
        yield Text(f"{site} is the live site: {told['leader']} leads.", "bold")
        return
    lost = f"When {seen['what']} is lost" if seen["what"] else "As it is, with nobody leading"
    mine = [p for p in seen["nodes"] if p["site"] == site]
    if could_take_over(told, site):
        yield Text(f"{lost}, nothing stands in the way of {site}.", "bold")
    else:
        yield Text(f"{lost}, {site} could not take over.", "bold")
        yield from _in_the_way([*seen["in_the_way"], *(o for p in mine for o in p["obstacles"])])
    for prospect in mine:
        obstacles = told["swap"].get(prospect["node"], [])
        yield Text(
            f"By a planned swap to {prospect['node']}: {'; '.join(obstacles) or 'nothing in the way'}."
        )


def _in_the_way(obstacles: Sequence[str]) -> Iterable[Text]:
    told = list(dict.fromkeys(obstacles)) or ["nothing"]
    return (Text(f"In the way: {obstacle}.") for obstacle in told)


def _row(prospect: Mapping[str, Any]) -> list[Text]:
    said = "; ".join(prospect["obstacles"]) or prospect["rule"] or ""
    word, colour = WORDS[prospect["could_lead"]]
    return [Text(prospect["node"]), Text(prospect["site"]), Text(word, colour), Text(said)]


def _how_soon(seen: Mapping[str, Any]) -> Iterable[RenderableType]:
    yield Text()
    if seen["steps"]:
        yield Phrases(
            head="How soon, in s (at most):",
            phrases=[f"{s['what']} {s['typical_s']:g} ({s['worst_s']:g})" for s in seen["steps"]],
        )
    members = seen["etcd_members"]
    if not members:
        yield Text("etcd: which of its members answer is not known from here.")
        return
    silent = [place for place, answers in members.items() if not answers]
    without = f" without {seen['what']}" if seen["what"] else ""
    yield Text(
        f"etcd: {len(members) - len(silent)} of {len(members)} members answer;"
        f" {seen['etcd_left']} would be left{without}, {seen['etcd_needed']} are needed."
    )


def _decisions(told: Mapping[str, Any], last: int) -> Iterable[RenderableType]:
    decisions = told["decisions"][:last]
    if decisions:
        yield Text(f"\nThe last decisions of the agent of {told['told_by']}, the newest first (UTC):")
    for decision in decisions:
        when = str(decision["at"])[11:23]
        effect = f", {decision['effect']}" if decision["effect"] else ""
        times = f", begun {decision['begun']} times" if decision["begun"] > 1 else ""
        yield Text(f"{when} {decision['lane']}: {decision['rule']}{effect}{times}", "bold")
        yield Text(f"  {decision['sentence']}")
        yield Phrases(
            head="  on:",
            phrases=[f"{name} {said}" for name, said in decision["evidence"].items()],
            indent="    ",
        )
