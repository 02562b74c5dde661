"""What every command of `sitectl` shares: the global options, exit codes, and how answers and errors are told.

The global options may stand before or after the command (`sitectl --json status` and `sitectl status --json`).
Errors go to stderr: what, why, what to do. With `--json`, stdout carries one JSON document and nothing else.
"""

import functools
import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console

DEFAULT_LAB = Path(".lab")


class Exit(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3  # a check said no; nothing was changed
    TIMED_OUT = 4  # and still running; or nobody knows whether it is
    UNREACHABLE = 5
    DEGRADED = 6


@dataclass
class Globals:
    """The global options, as far as they were given; filled from before and from after the command."""

    config: Path | None = None
    directory: Path | None = None
    as_json: bool = False
    no_color: bool = False
    yes: bool = False
    timeout: float | None = None

    @property
    def lab(self) -> Path:
        return self.directory or Path(os.environ.get("HOTSITE_LAB") or DEFAULT_LAB)

    @property
    def console(self) -> Console:
        no_color = self.no_color or bool(os.environ.get("NO_COLOR"))
        return Console(no_color=no_color, highlight=False, stderr=self.as_json)

    def emit(self, document: Any) -> None:
        """The command's one JSON document."""
        sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")


class Problem(click.ClickException):
    """An error with its own exit code: what, why, what to do."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc] # click reads it from the instance; its stub says ClassVar

    def show(self, file: Any = None) -> None:
        click.echo(f"sitectl: {self.message}", file=file or sys.stderr)


def typed(question: str, expected: str) -> bool:
    """Ask on stderr for something to be typed; Ctrl-C, or nobody there to type, is no."""
    try:
        answer: str | None = click.prompt(question, err=True)
    except click.Abort:
        answer = None
    if answer is None or not sys.stdin.isatty():  # nobody has ended the prompt's line
        click.echo(err=True)
    return answer == expected


def leave(code: Exit) -> NoReturn:
    raise click.exceptions.Exit(int(code))


class Amount(click.FloatRange):
    """A range of numbers that `nan` and `inf` are not in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no amount; it must be {self._describe_range()}.", param, ctx)
        return number


F = TypeVar("F", bound=Callable[..., Any])


def _remember(field: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            setattr(context.ensure_object(Globals), field, value)

    return callback


def global_options(command: F) -> F:
    """Adds the global options to a command or group; their values end up in `Globals`, wherever they stood."""
    path = click.Path(path_type=Path, dir_okay=True)
    for decorate in (
        click.option("--config", type=path, expose_value=False, callback=_remember("config"),
                     help="A site's settings file."),
        click.option("--dir", type=path, expose_value=False, callback=_remember("directory"),
                     help="A lab's folder (else HOTSITE_LAB, else .lab)."),
        click.option("--json", is_flag=True, expose_value=False, callback=_remember("as_json"),
                     help="One JSON document on stdout."),
        click.option("--no-color", is_flag=True, expose_value=False, callback=_remember("no_color"),
                     help="No colours (also: NO_COLOR)."),
        click.option("--yes", is_flag=True, expose_value=False, callback=_remember("yes"),
                     help="Do not ask for confirmation."),
        click.option("--timeout", type=Amount(0, 86_400, min_open=True), expose_value=False,
                     callback=_remember("timeout"), help="Seconds to wait for an answer or an end."),
    ):  # fmt: skip
        command = decorate(command)
    return command


def with_globals(command: F) -> Callable[..., Any]:
    """For commands: adds the global options and hands `Globals` over as the first argument."""

    @click.pass_context
    @functools.wraps(command)
    def call(context: click.Context, *args: Any, **kwargs: Any) -> Any:
        return command(context.ensure_object(Globals), *args, **kwargs)

    return global_options(call)
