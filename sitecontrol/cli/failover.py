"""`failover --force`: break-glass, when whoever holds every acknowledged message is gone."""

import click

from sitecontrol.cli.acting import dry_run_option
from sitecontrol.cli.nodes import TRUST_WITHIN, Act
from sitecontrol.cli.session import Exit, Globals, Problem, with_globals


@click.command()
@click.option("--force", is_flag=True, help="Needed: acknowledged messages may be lost.")
@click.option("--to", "target", required=True, metavar="NODE", help="The node that is to lead.")
@click.option("--reason", required=True, help="Kept in the history and in the audit log.")
@click.option(
    "--stopped",
    multiple=True,
    metavar="NODE",
    help="Your word that PostgreSQL of NODE, which led, is stopped; asked for where nothing proves it.",
)
@dry_run_option
@with_globals
def failover(
    options: Globals, *, force: bool, target: str, reason: str, stopped: tuple[str, ...], dry_run: bool
) -> None:
    """NODE leads on though it may lack acknowledged messages: both sites gone, or the only node in step lost.

    What is known of the loss is told before, and kept. Refused while somebody leads, and while a node that holds
    everything is heard: that one takes the lead by itself.
    """
    if not force:
        raise Problem(
            "a node that holds everything takes the lead by itself, and `sitectl swap` moves production without loss;"
            " --force gives the lead to one that may lack acknowledged messages (with --dry-run it tells which)",
            Exit.USAGE,
        )
    act = Act(options, "failover", target, reason, path="/failover")
    told = act.checked()
    if dry_run:
        act.end_dry_run(told)
    unsaid = [node for node in told["unproved"] if node not in stopped]
    if unsaid and options.yes:
        raise Problem(
            f"nothing proves that PostgreSQL of {', '.join(unsaid)} is stopped: see to it, and say so with"
            f" {' '.join(f'--stopped {node}' for node in unsaid)}",
            Exit.REFUSED,
        )
    act.confirm(
        told,
        *(
            f"See that PostgreSQL of {node} has ended and nothing starts it. Type `{node} is stopped` to go on"
            for node in unsaid
        ),
        f"{target} leads, and what it lacks is lost. Type the cluster's name to go on",
        expected=(*(f"{node} is stopped" for node in unsaid), act.cluster),
    )
    told = act.ask(stopped=[*stopped, *unsaid])
    act.follow(
        lambda seen: ("forced", "leads") if seen.leads else ("forced",), TRUST_WITHIN, told, last="leads"
    )
