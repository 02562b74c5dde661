"""`swap --at` and `swap --cancel`: a swap for a time to come."""

from datetime import datetime
from typing import Any

import click
from rich.text import Text

from sitecontrol.cli.acting import wished
from sitecontrol.cli.agents import Agents
from sitecontrol.cli.maintenance import Duration
from sitecontrol.cli.session import Globals
from sitecontrol.cli.tables import planned_line


class Time(click.ParamType[dict[str, Any]]):
    """A time with its zone, or a duration from now: as the agent takes it, `at` or `in_s`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        if str(value).startswith("+"):
            return {"in_s": Duration().convert(str(value)[1:], param, ctx)}
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r}: give a time as 2030-01-31T03:00:00Z, or +10m from now", param, ctx)
        if at.tzinfo is None:
            self.fail(f"{value!r} has no zone: add Z for UTC, or +02:00", param, ctx)
        return {"at": at.isoformat()}


def plan(options: Globals, agents: Agents, path: str, body: dict[str, Any], *, dry_run: bool) -> None:
    wanted = wished(options, agents, path, body, dry_run=dry_run, look="`sitectl status`")
    if wanted is None:
        return
    if options.as_json:
        options.emit(wanted)
    else:
        line = planned_line(wanted["planned"]) if wanted["planned"] else "No swap is planned any more."
        options.console.print(Text(line))
