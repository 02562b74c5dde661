"""`maintenance begin / end / list`: work at a site, announced, so that health moves nothing because of it."""

import re
from typing import Any

import click
from rich.text import Text

from sitecontrol.cli.acting import dry_run_option, wished
from sitecontrol.cli.agents import Agents
from sitecontrol.cli.session import Exit, Globals, Problem, with_globals
from sitecontrol.cli.tables import window_line

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
LONGEST = 30 * 86_400
LOOK = "`sitectl maintenance list`"


class Duration(click.ParamType[int]):
    """A whole number with its unit: 90s, 45m, 2h, 1d. In seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([0-9]{1,7})([smhd])", str(value))
        seconds = int(found[1]) * SECONDS[found[2]] if found else 0
        if not 1 <= seconds <= LONGEST:
            self.fail(f"{value!r}: give a number and s, m, h or d, at most 30d; for example 2h", param, ctx)
        return seconds


def _reason(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("say what is done there, for those who look at the status.")
    return value


@click.group()
def maintenance() -> None:
    """Announce work at a site.

    Until it ends, health moves production neither away from the site nor to it, and `sitectl swap` to it is refused.
    The loss of the other site still moves it: better a site under work than none.
    """


@maintenance.command()
@click.option("--site", required=True, help="The site that is worked at.")
@click.option("--for", "for_s", type=Duration(), required=True, help="How long: 90s, 45m, 2h, 1d.")
@click.option("--reason", required=True, callback=_reason, help="Shown to everybody who looks at the status.")
@dry_run_option
@with_globals
def begin(options: Globals, *, site: str, for_s: int, reason: str, dry_run: bool) -> None:
    """From now on, for so long. What was announced for the site before is replaced."""
    agents = _agents(options, site)
    body = {"site": site, "for_s": for_s, "reason": reason}
    wanted = wished(options, agents, "/maintenance/begin", body, dry_run=dry_run, look=LOOK)
    if wanted is not None:
        window = next(w for w in wanted["maintenance"] if w["site"] == site)
        _tell(options, wanted, window_line(window))


@maintenance.command()
@click.option("--site", required=True, help="The site whose work is done.")
@dry_run_option
@with_globals
def end(options: Globals, *, site: str, dry_run: bool) -> None:
    """Before its time, or because it is done."""
    agents = _agents(options, site)
    wanted = wished(options, agents, "/maintenance/end", {"site": site}, dry_run=dry_run, look=LOOK)
    if wanted is not None:
        _tell(options, wanted, f"{site} is not in maintenance any more.")


@maintenance.command("list")
@with_globals
def list_windows(options: Globals) -> None:
    """What is announced and not over."""
    windows = Agents(options).get("/cluster").get("maintenance", [])
    if options.as_json:
        options.emit(windows)
        return
    for line in [window_line(window) for window in windows] or ["No site is in maintenance."]:
        options.console.print(Text(line))


def _agents(options: Globals, site: str) -> Agents:
    agents = Agents(options)
    sites = list(dict.fromkeys(known for known, _ in agents.nodes))
    if site not in sites:
        raise Problem(f"--site {site}: no such site; there are: {', '.join(sites)}", Exit.USAGE)
    return agents


def _tell(options: Globals, wanted: dict[str, Any], line: str) -> None:
    if options.as_json:
        options.emit(wanted)
    else:
        options.console.print(Text(line))
