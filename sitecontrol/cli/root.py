"""The command tree of `sitectl`."""

from pathlib import Path

import click

from sitecontrol.cli import cluster
from sitecontrol.cli.audit import audit
from sitecontrol.cli.maintenance import maintenance
from sitecontrol.cli.session import Exit, Globals, Problem, global_options, with_globals
from sitecontrol.cli.why import why
from sitecontrol.drills.cli import drill
from sitecontrol.lab.cli import demo, lab
from sitecontrol.lab.lab_file import is_lab_file, read_lab_file
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
    """Read the settings of a place, or of a lab, and explain every mistake with its line."""
    site: str | None = None
    try:
        if is_lab_file(file):
            read_lab_file(file)
        else:
            site = load(file).site.name
    except SettingsError as error:
        if options.as_json:
            options.emit({"ok": False, "errors": str(error).splitlines()})
        raise Problem(str(error), Exit.USAGE) from error
    if options.as_json:
        options.emit({"file": str(file), "site": site, "ok": True})
    else:
        options.console.print(f"{file}: in order, for {site or 'a lab'}")


for command in (
    cluster.status,
    cluster.swap,
    cluster.pause,
    cluster.resume,
    cluster.history,
    audit,
    why,
    cluster.node,
):
    sitectl.add_command(command)
for group in (config, maintenance, lab, drill, demo):
    sitectl.add_command(group)


def main() -> None:
    sitectl(obj=Globals())
