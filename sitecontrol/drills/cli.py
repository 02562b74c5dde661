"""`sitectl drill`: rehearsed faults with a measured outcome."""

import click


@click.group()
def drill() -> None:
    """Rehearse a fault on a lab, and measure what it costs."""
