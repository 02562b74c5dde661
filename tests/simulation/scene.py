"""The sites of a simulation: their settings, what outlives a process, and who runs there."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

from sitecontrol.profiles import Profile
from sitecontrol.settings import FailoverSettings, Settings, load
from tests.simulation.node import LeaseFile, SimulatedNode
from tests.simulation.postgres import Database
from tests.simulation.scheduler import SimulatedClock
from tests.simulation.sending import SimulatedDispatcher

ROOT = Path(__file__).parents[2]
NODE_OF = {"columbus": "columbus-a", "denver": "denver-a"}


@functools.cache
def settings_of(
    place: str, profile: Profile = Profile.LAB, back_after: float | None = None, back_hours: str = ""
) -> Settings:
    """The shipped settings of a site, with a profile's defaults, in a cluster of the simulation's own. A run is short:
    texts in doubt do not wait for a minute, nor health for ten seconds. `back_after`: after so many seconds of quiet,
    fewer than any real settings may say, production goes back to the preferred site by itself.
    """
    shipped = load(ROOT / "configs" / f"{place}.toml")
    site = shipped.site.model_copy(update={"cluster": "sim"})
    dispatcher = shipped.dispatcher.model_copy(update={"doubt_grace": 3.0})
    failover = FailoverSettings(profile=profile, unfit_for=2.0, swap_cool_down=4.0, max_swaps_per_hour=2)
    if back_after is not None:
        back = {"failback": "after", "failback_after": back_after, "failback_hours": back_hours}
        failover = failover.model_copy(update=back)
    return shipped.model_copy(update={"site": site, "failover": failover, "dispatcher": dispatcher})


@dataclass
class Site:
    place: str
    database: Database
    clock: SimulatedClock
    settings: Settings
    lease_file: LeaseFile = field(default_factory=LeaseFile)
    node: SimulatedNode | None = None
    sender: SimulatedDispatcher | None = None
    senders: int = 0  # how many there were
    lost: bool = False  # its machine is down: nobody restarts anything
