"""Whether the leader's wall clock may be believed, for what happens because a time has come.

Theory: agents write their wall-clock time into `members/<node>` every second, and each place's health daemon writes
its own into `observations/<place>`. What is read there, less our own running clock when it reached us, says how far
each is ahead of the others; our own wall clock is not asked. A reading that was late on its way looks behind, by
less than a second as a rule.

Rules (messaging.md, "Accepting"):

* A leader that disagrees with *both* other places is not believed. With fewer readings nobody can tell which clock
  is wrong, and the leader's is believed.
* What was there before we watched was written at most `OLD_S` ago: it tells a clock that is an hour off, not one that
  is ten seconds off.
* The last reading of each counts until the next, also while etcd is away: clocks seldom jump. After `FORGET_S` it does
  not: by then our own running clock may have drifted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import structlog

from dispatcher.owned import Tasks
from sitecontrol.clock import Clock
from sitecontrol.settings import Settings
from sitecontrol.settings_types import Name
from sitecontrol.view import ClusterView, Snapshot

log = structlog.get_logger()

AGREE_WITHIN_S = 5.0  # more than a reading is late, and less than matters to a text
OLD_S = 15.0  # a record is written again every ten seconds at least, and goes with a lease of a few more
FORGET_S = 3_600.0


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A wall clock is `ahead_s` ahead of our running clock, or up to `more_s` more; read at `at` by the latter."""

    ahead_s: float
    more_s: float = 0.0
    at: float = 0.0


def apart(one: Reading, other: Reading) -> float:
    """Seconds by which two clocks differ at least."""
    return max(
        0.0,
        one.ahead_s - (other.ahead_s + other.more_s),
        other.ahead_s - (one.ahead_s + one.more_s),
    )


def disagrees(leader: Reading, others: Mapping[Name, Reading]) -> bool:
    return len(others) >= 2 and all(apart(leader, other) > AGREE_WITHIN_S for other in others.values())


def written_since(before: Snapshot, snapshot: Snapshot) -> Iterator[tuple[Name | None, Name | None, float]]:
    """What was written between two pictures: the node or the place, and its wall clock, seconds since 1970."""
    for node, member in snapshot.members.items():
        known = before.members.get(node)
        if known is None or known.mod_revision != member.mod_revision:
            yield node, None, member.record.wall.timestamp()
    for place, observation in snapshot.observations.items():
        seen = before.observations.get(place)
        if seen is None or seen.mod_revision != observation.mod_revision:
            yield None, place, observation.record.at.timestamp()


class Clocks:
    """Follows the picture of the cluster; `agree` says whether the clock of a leader may be believed."""

    def __init__(self, *, view: ClusterView, settings: Settings, clock: Clock) -> None:
        self._view = view
        self._settings = settings
        self._clock = clock
        self._nodes: dict[Name, Reading] = {}
        self._places: dict[Name, Reading] = {}
        self._believed = True  # as last told to the log
        self.tasks = Tasks("clocks")

    async def start(self) -> None:
        self.tasks.spawn(self._follow(), "follow")

    async def stop(self) -> None:
        await self.tasks.stop()

    def agree(self, leader: Name | None) -> bool:
        """Whether the wall clock of this node agrees with another place's, or nobody can tell."""
        now = self._clock.now()
        here = None if leader is None else self._nodes.get(leader)
        if leader is None or here is None or now - here.at > FORGET_S:
            return True
        home = self._settings.site_of(leader)
        others = {
            place: reading
            for place, reading in self._places.items()
            if place != home and now - reading.at <= FORGET_S
        }
        agrees = not disagrees(here, others)
        if agrees != self._believed:
            self._believed = agrees
            ahead = {place: round(here.ahead_s - reading.ahead_s, 1) for place, reading in others.items()}
            tell = log.info if agrees else log.error
            tell("leaders_clock_agrees" if agrees else "leaders_clock_disagrees", node=leader, ahead_s=ahead)
        return agrees

    async def _follow(self) -> None:
        before = Snapshot()
        while True:
            snapshot = self._view.snapshot
            self.look(before, snapshot, self._clock.now())
            before = snapshot
            await self._view.changed(before.serial)

    def look(self, before: Snapshot, snapshot: Snapshot, now: float) -> None:
        """Take the readings that are new in `snapshot`, which came `now`."""
        more = 0.0 if before.read_at is not None else OLD_S
        for node, place, wall in written_since(before, snapshot):
            reading = Reading(ahead_s=wall - now, more_s=more, at=now)
            if node is not None:
                self._nodes[node] = reading
                place = self._settings.site_of(node)  # noqa: PLW2901 # of a node we were not told of: None
            if place is not None:
                self._places[place] = reading
