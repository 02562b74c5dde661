"""How a command of `python -m dispatcher` is carried out: its settings, its errors in one line, its JSON."""

import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import asyncpg
import click
import uvloop

from dispatcher.store import DispatcherError
from replication.errors import ReplicationError
from sitecontrol.settings import Secrets, Settings, SettingsError, load

T = TypeVar("T")

CONFIG = click.option("--config", type=click.Path(path_type=Path), help="This site's settings.")


def carry_out(config: Path | None, work: Callable[[Settings, Secrets], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with the settings; end the process with one line on stderr when it cannot be done."""
    if config is None:
        raise click.UsageError("--config is missing: name this site's settings")
    try:
        settings = load(config)
        return uvloop.run(work(settings, Secrets.of(settings)))
    except SettingsError as error:
        give_up(error, 2)
    except (DispatcherError, ReplicationError, asyncpg.PostgresError, OSError) as error:
        give_up(error, 1)


def give_up(error: Exception, code: int) -> NoReturn:
    click.echo(f"dispatcher: {error}", err=True)
    sys.exit(code)


def print_json(data: dict[str, Any]) -> None:
    click.echo(json.dumps(data))
