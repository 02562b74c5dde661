"""`cluster adopt`: etcd has lost the cluster's records, and they are made anew from what the nodes know."""

import contextlib
import getpass
import time
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.text import Text

from sitecontrol.cli.acting import answered, dry_run_option
from sitecontrol.cli.agents import Agents, Answer, OutcomeUnknown, Unreachable
from sitecontrol.cli.session import Exit, Globals, Problem, typed, with_globals
from sitecontrol.cli.tables import Column, table_of

LEADS_WITHIN = 60.0  # seconds
POLL = 0.2
NODES = (
    Column(title="node", whole=True),
    Column(title="site", whole=True),
    Column(title="postgres", whole=True),
    Column(title="system id", whole=True),
    Column(title="timeline"),
    Column(title="position", whole=True),
    Column(title="row of term"),
)


@click.group()
def cluster() -> None:
    """The cluster's records in etcd."""


@cluster.command()
@click.option("--reason", required=True, help="Kept in the history and in the audit log.")
@click.option("--to", "target", metavar="NODE", help="Your word that NODE holds everything.")
@click.option(
    "--gone", multiple=True, metavar="NODE", help="Your word that NODE, which is not heard, is gone for good."
)
@click.option(
    "--term",
    type=click.IntRange(1),
    help="Your word that no later term was granted; the databases tell as a rule.",
)
@dry_run_option
@with_globals
def adopt(
    options: Globals,
    *,
    reason: str,
    target: str | None,
    gone: tuple[str, ...],
    term: int | None,
    dry_run: bool,
) -> None:
    """Make `initialize`, `term` and `sync` anew, which etcd has lost, from what the nodes know.

    Shown are each node's system identifier, timeline and position, and what would be written. Refused while somebody
    leads, and when the nodes differ in a way that only a person can decide.
    """
    agents = Agents(options)
    body = {
        "node": target,
        "gone": list(gone),
        "term": term,
        "reason": reason,
        "by": getpass.getuser(),
    }
    checked = agents.post("/cluster/adopt", {**body, "dry_run": True}, changes=False)
    told = _found(options, checked)
    if dry_run:
        if options.as_json:
            options.emit(told)
        else:
            options.console.print(Text("Nothing stands in the way of it: adopt."))
            options.console.print(_lines(told))
        return
    if not options.yes:
        if not options.as_json:
            options.console.print(_lines(told))
        question = "These become the cluster's records. Type the cluster's name to go on"
        if not typed(question, agents.settings.site.cluster):
            raise Problem("not confirmed; nothing was changed (--yes goes on without asking)", Exit.REFUSED)
    try:
        told = _found(options, agents.post("/cluster/adopt", {**body, "dry_run": False}))
    except OutcomeUnknown as error:
        raise OutcomeUnknown(
            f"{error.message}; `sitectl audit` tells whether it was done; asking again is safe"
        ) from error
    _await_leader(options, agents, told)


def _found(options: Globals, answer: Answer) -> dict[str, Any]:
    """The agent's document. A refusal is told with all that the nodes say."""
    nodes = answer.body.get("nodes")
    if answer.status >= 400 and nodes and not options.as_json:
        options.console.print(_nodes(answer.body))
    return answered(options, answer)


def _nodes(told: Mapping[str, Any]) -> RenderableType:
    rows = []
    for node in told["nodes"]:
        state = (
            "not heard" if not node["reached"] else f"{node['state']}{', serves' if node['serves'] else ''}"
        )
        told_of = ("system_id", "timeline", "lsn", "row_term")
        cells = ("-" if node[name] is None or not node["reached"] else str(node[name]) for name in told_of)
        rows.append([Text(cell) for cell in (node["node"], node["site"], state, *cells)])
    return table_of(NODES, rows)


def _lines(told: Mapping[str, Any]) -> RenderableType:
    written = [
        Text(f"  {name}: {', '.join(f'{field} {value}' for field, value in record.items() if value)}")
        for name, record in told["writes"].items()
    ]
    comes = [Text(f"- {sentence}") for sentence in told["consequences"]]
    return Group(_nodes(told), Text("It would be written:"), *written, *comes)


def _await_leader(options: Globals, agents: Agents, told: dict[str, Any]) -> None:
    deadline = time.monotonic() + (options.timeout or LEADS_WITHIN)
    leads = False
    while not leads and time.monotonic() < deadline:
        with contextlib.suppress(Unreachable):
            leads = agents.get("/cluster").get("leader") == told["leader"]
        time.sleep(0 if leads else POLL)
    if options.as_json:
        options.emit({**told, "done": leads})
    if not leads:
        raise Problem(
            f"it is written, and {told['leader']} was not seen to lead yet: `sitectl why` tells what is in the way",
            Exit.TIMED_OUT,
        )
    if not options.as_json:
        options.console.print(Text(f"{told['leader']} leads."))
