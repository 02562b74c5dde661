"""What a lab consists of, worked out from its options: processes, and who reaches what through which door.

The same plan is read by everybody: the rendering of the settings, the supervisor, the WAN emulator's
configuration, the status, the faults.
"""

import sys
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sitecontrol.etcd.api import QUOTA
from sitecontrol.lab.installation import Installation
from sitecontrol.lab.layout import LabDir
from sitecontrol.lab.ports import (
    DEFAULT_BASE,
    HIGHEST_BASE,
    LOWEST_BASE,
    MAX_CARRIERS,
    MAX_DISPATCHERS,
    MAX_NODES,
    PLACES,
    SITES,
    WITNESS,
    PortPlan,
)
from sitecontrol.lab.volumes import SMALLEST
from sitecontrol.lab.wan_routes import Route, of_place
from sitecontrol.lab_clock import WALL_OFFSET
from sitecontrol.settings_forms import Form
from sitecontrol.settings_types import Section

LOOPBACK = "127.0.0.1"
SYSTEM_ID = "hotsite"
MB = 1024 * 1024
QUOTA_MB = QUOTA // MB
SMALLEST_QUOTA_MB = 16
BUFFERS_MB = 64  # of PostgreSQL's shared memory
SMALLEST_BUFFERS_MB = 16


class ExternalCarrier(BaseModel):
    """An SMSC that runs already."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    host: str
    port: int
    system_id: str = SYSTEM_ID


_STAT = "(DELIVRD|EXPIRED|DELETED|UNDELIV|ACCEPTD|UNKNOWN|REJECTD)"
Outcome = Annotated[
    str,
    StringConstraints(pattern=rf"^{_STAT}(=[1-9][0-9]{{0,5}})?(,{_STAT}(=[1-9][0-9]{{0,5}})?)*$"),
    Form(words="a receipt's outcome, or several with weights, in quotes", example="DELIVRD=9,UNDELIV=1"),
]


class SimulatorOptions(Section):
    """How the simulated carriers behave from their start on."""

    receipt_delay_ms: Annotated[float, Field(ge=0, le=3_600_000)] = 50.0
    receipt_outcome: Outcome = "DELIVRD"
    rate: Annotated[float, Field(gt=0, le=1_000_000)] | None = None  # submits a second; beyond: throttled


class LabOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    base_port: int = Field(default=DEFAULT_BASE, ge=LOWEST_BASE, le=HIGHEST_BASE)
    wan_ms: float = Field(default=35.0, ge=0, le=10_000)
    dispatchers: int = Field(default=2, ge=1, le=MAX_DISPATCHERS)
    nodes_per_site: int = Field(default=1, ge=1, le=MAX_NODES)
    volume_mb: int | None = Field(default=None, ge=SMALLEST)  # None: no volume of its own for a node's data
    etcd_quota_mb: int = Field(default=QUOTA_MB, ge=SMALLEST_QUOTA_MB)
    shared_buffers_mb: int = Field(default=BUFFERS_MB, ge=SMALLEST_BUFFERS_MB)
    simulators: int = Field(default=2, ge=1, le=MAX_CARRIERS)
    carriers: tuple[ExternalCarrier, ...] = Field(
        default=(), max_length=MAX_CARRIERS
    )  # if any, none is simulated
    restart: bool = True
    simulator: SimulatorOptions = SimulatorOptions()
    # What was set for both sites, in the sections of these names; checked where it was read (`lab_file`).
    failover: dict[str, int | float | str] = {}
    dispatcher: dict[str, Any] = {}


class Lab(BaseModel):
    """`lab.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    id: str
    options: LabOptions
    installation: Installation


class Kind(StrEnum):
    WAN = "wan"
    ETCD = "etcd"
    AGENT = "agent"
    CARRIER = "carrier"
    DISPATCHER = "dispatcher"
    HEALTHCHECK = "healthcheck"


RESTART_AFTER = {Kind.AGENT: 0.1}  # seconds; every other kind after DEFAULT_RESTART_AFTER
DEFAULT_RESTART_AFTER = 1.0

# What the leader's opening waits for starts first: on a small machine the others would only slow it down.
FIRST_WAVE = frozenset({Kind.WAN, Kind.ETCD, Kind.AGENT})


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process that the supervisor keeps running."""

    name: str  # also its log's name
    place: str  # columbus, denver, witness; "wan" or a carrier's name for what stands outside the places
    kind: Kind
    argv: tuple[str, ...]
    url: str | None = None  # where it answers HTTP

    @property
    def restart_after(self) -> float:
        return RESTART_AFTER.get(self.kind, DEFAULT_RESTART_AFTER)


@dataclass(frozen=True, kw_only=True)
class CarrierPlace:
    name: str
    host: str
    port: int
    system_id: str
    simulated: bool


@dataclass(frozen=True, kw_only=True)
class LabNode:
    """A PostgreSQL with its agent."""

    name: str
    site: str
    key: str  # of its folders, settings and logs: the site's name for the first, else its own
    suffix: str  # of its services' names
    agent: int  # port
    postgres: int  # port


class Plan:
    """Names, ports and doors of one lab."""

    def __init__(self, lab: Lab, directory: LabDir) -> None:
        self.lab = lab
        self.directory = directory
        self.ports = PortPlan(lab.options.base_port)

    @cached_property
    def carriers(self) -> tuple[CarrierPlace, ...]:
        options = self.lab.options
        if options.carriers:
            return tuple(
                CarrierPlace(name=c.name, host=c.host, port=c.port, system_id=c.system_id, simulated=False)
                for c in options.carriers
            )
        names = ("aurora", "borealis", "corona", "drift")[: options.simulators]
        return tuple(
            CarrierPlace(
                name=name, host=LOOPBACK, port=self.ports.carrier(i), system_id=SYSTEM_ID, simulated=True
            )
            for i, name in enumerate(names)
        )

    @property
    def etcd_urls(self) -> tuple[str, ...]:
        """Of its members, each from its own place."""
        return tuple(f"http://{LOOPBACK}:{self.ports.place(place).etcd_client}" for place in PLACES)

    @property
    def sites(self) -> tuple[str, ...]:
        return SITES

    def nodes(self, site: str) -> tuple[LabNode, ...]:
        """Of a site; the witness has none."""
        if site not in SITES:
            return ()
        return tuple(self._node(site, index) for index in range(self.lab.options.nodes_per_site))

    @property
    def all_nodes(self) -> tuple[LabNode, ...]:
        return tuple(node for site in SITES for node in self.nodes(site))

    def _node(self, site: str, index: int) -> LabNode:
        letter = "ab"[index]
        agent, postgres = self.ports.node(site, index)
        return LabNode(
            name=f"{site}-{letter}",
            site=site,
            key=f"{site}-{letter}" if index else site,
            suffix=f"-{letter}" if index else "",
            agent=agent,
            postgres=postgres,
        )

    @staticmethod
    def etcd_member(place: str) -> str:
        return f"{place}-etcd"

    def dispatchers(self, site: str) -> tuple[tuple[str, int], ...]:
        """(name, port) of each dispatcher of a site."""
        ports = self.ports.place(site).dispatchers[: self.lab.options.dispatchers]
        return tuple((f"{site}-dispatcher-{i}", port) for i, port in enumerate(ports, start=1))

    def services(self, place: str) -> dict[str, int]:
        """What a place offers to the other places: service -> the port where it listens."""
        ports = self.ports.place(place)
        offered = {"healthcheck": ports.healthcheck, "etcd": ports.etcd_client}
        if place != WITNESS:
            first, *others = self.nodes(place)
            offered |= {"agent": first.agent, "postgres": first.postgres, **dict(self.dispatchers(place))}
            for node in others:
                offered |= {f"agent{node.suffix}": node.agent, f"postgres{node.suffix}": node.postgres}
        return offered

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        """Every door of the WAN emulator."""
        free = iter(self.ports.doors)
        between = [
            Route(door=next(free), target_port=port, source=source, destination=place, service=service)
            for source in PLACES
            for place in PLACES
            if place != source
            for service, port in self.services(place).items()
        ]
        peers = [
            Route(
                door=next(free),
                target_port=self.ports.place(place).etcd_peer,
                source=None,
                destination=place,
                service="etcd-peer",
            )
            for place in PLACES
        ]
        to_carriers = [
            Route(
                door=next(free),
                target_host=carrier.host,
                target_port=carrier.port,
                source=site,
                destination=of_place(carrier.name),
                service="smpp",
                delayed=False,
            )
            for site in SITES
            for carrier in self.carriers
        ]
        return (*between, *peers, *to_carriers)

    def address(self, source: str, place: str, service: str) -> str:
        """HOST:PORT of a service as it is reached from `source`: direct at home, through a door elsewhere."""
        if source == place:
            return f"{LOOPBACK}:{self.services(place)[service]}"
        return f"{LOOPBACK}:{self._door(source, place, service)}"

    def peer_address(self, place: str) -> str:
        """What an etcd member advertises to its peers."""
        return f"{LOOPBACK}:{self._door(None, place, 'etcd-peer')}"

    def carrier_address(self, site: str, carrier: str) -> str:
        return f"{LOOPBACK}:{self._door(site, of_place(carrier), 'smpp')}"

    def _door(self, source: str | None, destination: str, service: str) -> int:
        return next(
            r.door
            for r in self.routes
            if (r.source, r.destination, r.service) == (source, destination, service)
        )

    @cached_property
    def processes(self) -> tuple[Process, ...]:
        """Everything the supervisor runs, in the order in which it is started."""
        wan = Process(
            name="wan",
            place="wan",
            kind=Kind.WAN,
            argv=(sys.executable, "-m", "sitecontrol.lab.wan", "--config", str(self.directory.wan_config)),
            url=f"http://{LOOPBACK}:{self.ports.wan}",
        )
        members = [self._etcd(place) for place in PLACES]
        agents = [self._agent(node) for node in self.all_nodes]
        carriers = [self._simulator(c) for c in self.carriers if c.simulated]
        dispatchers = [self._dispatcher(site, *d) for site in SITES for d in self.dispatchers(site)]
        health = [
            self._with_config("healthcheck", place, Kind.HEALTHCHECK, "healthcheck") for place in PLACES
        ]
        return (wan, *members, *agents, *carriers, *dispatchers, *health)

    def of_place(self, place: str) -> tuple[Process, ...]:
        return tuple(p for p in self.processes if p.place == place)

    def wall_offsets(self, place: str) -> tuple[Path, ...]:
        """The files by which the wall clocks of a place are wrong (see `lab_clock`)."""
        states = dict.fromkeys((place, *(node.key for node in self.nodes(place))))
        return tuple(self.directory.state(key) / WALL_OFFSET for key in states)

    @property
    def logs(self) -> dict[str, Path]:
        """Where each process of `lab status` logs, and the supervisor: name -> file."""
        files = {name: self.directory.log(name) for name in (*(p.name for p in self.processes), "supervisor")}
        homes = {node.key: self.lab.installation.data_dir(node.key) for node in self.all_nodes}
        return files | {
            f"{key}-postgres": home.with_name("data.conf") / "postgres.log" for key, home in homes.items()
        }

    @cached_property
    def listening(self) -> dict[int, str]:
        """Every port that must be free before the lab starts -> what will listen there."""
        ports = {route.door: f"the line to {route.destination}'s {route.service}" for route in self.routes}
        ports |= {self.ports.supervisor: "the lab's supervisor", self.ports.wan: "the WAN emulator"}
        for place in PLACES:
            ports[self.ports.place(place).etcd_peer] = f"{place}'s etcd"
            for service, port in self.services(place).items():
                ports[port] = f"{place}'s {service}"
        ports |= {c.port: f"the carrier simulator {c.name}" for c in self.carriers if c.simulated}
        return dict(sorted(ports.items()))

    def _with_config(self, service: str, place: str, kind: Kind, module: str) -> Process:
        config = str(self.directory.config(place))
        return Process(
            name=f"{place}-{service}",
            place=place,
            kind=kind,
            argv=(sys.executable, "-m", module, "--config", config),
            url=f"http://{LOOPBACK}:{self.services(place)[service]}",
        )

    def _agent(self, node: LabNode) -> Process:
        config = str(self.directory.config(node.key))
        return Process(
            name=f"{node.key}-agent",
            place=node.site,
            kind=Kind.AGENT,
            argv=(sys.executable, "-m", "sitecontrol", "agent", "--config", config),
            url=f"http://{LOOPBACK}:{node.agent}",
        )

    def _dispatcher(self, site: str, name: str, port: int) -> Process:
        config = str(self.directory.config(site))
        return Process(
            name=name,
            place=site,
            kind=Kind.DISPATCHER,
            argv=(sys.executable, "-m", "dispatcher", "--config", config, "--name", name),
            url=f"http://{LOOPBACK}:{port}",
        )

    def _simulator(self, carrier: CarrierPlace) -> Process:
        behaviour = self.lab.options.simulator
        arguments = {
            "--listen": f"{carrier.host}:{carrier.port}",
            "--system-id": carrier.system_id,
            "--password-file": str(self.secret(f"carrier-{carrier.name}")),
            "--log": str(self.directory.carrier_log(carrier.name)),
            "--receipt-delay-ms": str(behaviour.receipt_delay_ms),
            "--receipt-outcome": behaviour.receipt_outcome,
        }
        if behaviour.rate is not None:
            arguments["--rate"] = str(behaviour.rate)
        flat = tuple(word for pair in arguments.items() for word in pair)
        return Process(
            name=f"carrier-{carrier.name}",
            place=of_place(carrier.name),
            kind=Kind.CARRIER,
            argv=(sys.executable, "-m", "dispatcher.simulator", *flat),
        )

    def _etcd(self, place: str) -> Process:
        ports = self.ports.place(place)
        client, peer = f"http://{LOOPBACK}:{ports.etcd_client}", f"http://{LOOPBACK}:{ports.etcd_peer}"
        cluster = ",".join(f"{self.etcd_member(p)}=http://{self.peer_address(p)}" for p in PLACES)
        return Process(
            name=f"{place}-etcd",
            place=place,
            kind=Kind.ETCD,
            argv=(
                str(self.lab.installation.etcd),
                f"--name={self.etcd_member(place)}",
                f"--data-dir={self.directory.etcd(place)}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls=http://{self.peer_address(place)}",
                f"--initial-cluster={cluster}",
                "--initial-cluster-state=new",
                f"--initial-cluster-token={self.lab.id}",
                "--heartbeat-interval=100",
                "--election-timeout=1000",
                "--pre-vote",
                f"--quota-backend-bytes={self.lab.options.etcd_quota_mb * MB}",
                "--auto-compaction-mode=periodic",
                "--auto-compaction-retention=10m",
                "--logger=zap",
                "--log-outputs=stderr",
            ),
            url=client,
        )

    def secret(self, name: str) -> Path:
        return self.directory.secrets / name
