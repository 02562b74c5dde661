"""What one place looks at, worked out from its settings.

Names are paths, `<what>/<of whom>`, and stable: they are the labels of metrics and the keys of the published
observation. A target with `source` is not looked at by itself: it reads what the look at its source brought
home (the canary from the database's answer, a carrier link from its dispatcher's), right after it.
"""

from dataclasses import dataclass
from enum import StrEnum

from healthcheck.verdicts import Limits
from sitecontrol.settings import HealthSettings, Node, Place, Settings

ANY_CARRIER = "any"
CARRIER_EVERY = 5.0  # a carrier's door is knocked at less often than our own


class Kind(StrEnum):
    """How a target is looked at."""

    HTTP = "http"
    POSTGRES = "postgres"
    CANARY = "canary"
    ETCD = "etcd"
    MEMBER = "etcd-member"
    SMPP = "smpp"
    TCP = "tcp"
    TLS = "tls"
    DNS = "dns"
    ICMP = "icmp"


class What(StrEnum):
    """What a target is, whatever the way it is looked at."""

    AGENT = "agent"
    POSTGRES = "postgres"  # the database of a node answers
    CANARY = "canary"  # the canary row is seen moving in that database
    DISPATCHER = "dispatcher"
    LINK = "link"  # a dispatcher's bind at a carrier, by the dispatcher's word
    CARRIER = "carrier"  # the carrier's port, by our own
    DAEMON = "healthcheck"
    ETCD = "etcd"  # the cluster: a linearizable read
    MEMBER = "etcd-member"
    DEVICE = "probe"  # a [[probe]] of the settings


@dataclass(frozen=True, kw_only=True)
class Target:
    name: str
    what: What
    kind: Kind
    address: str  # a URL, host:port, a name to resolve; for a derived target what it is called at its source
    place: str | None  # None: outside our places
    every: float
    timeout: float
    limits: Limits
    source: str | None = None
    parent: str | None = None
    of: str = ""  # the node, dispatcher, member or place it belongs to
    carrier: str = ""


def targets_of(settings: Settings, health: HealthSettings) -> tuple[Target, ...]:
    """Everything this place looks at."""
    return (
        *(t for place in settings.place for t in _of_place(settings, health, place)),
        _etcd(settings, health),
        *(
            _target(health, What.CARRIER, c.name, Kind.TCP, c.address, carrier=c.name, every=CARRIER_EVERY)
            for c in settings.carrier
        ),
        *(
            Target(
                name=f"{What.DEVICE}/{p.name}",
                what=What.DEVICE,
                kind=Kind(p.kind),
                address=p.target,
                place=settings.site.name,
                every=p.every,
                timeout=p.timeout,
                limits=Limits(rise=p.rise, fall=p.fall),
                parent=f"{What.DEVICE}/{p.parent}" if p.parent else None,
                of=p.name,
            )
            for p in settings.probe
        ),
    )


def carriers_of(settings: Settings) -> tuple[str, ...]:
    """The carriers whose links are told apart. A place that knows of none (the witness) takes all as one, `""`."""
    return tuple(c.name for c in settings.carrier) or ("",)


def _of_place(settings: Settings, health: HealthSettings, place: Place) -> tuple[Target, ...]:
    """The daemon there, its nodes, its dispatchers with their links, its etcd member."""
    found: list[Target] = []
    if place.healthcheck and place.name != settings.site.name:
        url = f"{place.healthcheck.rstrip('/')}/health"
        found.append(_target(health, What.DAEMON, place.name, Kind.HTTP, url, place=place.name))
    for node in place.nodes:
        found.extend(_of_node(health, place.name, node))
    for dispatcher in place.dispatchers:
        url = f"{dispatcher.url.rstrip('/')}/status"
        at = _target(health, What.DISPATCHER, dispatcher.name, Kind.HTTP, url, place=place.name)
        found.append(at)
        found.extend(
            _target(
                health,
                What.LINK,
                f"{dispatcher.name}/{carrier or ANY_CARRIER}",
                Kind.SMPP,
                carrier or ANY_CARRIER,
                place=place.name,
                source=at.name,
                of=dispatcher.name,
                carrier=carrier,
            )
            for carrier in carriers_of(settings)
        )
    if place.etcd_member:
        found.append(
            _target(
                health,
                What.MEMBER,
                place.etcd_member,
                Kind.MEMBER,
                place.etcd_member,
                place=place.name,
                source=What.ETCD,
            )
        )
    return tuple(found)


def _of_node(health: HealthSettings, place: str, node: Node) -> tuple[Target, ...]:
    agent = f"{node.agent.rstrip('/')}/status"
    database = _target(health, What.POSTGRES, node.name, Kind.POSTGRES, node.postgres, place=place)
    return (
        _target(health, What.AGENT, node.name, Kind.HTTP, agent, place=place),
        database,
        _target(health, What.CANARY, node.name, Kind.CANARY, node.name, place=place, source=database.name),
    )


def _etcd(settings: Settings, health: HealthSettings) -> Target:
    return Target(
        name=What.ETCD,
        what=What.ETCD,
        kind=Kind.ETCD,
        address=f"{settings.prefix}term",
        place=None,
        every=health.every,
        # etcd's own client already goes on to the next member after one deadline
        timeout=max(health.timeout, 2 * settings.etcd.call_timeout),
        limits=Limits(rise=health.rise, fall=health.fall),
        of="cluster",
    )


def _target(
    health: HealthSettings,
    what: What,
    name: str,
    kind: Kind,
    address: str,
    *,
    place: str | None = None,
    every: float | None = None,
    source: str | None = None,
    of: str | None = None,
    carrier: str = "",
) -> Target:
    return Target(
        name=f"{what}/{name}",
        what=what,
        kind=kind,
        address=address,
        place=place,
        every=every or health.every,
        timeout=health.timeout,
        limits=Limits(rise=health.rise, fall=health.fall),
        source=source,
        of=of or name,
        carrier=carrier,
    )
