"""Which link may take which texts now: the table of `routing`, asked with what the carriers' links can do just then.

It also decides what goes back to the queue because no carrier can take it now. Such texts come back after a while that
grows with the outage, and spread out: however many they are, they come no faster than `RETURNED_PER_S`, so that those
behind them in the queue are reached. Nothing here waits or writes.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Any, Final, Protocol
from uuid import UUID

from dispatcher.engine.backlog import NOTHING, Claimed, Waiting
from dispatcher.engine.circuit import Circuit, Sort
from dispatcher.engine.routing import (
    ALL,
    EVERYTHING,
    Condition,
    Lane,
    Quota,
    Reason,
    Route,
    Shares,
    Table,
    quota,
    routes,
    standing,
    usable,
)
from dispatcher.model import Claim, MessageClass
from dispatcher.smpp.link import Answer
from dispatcher.smpp.status import StatusClass, describe
from sitecontrol.clock import Clock
from sitecontrol.settings_carriers import Carrier, RouteBy

RETURNED_PER_S: Final = 200.0  # texts of one lane that come back from waiting for a carrier
FIRST_AWAY_S, LONGEST_AWAY_S = 2.0, 300.0  # a quarter of the outage, within these
EMERGENCY_AWAY_S = (1.0, 60.0)  # the same for emergencies, which are not spread out
LATEST_TURN_S: Final = 3_600.0
REFUSALS_KEPT: Final = 20_000
MEASURED_OVER_S: Final = 2.0
GRANTED_FOR_S: Final = 0.005
AHEAD_AT_MOST: Final = 4  # batches of a lane that moves, or is new


class Why(StrEnum):
    """Why texts are given back."""

    NOBODY = "nobody_may"  # by the settings no carrier may carry them
    DOWN = "all_down"  # those that may have no bound link
    MANY = "too_many"  # more were claimed than those that may can take in time


class RoutedLink(Protocol):
    """What is used of `dispatcher.smpp.link.Link`."""

    @property
    def bound(self) -> bool: ...

    @property
    def free(self) -> bool: ...

    @property
    def throttled(self) -> bool: ...


class _Away:
    """Texts of a lane that are given back for one reason."""

    def __init__(self, now: float) -> None:
        self.since = now
        self.texts = 0  # given back, each time counted
        self.next_turn = now

    def turn_s(self, after_s: float, per_s: float, now: float) -> float:
        """Seconds until the next of them comes again."""
        self.next_turn = max(now + after_s, self.next_turn) + 1 / per_s
        return min(self.next_turn - now, LATEST_TURN_S)


@dataclass(slots=True)
class Grant:
    """What a link may take was decided a moment ago: many small writes need not ask each time."""

    until: float
    left: int


class Asked:
    """`Quotas` for one link at one moment: each carrier is looked at once."""

    def __init__(
        self, router: "Router", shares: Shares, name: str, *, now: float, patient_until: float
    ) -> None:
        self._router = router
        self._shares = shares
        self._name = name
        self._now = now
        self._patient_until = patient_until
        self._known: dict[str, Condition] = {}
        self._grants = router.grants.setdefault(name, {})
        self.turn = False  # it is another carrier's turn, that has room: soon over

    def __call__(self, lane: Lane | None, message_class: MessageClass) -> Quota:
        if lane is None:  # claimed when there was nothing to choose
            return ALL
        grant = self._grants.get((lane, message_class))
        if grant is not None and grant.until > self._now and grant.left > 0:
            return ALL if grant.left >= EVERYTHING else Quota(most=grant.left)
        found = quota(
            self._router.table,
            self._shares,
            lane,
            self._name,
            conditions=self._condition,
            message_class=message_class,
            patient_until=self._patient_until,
        )
        if found.why is Reason.TURN:
            self.turn = True
        elif found.why is Reason.MAY and found.until == inf:
            self._grants[lane, message_class] = Grant(self._now + GRANTED_FOR_S, found.most)
        return found

    def _condition(self, name: str) -> Condition:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._router.condition(name)
        return known


class Router:
    """`program_name` tells a program's name by its number, or None while that is not known."""

    def __init__(self, *, clock: Clock, program_name: Callable[[int], str | None] = lambda _: None) -> None:
        self._clock = clock
        self._program_name = program_name
        self._links: dict[str, list[RoutedLink]] = {}
        self._circuits: dict[str, Circuit] = {}
        self._shares = Shares()
        self.grants: dict[str, dict[tuple[Lane, MessageClass], Grant]] = {}  # by carrier
        self._refused: dict[tuple[UUID, int], str] = {}  # where each text was last refused for now
        self._away: dict[tuple[tuple[str, ...], Why], _Away] = {}
        self._written: Counter[tuple[str, ...]] = Counter()  # by lane, since `_measured_since`
        self._pace: dict[tuple[str, ...], float] = {}
        self._measured_since = clock.now()
        self.table = Table((), by=RouteBy.WEIGHT, wait_s=0.0)
        self.chosen: Counter[str] = Counter()  # texts written, by carrier
        self.excluded: Counter[tuple[str, Reason]] = Counter()  # texts that it may not carry, by its settings
        self.returned: Counter[str] = Counter()  # texts given back, by why

    def use(self, table: Table, links: Iterable[tuple[Carrier, RoutedLink]]) -> None:
        """From now on. `links`: those that send."""
        self.table = table
        self.grants = {name: {} for name in table.carriers}
        self._links = {}
        for carrier, link in links:
            self._links.setdefault(carrier.name, []).append(link)
        for name in table.carriers:
            self._circuits.setdefault(name, Circuit())

    def forget(self, names: Iterable[str]) -> None:
        """These carriers are reached in another way now: how they were tells nothing."""
        for name in names:
            self._circuits[name] = Circuit()

    @property
    def plain(self) -> bool:
        return self.table.plain

    # -- which carriers a text has

    def lane(self, claim: Claim) -> Lane | None:
        table = self.table
        if table.plain:
            return None
        if table.everywhere is not None and claim.attempt == 1:
            return table.everywhere
        program = self._program_name(claim.program_id) if self.table.asks_programs else None
        avoid = self._refused.get((claim.message_id, claim.segment), "") if claim.attempt > 1 else ""
        lane = self.table.lane(claim.source, program, claim.to, avoid)
        for one in lane.excluded:
            self.excluded[one] += 1
        return lane

    def condition(self, name: str) -> Condition:
        bound = room = throttled = going = False
        for link in self._links.get(name, ()):
            if not link.bound:
                continue
            bound = True
            if not room and link.free:
                room = going = True
            elif link.throttled:
                throttled = True
            else:
                going = True
        circuit = self._circuits.get(name)
        if circuit is None:
            return Condition(bound, room, throttled and not going)
        now = self._clock.now()
        circuit.look(now)
        return Condition(
            bound, room, throttled and not going, sick=not circuit.closed, probe=circuit.may_probe(now)
        )

    def quotas(self, name: str, good_for_s: float) -> "Asked | None":
        """What a link of this carrier may take now; None: whatever there is. `good_for_s`: the length of a claim."""
        if self.table.plain:
            return None
        now = self._clock.now()
        return Asked(self, self._shares, name, now=now, patient_until=now + good_for_s - self.table.wait_s)

    # -- what became of it

    def wrote(self, name: str, items: Sequence[Claimed]) -> None:
        """These were written to a link of the carrier."""
        self.chosen[name] += len(items)
        if self.table.plain or not items:
            return
        lane = items[0].lane
        if all(item.lane is lane for item in items):
            self._count(name, lane, len(items))
        else:
            for one, texts in Counter(item.lane for item in items).items():
                self._count(name, one, texts)
        circuit = self._circuits.get(name)
        if circuit is not None and not circuit.closed and circuit.may_probe(now := self._clock.now()):
            circuit.probed(now)

    def _count(self, name: str, lane: Lane | None, texts: int) -> None:
        if lane is not None:
            self._shares.took(lane.carriers, name, texts, self.table.weights.get(name, 1))
            self._written[lane.carriers] += texts
            for cls in MessageClass:
                if (grant := self.grants.get(name, {}).get((lane, cls))) is not None:
                    grant.left -= texts

    def answered(self, name: str, claim: Claim, answer: Answer) -> None:
        """What a carrier said of a text, or that it said nothing in time."""
        circuit = self._circuits.get(name)
        if circuit is None or self.table.plain:
            return
        taken = not answer.doubt and not answer.command_status
        if taken and claim.attempt > 1:
            self._refused.pop((claim.message_id, claim.segment), None)
        if taken and circuit.closed:
            circuit.good()
            return
        self._answered(circuit, name, claim, answer)

    def _answered(self, circuit: Circuit, name: str, claim: Claim, answer: Answer) -> None:
        now = self._clock.now()
        said = StatusClass.TEMPORARY if answer.doubt else describe(answer.command_status).status_class
        if said in {StatusClass.OK, StatusClass.PERMANENT}:
            circuit.answered(Sort.GOOD, now)
            return
        if said is StatusClass.TEMPORARY:
            circuit.answered(Sort.DOUBT if answer.doubt else Sort.ERROR, now)
        if len(self._refused) >= REFUSALS_KEPT:
            del self._refused[next(iter(self._refused))]
        self._refused[claim.message_id, claim.segment] = name

    # -- what goes back to the queue

    def admit(
        self,
        items: Sequence[Claimed],
        waiting: Mapping[Lane | None, Waiting],
        room_of: Callable[[Collection[str]], int],
        claim_for: float,
    ) -> tuple[list[Claimed], list[tuple[Claimed, float]]]:
        """Those to keep, and those to give back with the seconds until they come again.

        `waiting`: what each lane has already. `room_of`: how many texts these carriers' links are kept busy with.
        """
        if self.table.plain:
            return list(items), []
        self._measure()
        now = self._clock.now()
        kept: list[Claimed] = []
        away: list[tuple[Claimed, float]] = []
        left = {
            lane: self._left(lane, waiting.get(lane, NOTHING), room_of, claim_for)
            for lane in {item.lane for item in items}
        }
        if all(room == inf for room in left.values()):
            return list(items), []
        for item in items:
            lane = item.lane
            if left[lane] > 0 or (left[lane] > -inf and item.claim.message_class is MessageClass.EMERGENCY):
                left[lane] -= 1
                kept.append(item)
            else:
                away.append((item, self._away_s(item, claim_for, dead=left[lane] == -inf, now=now)))
        return kept, away

    def _left(
        self,
        lane: Lane | None,
        waiting: Waiting,
        room_of: Callable[[Collection[str]], int],
        claim_for: float,
    ) -> float:
        """How many more of a lane to keep; -inf: no carrier can take any."""
        if lane is None:
            return inf
        able = usable(self.table, lane, self.condition)
        if not able:
            return -inf
        self._away.pop((lane.carriers, Why.DOWN), None)
        everybody = [
            name for name in self._links if self.table.weights.get(name) and self.condition(name).bound
        ]
        if set(everybody) <= set(able):
            return inf  # whoever could be kept waiting by these takes part in sending them
        if waiting.deadline - self._clock.now() > claim_for / 2:  # it moves: or is new
            return AHEAD_AT_MOST * room_of(everybody) - waiting.texts
        in_time = self._pace.get(lane.carriers, 0.0) * claim_for / 2
        return max(1.0, room_of(able), in_time) - waiting.texts

    def stranded(self, lanes: Iterable[Lane | None]) -> list[Lane]:
        """Those that no carrier can take from."""
        return [lane for lane in lanes if lane is not None and not usable(self.table, lane, self.condition)]

    def give_back(self, items: Sequence[Claimed], claim_for: float) -> list[tuple[Claimed, float]]:
        """Texts of a stranded lane, with the seconds until they come again."""
        now = self._clock.now()
        return [(item, self._away_s(item, claim_for, dead=True, now=now)) for item in items]

    def _away_s(self, item: Claimed, claim_for: float, *, dead: bool, now: float) -> float:
        carriers = item.lane.carriers if item.lane is not None else ()
        why = Why.MANY if not dead else Why.DOWN if carriers else Why.NOBODY
        self.returned[why] += 1
        away = self._away.get((carriers, why))
        if away is None or (why is not Why.DOWN and away.next_turn + LONGEST_AWAY_S < now):
            away = self._away[carriers, why] = _Away(now)
        away.texts += 1
        if why is Why.MANY:
            pace = max(2 * self._pace.get(carriers, 0.0), RETURNED_PER_S / 4)
            return away.turn_s(claim_for / 2, pace, now)
        quarter = (now - away.since) / 4
        if item.claim.message_class is MessageClass.EMERGENCY:
            return min(max(quarter, EMERGENCY_AWAY_S[0]), EMERGENCY_AWAY_S[1])
        return away.turn_s(min(max(quarter, FIRST_AWAY_S), LONGEST_AWAY_S), RETURNED_PER_S, now)

    def _measure(self) -> None:
        now = self._clock.now()
        if (elapsed := now - self._measured_since) >= MEASURED_OVER_S:
            self._pace = {lane: texts / elapsed for lane, texts in self._written.items()}
            self._written.clear()
            self._measured_since = now

    # -- what is told

    def routes(
        self, source: str, program: str | None, to: str, message_class: MessageClass = MessageClass.SERVICE
    ) -> tuple[Route, ...]:
        return routes(self.table, self.table.lane(source, program, to), self.condition, message_class)

    def status(self) -> dict[str, Any]:
        """For `/status`."""
        now = self._clock.now()
        return {
            "by": self.table.by,
            "carriers": [
                {
                    "name": name,
                    "weight": carrier.weight,
                    "priority": carrier.priority,
                    "state": self.state(name),
                    "chosen": self.chosen[name],
                    "excluded": {
                        reason.name.lower(): texts
                        for (one, reason), texts in self.excluded.items()
                        if one == name
                    },
                }
                for name, carrier in self.table.carriers.items()
            ],
            "waiting": [
                {
                    "carriers": list(carriers),
                    "why": why,
                    "since_s": round(now - away.since, 3),
                    "given_back": away.texts,
                    "routes": [str(route) for route in routes(self.table, Lane(carriers), self.condition)],
                }
                for (carriers, why), away in self._away.items()
                if why is Why.DOWN or away.next_turn + LONGEST_AWAY_S > now
            ],
        }

    def state(self, name: str) -> str:
        """`up`, or what keeps it from being given texts, in a word."""
        condition = self.condition(name)
        reason = standing(self.table, Lane((name,)), name, condition)
        if reason is not None:
            return reason.name.lower()
        return "paused" if condition.paused else "up"
