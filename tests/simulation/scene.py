"""The settings of the simulated sites."""

import functools
from pathlib import Path

from sitecontrol.profiles import Profile
from sitecontrol.settings import FailoverSettings, Settings, load

ROOT = Path(__file__).parents[2]


@functools.cache
def settings_of(place: str, profile: Profile = Profile.LAB) -> Settings:
    """The shipped settings of a site, with a profile's defaults, in a cluster of the simulation's own."""
    shipped = load(ROOT / "configs" / f"{place}.toml")
    site = shipped.site.model_copy(update={"cluster": "sim"})
    return shipped.model_copy(update={"site": site, "failover": FailoverSettings(profile=profile)})
