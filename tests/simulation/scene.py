"""The settings of the simulated sites."""

import functools
from pathlib import Path

from sitecontrol.settings import Settings, load

ROOT = Path(__file__).parents[2]


@functools.cache
def settings_of(place: str) -> Settings:
    """The shipped settings of a site, in a cluster of the simulation's own."""
    shipped = load(ROOT / "configs" / f"{place}.toml")
    site = shipped.site.model_copy(update={"cluster": "sim"})
    return shipped.model_copy(update={"site": site})
