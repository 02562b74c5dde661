"""A lab described in a file: `sitectl lab up --config configs/lab.toml`. What a flag says goes before it.

Only what the file sets is taken: the rest is as the lab in the folder was made, or the lab's own default. Sections
that a site's file has, too, mean the same here, for both sites.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from sitecontrol.lab.plan import (
    BUFFERS_MB,
    QUOTA_MB,
    SMALLEST_BUFFERS_MB,
    SMALLEST_QUOTA_MB,
    ExternalCarrier,
    SimulatorOptions,
)
from sitecontrol.lab.ports import (
    DEFAULT_BASE,
    HIGHEST_BASE,
    LOWEST_BASE,
    MAX_CARRIERS,
    MAX_DISPATCHERS,
    MAX_NODES,
)
from sitecontrol.lab.volumes import SMALLEST
from sitecontrol.leadership.proof import complaints, prove
from sitecontrol.leadership.timing import DEFAULT_CALL_TIMEOUT, seconds_of
from sitecontrol.settings import DispatcherSettings, FailoverSettings, SettingsError, read
from sitecontrol.settings_types import Address, Name, Section

FIXED_IN_A_LAB = ("instances", "consent")  # settings of [dispatcher] that the lab decides itself


class LabSection(Section):
    base_port: Annotated[int, Field(ge=LOWEST_BASE, le=HIGHEST_BASE)] = DEFAULT_BASE  # the first of 100
    wan_ms: Annotated[float, Field(ge=0, le=10_000)] = 35.0  # round trip between the places
    dispatchers: Annotated[int, Field(ge=1, le=MAX_DISPATCHERS)] = 2  # per site
    nodes_per_site: Annotated[int, Field(ge=1, le=MAX_NODES)] = 1  # PostgreSQLs with an agent
    volume_mb: Annotated[int, Field(ge=SMALLEST)] | None = None  # of each node's own volume; needs root
    etcd_quota_mb: Annotated[int, Field(ge=SMALLEST_QUOTA_MB)] = QUOTA_MB
    shared_buffers_mb: Annotated[int, Field(ge=SMALLEST_BUFFERS_MB)] = BUFFERS_MB  # of each PostgreSQL
    simulators: Annotated[int, Field(ge=1, le=MAX_CARRIERS)] = 2  # carriers, unless [[carrier]] names some
    restart: bool = True  # what dies is started again


class LabCarrier(Section):
    """An SMSC that runs already. With one of them, no simulator is started."""

    name: Name
    address: Address
    system_id: Annotated[str, StringConstraints(min_length=1, max_length=15)] = "hotsite"


class LabFile(Section):
    lab: LabSection
    simulator: SimulatorOptions = SimulatorOptions()
    failover: FailoverSettings = FailoverSettings()
    dispatcher: DispatcherSettings = DispatcherSettings()
    carrier: Annotated[tuple[LabCarrier, ...], Field(max_length=MAX_CARRIERS)] = ()

    def options(self) -> dict[str, Any]:
        """What it sets, as the lab's options."""
        wanted: dict[str, Any] = self.lab.model_dump(exclude_unset=True)
        for section in ("simulator", "failover", "dispatcher"):
            if section in self.model_fields_set:
                wanted[section] = getattr(self, section).model_dump(mode="json", exclude_unset=True)
        if self.carrier:
            wanted["carriers"] = tuple(_carrier(carrier) for carrier in self.carrier)
        return wanted

    def seconds(self) -> dict[str, float]:
        """The durations that both sites would have."""
        return seconds_of(self.failover, self.dispatcher, call_timeout=DEFAULT_CALL_TIMEOUT)


def _carrier(carrier: LabCarrier) -> ExternalCarrier:
    host, _, port = carrier.address.rpartition(":")
    return ExternalCarrier(
        name=carrier.name, host=host.strip("[]"), port=int(port), system_id=carrier.system_id
    )


def read_lab_file(path: Path) -> LabFile:
    """Raises SettingsError with one line for each mistake and what would do instead."""
    found = read(path, LabFile)
    for name in FIXED_IN_A_LAB:
        if name in found.dispatcher.model_fields_set:
            raise SettingsError(f"{path}: dispatcher.{name}: a lab decides that itself; remove it")
    names = [carrier.name for carrier in found.carrier]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(f"{path}: carrier: two are called {twice!r}; give each a name of its own")
    round_trip = found.failover.round_trip
    if found.lab.wan_ms > round_trip * 1_000:
        raise SettingsError(
            f"{path}: lab.wan_ms = {found.lab.wan_ms:g}: [failover] is made for a round trip of at most"
            f" {round_trip * 1_000:g} ms; use that, or a profile or a failover.round_trip for this line"
        )
    refused = complaints(prove(found.seconds()))
    if refused:
        raise SettingsError("\n".join(f"{path}: {line}" for line in refused))
    return found


def is_lab_file(path: Path) -> bool:
    """Whether a file describes a lab, and not a place."""
    try:
        return "lab" in tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
