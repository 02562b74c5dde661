"""`python -m sitecontrol agent --config FILE`: the site agent as a process."""

import sys
from pathlib import Path

import click
import uvloop

from sitecontrol.agent.process import run_agent
from sitecontrol.settings import SettingsError, load


@click.group()
def main() -> None:
    """Processes of sitecontrol. Operators use `sitectl`."""


@main.command()
@click.option("--config", type=click.Path(path_type=Path), required=True, help="This site's settings.")
def agent(config: Path) -> None:
    """Own this node's PostgreSQL; hold or watch the leader's lease."""
    try:
        settings = load(config)
        uvloop.run(run_agent(settings))
    except SettingsError as error:
        click.echo(f"sitecontrol agent: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
