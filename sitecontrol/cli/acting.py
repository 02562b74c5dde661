"""What all commands share that ask an agent to act: the dry run, and how a refusal is told."""

import getpass
from typing import Any

import click
from rich.text import Text

from sitecontrol.cli.agents import Agents, Answer, OutcomeUnknown
from sitecontrol.cli.session import Exit, Globals, Problem

UNPROCESSABLE = 422  # what was asked for is not understood, or names nothing that there is

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Run every check and tell what would happen; change nothing."
)


def answered(options: Globals, answer: Answer) -> dict[str, Any]:
    """The document of an agent that did what it was asked for. Raises Problem; with --json the agent's own is shown."""
    if answer.status < 400:
        return answer.body
    if options.as_json:
        options.emit(answer.body)
    code = Exit.USAGE if answer.status == UNPROCESSABLE else Exit.REFUSED
    raise Problem(f"{answer.body.get('title')}: {answer.body.get('detail')}", code)


def wished(
    options: Globals, agents: Agents, path: str, body: dict[str, Any], *, dry_run: bool, look: str
) -> dict[str, Any] | None:
    """All that is wanted from then on, or None: it was a dry run, which is told. `look`: the command that tells what
    holds.
    """
    asked = {**body, "by": getpass.getuser(), "dry_run": dry_run}
    try:
        told = answered(options, agents.post(path, asked, changes=not dry_run))
    except OutcomeUnknown as error:
        raise OutcomeUnknown(f"{error.message}; {look} tells what holds; asking again is safe") from error
    if not dry_run:
        return told
    if options.as_json:
        options.emit(told)
    else:
        options.console.print(Text("\n".join(_lines(told))), soft_wrap=True)
    return None


def _lines(told: dict[str, Any]) -> list[str]:
    """A dry run's, for people."""
    changes = [
        f"  {name}: {_value(was)} -> {_value(would)}" for name, (was, would) in told["changes"].items()
    ]
    return [
        f"Nothing stands in the way of it: {told['would']}. It would be written:",
        *(changes or ["  nothing: it is so already"]),
        *(f"- {sentence}" for sentence in told["consequences"]),
    ]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(
            f"{window['site']} until {window['until'][:16].replace('T', ' ')}" for window in value
        )
    if isinstance(value, dict):
        return f"to {value['to']} at {value['at']}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, "") else str(value)
