"""The command tree of `sitectl`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click
from rich.text import Text

from sitecontrol.cli import cluster
from sitecontrol.cli.adopting import cluster as records
from sitecontrol.cli.audit import audit
from sitecontrol.cli.failover import failover
from sitecontrol.cli.maintenance import maintenance
from sitecontrol.cli.nodes import node
from sitecontrol.cli.schema import schema
from sitecontrol.cli.session import Exit, Globals, Problem, global_options, with_globals
from sitecontrol.cli.timings import timing_lines, timings
from sitecontrol.cli.traffic import traffic
from sitecontrol.cli.why import why
from sitecontrol.drills.cli import drill
from sitecontrol.lab.cli import demo, lab
from sitecontrol.lab.lab_file import is_lab_file, read_lab_file
from sitecontrol.leadership.proof import Finding, complaint, complaints, prove
from sitecontrol.leadership.timing import seconds_of_place
from sitecontrol.settings import SettingsError, load


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@global_options
@click.version_option(package_name="hotsite", prog_name="sitectl")
def sitectl() -> None:
    """Run Hotsite: see who leads, move production, rehearse failures.

    Exit codes: 0 done, 1 failed, 2 usage, 3 refused by a check, 4 timed out or without an answer, and perhaps still
    running, 5 cannot be reached, 6 degraded.
    """


@click.group()
def config() -> None:
    """Settings files."""


@config.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@with_globals
def config_check(options: Globals, file: Path) -> None:
    """Read the settings of a place, or of a lab, and explain every mistake with its line.

    Then show how its durations fit together: each inequality with its sum, and the seconds that are left. Settings with
    which two nodes could lead at once, or a setting could not do what it is for, are refused.
    """
    try:
        site, findings = _read(file)
    except SettingsError as error:
        _refuse(options, str(error), ())
    refused = complaints(findings)
    if refused:
        _refuse(options, "\n".join(f"{file}: {line}" for line in refused), findings)
    if options.as_json:
        options.emit({"file": str(file), "site": site, "ok": True, "timings": timings(findings)})
        return
    if findings:
        options.console.print(timing_lines(findings))
    for finding in findings:
        if not finding.holds:
            options.console.print(Text(f"a promise is not kept: {complaint(finding)}"))
    options.console.print(f"{file}: in order, for {site or 'a lab'}")


def _read(file: Path) -> tuple[str | None, Sequence[Finding]]:
    """The site that the file is for, and how its durations fit together; a witness decides nothing."""
    if is_lab_file(file):
        return None, prove(read_lab_file(file).seconds())
    settings = load(file)
    return settings.site.name, prove(seconds_of_place(settings)) if settings.agent else ()


def _refuse(options: Globals, why: str, findings: Sequence[Finding]) -> NoReturn:
    if options.as_json:
        told = {"timings": timings(findings)} if findings else {}
        options.emit({"ok": False, "errors": why.splitlines(), **told})
    elif findings:
        options.console.print(timing_lines(findings))
    raise Problem(why, Exit.USAGE)


for command in (
    cluster.status,
    cluster.swap,
    failover,
    cluster.pause,
    cluster.resume,
    cluster.history,
    audit,
    why,
    node,
    schema,
):
    sitectl.add_command(command)
for group in (config, records, maintenance, traffic, lab, drill, demo):
    sitectl.add_command(group)


def main() -> None:
    sitectl(obj=Globals())
