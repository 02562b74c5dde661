"""`python -m dispatcher doubts`: what a lost site or link left in doubt, for operators."""

from pathlib import Path
from uuid import UUID

import click

from dispatcher.carrying_out import CONFIG, carry_out, print_json
from dispatcher.doubts import Decision, decide_by_settings, list_doubts_by_settings, still_open
from sitecontrol.logging import configure

REFUSED = 4  # as `sitectl` has it: nothing was changed


@click.group()
def doubts() -> None:
    """Texts of which nobody knows whether they left."""


@doubts.command("list")
@CONFIG
@click.option("--term", type=click.IntRange(min=1), required=True, help="The term whose claims left them.")
@click.option("--account", help="Only this one's.")
@click.option("--open", "only_open", is_flag=True, help="Only what is still in doubt.")
@click.pass_obj
def list_(
    parent: Path | None, *, config: Path | None, term: int, account: str | None, only_open: bool
) -> None:
    """What came into doubt in a TERM, as JSON, and what has become of it. `sitectl history` names the terms."""
    configure("dispatcher doubts")
    found = carry_out(
        config or parent,
        lambda settings, secrets: list_doubts_by_settings(settings, secrets, term=term, account=account),
    )
    shown = still_open(found) if only_open else found
    print_json({"term": term, "in_doubt": len(still_open(found)), "doubts": [one.as_json() for one in shown]})


@doubts.command("decide")
@CONFIG
@click.option("--term", type=click.IntRange(min=1), help="All that claims of this term left in doubt.")
@click.option("--account", help="With --term: only this one's.")
@click.option(
    "--message", "messages", type=click.UUID, multiple=True, help="This message; may be given again."
)
@click.option(
    "--resend",
    "decision",
    flag_value=Decision.RESEND,
    type=Decision,
    help="Send it once more: it may arrive twice.",
)
@click.option(
    "--let-go",
    "decision",
    flag_value=Decision.LET_GO,
    type=Decision,
    help="Wait for nothing more: its state is `unknown`.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be decided.")
@click.option("--yes", is_flag=True, help="Go on without asking.")
@click.pass_obj
def decide(
    parent: Path | None,
    *,
    config: Path | None,
    term: int | None,
    account: str | None,
    messages: tuple[UUID, ...],
    decision: Decision | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Decide about texts in doubt, whatever their program says. Prints what was decided as JSON."""
    configure("dispatcher doubts")
    if decision is None:
        raise click.UsageError("--resend or --let-go: what is to be done with them?")
    if (term is None) == (not messages):
        raise click.UsageError("name either a --term or each --message")
    file = config or parent
    chosen = list(messages)
    if term is not None:
        found = carry_out(
            file,
            lambda settings, secrets: list_doubts_by_settings(settings, secrets, term=term, account=account),
        )
        chosen = list(dict.fromkeys(one.message_id for one in still_open(found)))
    if dry_run or not chosen:
        print_json({"decision": decision, "dry_run": dry_run, "messages": [str(one) for one in chosen]})
        return
    if not yes and not confirmed(decision, len(chosen)):
        click.echo("dispatcher: not confirmed; nothing was changed (--yes goes on without asking)", err=True)
        raise SystemExit(REFUSED)
    decided = carry_out(
        file,
        lambda settings, secrets: decide_by_settings(settings, secrets, messages=chosen, decision=decision),
    )
    print_json(
        {
            "decision": decision,
            "dry_run": False,
            "messages": list(dict.fromkeys(str(message) for message, _ in decided)),
            "segments": len(decided),
        }
    )


def confirmed(decision: Decision, count: int) -> bool:
    what = (
        "are sent once more and may arrive twice"
        if decision is Decision.RESEND
        else "are called unknown for good"
    )
    try:
        answer = click.prompt(f"{count} messages {what}. Type {decision.value} to go on", err=True)
    except click.Abort:
        return False
    return bool(answer == decision.value)
