"""Which carriers may carry a text, and in which order they are tried. Pure: the caller brings conditions and time.

- What a carrier may carry at all is its settings' word: short code, program, prefix (`Table`). Texts that the same
  carriers may carry, for the same reasons, stand in one `Lane`.
- Who carries it is decided when a link has room, from the carriers' conditions at that moment (`quota`). One that goes
  before (`priority`, price, `weight` among equals) is preferred only while it can take a text *now*, or will within
  `wait_s`: a text never waits behind a link that is dead, paused or full while another may carry it.
- One that was sick lately, or has just refused this very text, is the last resort.

Every "no" is a row of `Reason`, with a sentence that an operator can read. docs/routing.md tells it all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from math import inf
from typing import Final, NamedTuple

from dispatcher.model import MessageClass
from sitecontrol.settings_carriers import Carrier, RouteBy

AFTER_ALL: Final = 1_000_000  # added to a rank
LANES_CACHED: Final = 20_000  # numbers whose lane is remembered


class Reason(Enum):
    """Why a carrier may, or may not, carry a text now. The value is what people read."""

    MAY = "carries it now"
    PROBED = "was sick, and is tried with one text at a time"
    # -- by its settings
    SHORT_CODE = "not its short code"
    PROGRAM = "not its program"
    PROGRAM_UNKNOWN = "its programs are named, and this text's is not known here yet"
    PREFIX = "not its prefix"
    REFUSED_PREFIX = "a prefix that it does not carry"
    # -- by its condition
    RESTING = "is given nothing new (weight = 0)"
    DOWN = "none of its links is bound"
    SICK = "answered too many of its last texts with errors, or not at all: others go first"
    REFUSED_BEFORE = "refused this text a moment ago: others go first"
    PAUSED = "asked for a pause (throttled)"
    FULL = "has no room now"
    # -- by its place among the others
    BEHIND = "another goes before it (priority, or price)"
    TURN = "by weight it is another's turn"


BY_SETTINGS: Final = frozenset(
    {Reason.SHORT_CODE, Reason.PROGRAM, Reason.PROGRAM_UNKNOWN, Reason.PREFIX, Reason.REFUSED_PREFIX}
)


class Condition(NamedTuple):
    """What a carrier's links are able to do at this moment."""

    bound: bool  # one of those that send
    room: bool  # for at least one text
    paused: bool  # all of those that are bound were asked to slow down, and wait
    sick: bool = False
    probe: bool = False  # sick, and may be tried with one text


AWAY: Final = Condition(bound=False, room=False, paused=False)


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """Texts that the same carriers may carry. Its table makes one of each kind, so two are the same or different."""

    carriers: tuple[str, ...]  # in the order of the settings
    avoid: str = ""  # which of them has just refused its texts
    excluded: tuple[tuple[str, Reason], ...] = ()  # the others, by their settings


class Quota(NamedTuple):
    """How many texts of a lane a link may take now."""

    most: int
    until: float = inf  # only those whose claims have ended, less the margin, by this time of our clock
    why: Reason = Reason.MAY


EVERYTHING: Final = 1_000_000
ALL: Final = Quota(most=EVERYTHING)
PROBES: Final = Quota(most=1, why=Reason.PROBED)
NOT_WHILE_SICK: Final = Quota(most=0, why=Reason.SICK)


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One carrier's part in the way of a text."""

    carrier: str
    may: bool  # carries it now
    reason: Reason

    def __str__(self) -> str:
        return f"{self.carrier}: {self.reason.value}"


class Table:
    """What the carriers may carry by their settings, and who goes before whom."""

    def __init__(self, carriers: Sequence[Carrier], by: RouteBy, wait_s: float) -> None:
        self.carriers = {carrier.name: carrier for carrier in carriers}
        self.by = by
        self.wait_s = wait_s
        self.weights = {carrier.name: carrier.weight for carrier in carriers}
        places = {
            carrier.name: (carrier.priority, carrier.cost if by is RouteBy.COST else Decimal(0))
            for carrier in carriers
        }
        in_order = sorted(set(places.values()))
        self._ranks = {name: in_order.index(place) for name, place in places.items()}
        # Nothing to choose: one carrier that carries everything.
        self.plain = len(carriers) == 1 and not _restricted(carriers[0]) and carriers[0].weight > 0
        self._known: dict[tuple[object, ...], Lane] = {}
        self._restricted = any(_restricted(carrier) for carrier in carriers)
        # The lane of every text, where no carrier has a word on what it carries.
        self.everywhere = None if self._restricted else self._one(tuple(self.carriers))
        self._digits = max((len(p) for c in carriers for p in (*c.prefixes, *c.refused_prefixes)), default=0)
        self._lanes: dict[tuple[str, str | None, str], Lane] = {}

    def rank(self, lane: Lane, name: str) -> int:
        """The lowest goes first."""
        return self._ranks[name] + (AFTER_ALL if name == lane.avoid else 0)

    @property
    def asks_programs(self) -> bool:
        """Whether it matters what a text's program is called."""
        return any(carrier.programs for carrier in self.carriers.values())

    def lane(self, source: str, program: str | None, to: str, avoid: str = "") -> Lane:
        """`program`: its name; None while it is not known. `to`: the number in E.164 form, with +."""
        if self.everywhere is not None:
            lane = self.everywhere
        else:
            key = (source, program, to[: self._digits])
            found = self._lanes.get(key)
            if found is None:
                if len(self._lanes) >= LANES_CACHED:
                    self._lanes.clear()
                found = self._lanes[key] = self._made(source, program, to)
            lane = found
        if avoid and len(lane.carriers) > 1 and avoid in lane.carriers:
            return self._one(lane.carriers, avoid, lane.excluded)
        return lane

    def _one(
        self, carriers: tuple[str, ...], avoid: str = "", excluded: tuple[tuple[str, Reason], ...] = ()
    ) -> Lane:
        key = (carriers, avoid, excluded)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Lane(*key)
        return found

    def _made(self, source: str, program: str | None, to: str) -> Lane:
        told = [
            (name, why_not(c, source=source, program=program, to=to)) for name, c in self.carriers.items()
        ]
        return self._one(
            tuple(name for name, reason in told if reason is None),
            excluded=tuple((name, reason) for name, reason in told if reason is not None),
        )


def _restricted(carrier: Carrier) -> bool:
    return bool(carrier.prefixes or carrier.refused_prefixes or carrier.short_codes or carrier.programs)


def why_not(carrier: Carrier, *, source: str, program: str | None, to: str) -> Reason | None:
    """Why a carrier may never carry a text, by its settings; None: it may."""
    if not carrier.serves(source):
        return Reason.SHORT_CODE
    if carrier.programs and program not in carrier.programs:
        return Reason.PROGRAM_UNKNOWN if program is None else Reason.PROGRAM
    allowed = max((len(p) for p in carrier.prefixes if to.startswith(p)), default=0)
    refused = max((len(p) for p in carrier.refused_prefixes if to.startswith(p)), default=0)
    if refused > allowed:
        return Reason.REFUSED_PREFIX
    if carrier.prefixes and not allowed:
        return Reason.PREFIX
    return None


class Shares:
    """Whose turn it is among equals: stride scheduling (Waldspurger and Weihl, 1995), for each set of carriers apart.

    Each carrier has a `pass` that grows by 1/weight with each text. The one that is farthest back goes first; one may
    be ahead of it by a burst, so that texts are written in batches. A carrier that cannot take any text saves up
    nothing; one that is only full saves up a little, so that shares hold over a while and not only at each moment.
    """

    BURST: Final = 50  # texts of the smallest weight
    SAVED_AT_MOST: Final = 500  # texts

    def __init__(self) -> None:
        self._passes: dict[tuple[str, ...], dict[str, float]] = {}

    def allow(
        self,
        among: tuple[str, ...],
        name: str,
        *,
        ready: Sequence[str],
        full: Sequence[str],
        weights: Mapping[str, int],
    ) -> int:
        """How many texts `name` may take before it is another's turn. `ready`, with itself: who can take some now."""
        passes = self._passes.setdefault(among, {})
        least = min((passes[one] for one in ready if one in passes), default=0.0)
        for one in among:
            if one in ready:
                passes.setdefault(one, least)
            else:
                saved = self.SAVED_AT_MOST / weights[one] if one in full and weights[one] else 0.0
                passes[one] = max(passes.get(one, least), least - saved)
        others = [one for one in ready if one != name]
        if not others:
            return EVERYTHING
        ahead = self.BURST / min(weights[one] for one in ready)
        return max(0, int((min(passes[one] for one in others) + ahead - passes[name]) * weights[name]))

    def took(self, among: tuple[str, ...], name: str, texts: int, weight: int) -> None:
        passes = self._passes.setdefault(among, {})
        passes[name] = passes.get(name, 0.0) + texts / max(1, weight)


Conditions = Callable[[str], Condition]  # of a carrier by its name


def standing(table: Table, lane: Lane, name: str, condition: Condition) -> Reason | None:
    """What keeps one of the lane's carriers from being given texts at all, or makes it the last resort."""
    if not table.weights.get(name):
        return Reason.RESTING
    if not condition.bound:
        return Reason.DOWN
    if condition.sick:
        return Reason.SICK
    return Reason.REFUSED_BEFORE if name == lane.avoid else None


UNUSABLE: Final = frozenset({Reason.RESTING, Reason.DOWN})


def usable(table: Table, lane: Lane, conditions: Conditions) -> list[str]:
    """The carriers that could be given the lane's texts sooner or later as things are."""
    return [name for name in lane.carriers if standing(table, lane, name, conditions(name)) not in UNUSABLE]


def quota(
    table: Table,
    shares: Shares,
    lane: Lane,
    name: str,
    *,
    conditions: Conditions,
    message_class: MessageClass,
    patient_until: float,
) -> Quota:
    """How many texts of `lane` carrier `name`, a link of which has room, may take now.

    `patient_until`: deadlines up to this one are of texts that have waited for a better carrier long enough.
    """
    if name not in lane.carriers:
        return Quota(most=0, why=dict(lane.excluded).get(name, Reason.DOWN))
    own = conditions(name)
    stands = standing(table, lane, name, own)
    if stands in UNUSABLE:
        return Quota(most=0, why=stands)
    rivals: list[tuple[str, Condition]] = []
    sick: list[tuple[str, Condition]] = []
    for one in lane.carriers:
        at = conditions(one)
        if one != name and at.bound and table.weights[one]:
            (sick if at.sick else rivals).append((one, at))
    emergency = message_class is MessageClass.EMERGENCY
    if own.sick:
        if rivals:
            probes = own.probe and not emergency
            return PROBES if probes else NOT_WHILE_SICK
        rivals = sick  # they count only where all are
    mine = table.rank(lane, name)
    ready, waits = [name], False
    full: list[str] = []
    for one, at in rivals:
        its = table.rank(lane, one)
        able = at.room and not at.paused
        if its < mine:
            if able:
                return Quota(most=0, why=stands or Reason.BEHIND)
            waits = waits or not at.paused
        elif its == mine:
            (ready if able else full).append(one)
    until = patient_until if waits and not emergency else inf
    if len(ready) == 1 and not full:
        return ALL if until == inf else Quota(most=EVERYTHING, until=until)
    most = shares.allow(lane.carriers, name, ready=ready, full=full, weights=table.weights)
    return Quota(most=most, until=until, why=Reason.MAY if most else Reason.TURN)


def routes(
    table: Table, lane: Lane, conditions: Conditions, message_class: MessageClass = MessageClass.SERVICE
) -> tuple[Route, ...]:
    """Every carrier, the likeliest first, with the reason why it may or may not carry the lane's texts now.

    Shares by weight are left out: whose turn it is may change with each text.
    """
    places: list[tuple[int, bool, int, Route]] = []
    for name in lane.carriers:
        condition = conditions(name)
        stands = standing(table, lane, name, condition)
        if stands in UNUSABLE:
            reason = stands
        elif condition.paused:
            reason = Reason.PAUSED
        elif not condition.room:
            reason = Reason.FULL
        else:
            found = quota(
                table,
                Shares(),
                lane,
                name,
                conditions=conditions,
                message_class=message_class,
                patient_until=0.0,
            )
            reason = found.why if not found.most or found.why is not Reason.MAY else Reason.MAY
            if found.most and found.until < inf:
                reason = Reason.BEHIND
        group = 0 if reason in {Reason.MAY, Reason.TURN} else 2 if reason in UNUSABLE else 1
        route = Route(carrier=name, may=group == 0, reason=reason)
        places.append((group, stands is Reason.SICK, table.rank(lane, name), route))
    places.sort(key=lambda place: place[:3])
    return (
        *(route for *_, route in places),
        *(Route(carrier=name, may=False, reason=reason) for name, reason in lane.excluded),
    )
