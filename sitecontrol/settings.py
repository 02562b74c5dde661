"""The settings of one place, read from TOML, and every mistake in them explained.

Each place describes the whole system *as it is reached from there*: addresses come from this file, never
from etcd, so that a forged record can send nobody to a foreign address, and so that the lab can put a
WAN emulator between the places. Secrets are never in the TOML: they come from files in `secrets_dir` or
from `HOTSITE_SECRET_<NAME>` (see `Secrets`).
"""

import json
import os
import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from sitecontrol.profiles import DEFAULTS, Profile
from sitecontrol.settings_carriers import Carrier, RouteBy, check_carriers
from sitecontrol.settings_errors import Misfit, explain
from sitecontrol.settings_forms import Form
from sitecontrol.settings_types import (
    Address,
    DomainName,
    Hours,
    Name,
    NameServer,
    Network,
    NumericAddress,
    Seconds,
    Section,
    Socket,
    Url,
)


class SettingsError(Exception):
    """The settings cannot be used; the message names file, line, rule and a value that would do."""


S = TypeVar("S", bound=Section)


class Environment(StrEnum):
    LAB = "lab"  # everything on one machine; consent may be assumed
    PRODUCTION = "production"


class PlaceKind(StrEnum):
    SITE = "site"  # PostgreSQL, agent, dispatchers
    WITNESS = "witness"  # only an etcd member and an observer


class Site(Section):
    """Who we are: which of the places below this file is for."""

    name: Name
    cluster: Name = "hotsite"
    node: Name | None = None  # this machine's PostgreSQL node; none at the witness
    environment: Environment = Environment.PRODUCTION
    state_dir: Path
    secrets_dir: Path


class Node(Section):
    """A PostgreSQL with its agent, as reached from here."""

    name: Name
    postgres: Address
    agent: Url


class Instance(Section):
    """A dispatcher, as reached from here."""

    name: Name
    url: Url


class Place(Section):
    name: Name
    kind: PlaceKind = PlaceKind.SITE
    preferred: bool = False  # the site that production normally runs in
    nodes: tuple[Node, ...] = ()
    dispatchers: tuple[Instance, ...] = ()
    healthcheck: Url | None = None
    etcd_member: Name | None = None  # the name of the etcd member that runs there


class EtcdSettings(Section):
    endpoints: tuple[Url, ...] = Field(min_length=1)
    user: str | None = None  # the password is the secret `etcd-password`
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    call_timeout: Seconds = 1.0

    @model_validator(mode="after")
    def _certificates(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            given, other = ("key_file", "cert_file") if self.cert_file is None else ("cert_file", "key_file")
            raise Misfit((given,), f"is of use only together with {other}; set both or neither")
        clear = next((i for i, url in enumerate(self.endpoints) if url.startswith("http://")), None)
        if clear is not None and (self.ca_file or self.cert_file):
            raise Misfit(
                ("endpoints", clear), "has no use for certificates; begin it with https://, or remove them"
            )
        return self


class ReplicationSettings(Section):
    data_dir: Path
    listen: Address
    bin_dir: Path | None = None  # else found on PATH, in the distribution's folders, or in the lab wheels
    run_as: str | None = None  # the system user that runs PostgreSQL when the agent is root
    socket_dir: Path | None = None  # else below state_dir; a path of at most 90 bytes
    parameters: dict[str, str | int | float | bool] = {}  # further postgresql.conf settings
    # Free for WAL, or no swap goes to this node; else 1024, or a quarter of a smaller volume (`leadership.room`).
    wal_room_mb: Annotated[int, Field(ge=0, le=1_000_000)] | None = None


def _by_profile(setting: str) -> Any:
    """The default that the profile has; of a profile that is refused, the lab's."""
    duration = DEFAULTS[setting]
    return Field(default_factory=lambda read: duration.of(read.get("profile", Profile.LAB)))


class FailoverSettings(Section):
    """Durations in seconds: what the file leaves out is as the profile has it. `leadership.timing` proves that they
    fit together; `profiles` says what each is for.
    """

    profile: Profile = Profile.LAB  # first: the defaults below are taken from it
    round_trip: Annotated[float, Field(gt=0, le=10)] = _by_profile("round_trip")
    lease_ttl: Annotated[int, Field(ge=2, le=60)] = _by_profile("lease_ttl")
    renew_every: Seconds = _by_profile("renew_every")
    lease_margin: Seconds = _by_profile("lease_margin")
    canary_every: Seconds = _by_profile("canary_every")
    canary_max_age: Seconds = _by_profile("canary_max_age")
    canary_wait: Seconds = _by_profile("canary_wait")
    restart_within: Seconds = _by_profile("restart_within")
    swap_prepare_within: Seconds = _by_profile("swap_prepare_within")
    swap_deadline: Seconds = _by_profile("swap_deadline")
    swap_follow_within: Seconds = _by_profile("swap_follow_within")
    drain_within: Seconds = _by_profile("drain_within")
    # -- swaps that health asks for (leadership.health)
    unfit_for: Annotated[float, Field(ge=1, le=3_600)] = _by_profile("unfit_for")
    swap_cool_down: Seconds = _by_profile("swap_cool_down")
    max_swaps_per_hour: Annotated[int, Field(ge=0, le=60)] = 2  # 0: health never moves production

    # -- back to the preferred site by itself (leadership.failback)
    failback: Literal["never", "after"] = "never"
    failback_after: Annotated[float, Field(ge=60, le=7 * 86_400)] = 3_600.0  # of quiet, in step
    failback_hours: Hours = ""  # empty: at any

    @property
    def etcd_silence(self) -> float:
        """Seconds after its last word from which on etcd counts as silent."""
        return max(2 * self.renew_every, 1.0)


class Durability(StrEnum):
    TWO_SITE = "two-site"  # prefer both sites, say so when it was only one
    STRICT = "strict"  # answer 503 rather than accept on one site


class Egress(StrEnum):
    LIVE_SITE = "live-site"
    ALL_SITES = "all-sites"


class DispatcherInstance(Section):
    name: Name
    listen: Address


class DispatcherSettings(Section):
    instances: tuple[DispatcherInstance, ...] = ()
    durability: Durability = Durability.TWO_SITE
    egress: Egress = Egress.LIVE_SITE
    consent: Literal["required", "assumed"] = "required"
    group_wait_ms: Annotated[float, Field(ge=0, le=100)] = 2.0
    group_max: Annotated[int, Field(ge=1, le=5_000)] = 1_000
    hold_for: Seconds = 10.0  # a request is held this long while production moves, then 503
    hold_max: Annotated[int, Field(ge=1)] = 20_000  # requests held at once
    claim_for: Seconds = 5.0  # how long a claim lasts, from before its BEGIN
    claim_max: Annotated[int, Field(ge=1, le=10_000)] = 500
    reply_wait: Seconds = 120.0  # for the missing parts of a reply; then what came is stored
    doubt_grace: Seconds = 60.0  # before a text in doubt whose program says so is sent again
    route_by: RouteBy = RouteBy.WEIGHT  # among carriers of one priority (docs/routing.md)
    route_wait: Annotated[float, Field(ge=0, le=60)] = 1.0  # for a better carrier that has no room just now
    # Room for 2,000 segments however JSON writes them: a text that is far too long is told so as a text (422).
    max_body_bytes: Annotated[int, Field(ge=1_000)] = 1_000_000
    max_bulk_line_bytes: Annotated[int, Field(ge=1_000)] = 1_000_000
    max_connections: Annotated[int, Field(ge=1)] | None = None  # else 4,000, or as many as open files allow
    max_connections_per_source: Annotated[int, Field(ge=1)] = 1_000  # an IPv6 /64 is one source
    uncapped_sources: tuple[Network, ...] = ()  # load balancers: only max_connections bounds them
    webhook_networks: tuple[Network, ...] = ()  # internal ones to which webhooks may lead all the same


class HealthSettings(Section):
    listen: Address
    every: Seconds = 1.0
    timeout: Seconds = 1.0
    rise: Annotated[int, Field(ge=1, le=100)] = 2
    fall: Annotated[int, Field(ge=1, le=100)] = 3


class Probe(Section):
    """A further device or service to look at (health.md's list of kinds)."""

    name: Name
    kind: Literal["tcp", "http", "tls", "dns", "icmp"]
    target: str
    every: Seconds = 5.0
    timeout: Seconds = 2.0
    rise: Annotated[int, Field(ge=1, le=100)] = 2
    fall: Annotated[int, Field(ge=1, le=100)] = 3
    parent: Name | None = None


class AgentSettings(Section):
    listen: Address


class DnsTraffic(Section):
    """A record that names the live site (RFC 2136). The TSIG key, in base64, is the secret `traffic-dns-key`."""

    server: NameServer  # the zone's primary
    zone: DomainName
    record: DomainName  # whole, as clients look it up
    ttl: Annotated[int, Field(ge=1, le=3_600)] = 5  # seconds; so long may clients go on to the old site
    key_name: DomainName
    key_algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = "hmac-sha256"
    addresses: dict[Name, tuple[NumericAddress, ...]] = {}  # of every site -> where its clients' door is
    deadline: Seconds = 3.0

    @model_validator(mode="after")
    def _inside(self) -> Self:
        record, zone = self.record.rstrip(".").lower(), self.zone.rstrip(".").lower()
        if record != zone and not record.endswith(f".{zone}"):
            raise Misfit(("record",), f'is not in zone {zone}; for example: "texts.{zone}"')
        return self


class CommandTraffic(Section):
    """A program of the operator's. It is run without a shell, and may be run again for the same site and term."""

    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    check_argv: tuple[str, ...] = ()  # ends with 0 when clients are sent to the site; none: not looked at
    deadline: Seconds = 10.0  # then it is killed with everything that it started

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        for name, argv in (("argv", self.argv), ("check_argv", self.check_argv)):
            if argv and not argv[0].startswith("/"):
                raise Misfit(
                    (name, 0),
                    'name the program by its whole path; for example: "/usr/local/bin/move-traffic"',
                )
        return self


class HaproxyTraffic(Section):
    """HAProxy's own checks move requests (configs/haproxy.cfg); this tells it at once, and looks what it sees."""

    sockets: Annotated[tuple[Socket, ...], Field(min_length=1)]  # of its runtime API, at level admin
    backend: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9_.:-]+$"),
        Form(words="the name of a backend in quotes", example="dispatchers"),
    ] = "dispatchers"  # its servers have the names of the dispatchers in [[place.dispatchers]]
    deadline: Seconds = 1.0


class TrafficSettings(Section):
    """How clients are moved: what is given here is told by the live site's agent, and looked at again and again."""

    check_every: Seconds = 10.0
    dns: DnsTraffic | None = None
    command: CommandTraffic | None = None
    haproxy: HaproxyTraffic | None = None


class SecuritySettings(Section):
    """The operator's token is the secret `operator-token`."""

    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    ca_file: Path | None = None  # an authority to trust beside the system's, for agents and health daemons

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            names = ("tls_key_file", "tls_cert_file")
            given, other = names if self.tls_cert_file is None else names[::-1]
            raise Misfit((given,), f"is of use only together with {other}; set both or neither")
        return self


class Settings(Section):
    """Everything one place knows by configuration."""

    site: Site
    place: tuple[Place, ...] = Field(min_length=1)
    etcd: EtcdSettings
    replication: ReplicationSettings | None = None
    agent: AgentSettings | None = None
    failover: FailoverSettings = FailoverSettings()
    dispatcher: DispatcherSettings = DispatcherSettings()
    carrier: tuple[Carrier, ...] = ()
    healthcheck: HealthSettings | None = None
    probe: tuple[Probe, ...] = ()
    traffic: TrafficSettings = TrafficSettings()
    security: SecuritySettings = SecuritySettings()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        places = [place.name for place in self.place]
        if self.site.name not in places:
            raise Misfit(("site", "name"), f"no [[place]] has that name, only: {', '.join(places)}")
        if self.dispatcher.consent == "assumed" and self.site.environment is not Environment.LAB:
            raise Misfit(
                ("dispatcher", "consent"),
                'is for labs only; use consent = "required", or environment = "lab" in [site]',
            )
        self._check_traffic()
        check_carriers(self.carrier, doubt_grace=self.dispatcher.doubt_grace, by=self.dispatcher.route_by)
        return self

    def _check_traffic(self) -> None:
        """Clients can be sent to every site, and to nothing else."""
        sites = [place.name for place in self.place if place.kind is PlaceKind.SITE]
        if self.traffic.dns is not None:
            path = ("traffic", "dns", "addresses")
            given = self.traffic.dns.addresses
            for name in given.keys() - set(sites):
                raise Misfit((*path, name), f"is no site; the sites are: {', '.join(sites)}")
            for site in sites:
                if not given.get(site):
                    raise Misfit(
                        path,
                        f'lacks {site}; give its addresses in a section [{".".join(path)}]: {site} = ["203.0.113.10"]',
                    )
        if self.traffic.haproxy is not None:
            for place in self.place:
                if place.kind is PlaceKind.SITE and not place.dispatchers:
                    raise Misfit(
                        ("traffic", "haproxy"),
                        f"names no dispatchers of {place.name}; add a section [[place.dispatchers]] for each",
                    )

    @property
    def here(self) -> Place:
        return next((p for p in self.place if p.name == self.site.name), None)  # type: ignore[return-value] # None is refused by _whole

    @property
    def prefix(self) -> str:
        """The root of our keys in etcd, with its closing slash."""
        return f"/hotsite/{self.site.cluster}/"

    def site_of(self, node: str) -> str | None:
        """The site that `node` belongs to by our own file, or None for a node we were not told of."""
        return next((p.name for p in self.place for n in p.nodes if n.name == node), None)

    def node(self, name: str) -> Node | None:
        return next((n for p in self.place for n in p.nodes if n.name == name), None)


class Secrets:
    """Reads a secret from `HOTSITE_SECRET_<NAME>` or from the file `<secrets_dir>/<name>`; never logs one."""

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        self._directory = directory
        self._environ = environ

    @classmethod
    def of(cls, settings: "Settings") -> Self:
        """The secrets of a place, with this process's environment."""
        return cls(settings.site.secrets_dir, dict(os.environ))

    def get(self, name: str) -> str:
        variable = "HOTSITE_SECRET_" + name.upper().replace("-", "_")
        if variable in self._environ:
            return self._environ[variable]
        path = self._directory / name
        try:
            return path.read_text(encoding="utf-8").strip()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SettingsError(
                f"the secret {name!r} is missing: put it into {path} (mode 600) or set {variable}"
            ) from error
        except UnicodeDecodeError:
            raise SettingsError(
                f"the secret {name!r} is no text: {path} must hold UTF-8; write it again, or set {variable}"
            ) from None  # the error holds the secret's bytes
        except PermissionError as error:
            user = os.geteuid()
            raise SettingsError(
                f"the secret {name!r} may not be read: {path} is closed to this process (user {user});"
                f" `chown {user} {path}` and `chmod 600 {path}`, and let that user into {path.parent}"
            ) from error
        except OSError as error:
            raise SettingsError(
                f"the secret {name!r} cannot be read from {path}: {error.strerror}; or set {variable}"
            ) from error


def load(path: Path) -> Settings:
    """Read and check one place's file. Raises SettingsError as `read` does."""
    return read(path, Settings)


def read(path: Path, model: type[S]) -> S:
    """Read and check one file. Raises SettingsError with one line for each mistake and what would do instead."""
    try:
        text = path.read_text(encoding="utf-8")
        data: dict[str, Any] = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror}; name a settings file that this user can read"
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text (at byte {error.start}); save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(_not_toml(path, str(error))) from error
    try:
        # By way of JSON, in whose strict mode a text is no number and a number no truth value, but a text may
        # name a path or a choice.
        return model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        raise SettingsError("\n".join(explain(error, file=str(path), text=text, model=model))) from error


def _not_toml(path: Path, said: str) -> str:
    place = re.search(r" \(at line (\d+), column (\d+)\)$", said)
    if place is None:  # at the end of the document
        return f"{path}: not TOML: {said}"
    return f"{path}:{place[1]}: not TOML: {said[: place.start()]}, at column {place[2]}"
