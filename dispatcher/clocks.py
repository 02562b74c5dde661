"""Whether the leader's wall clock may be believed, for what happens because a time has come.

Theory: agents write their wall-clock time into `members/<node>` every second, and each place's health daemon writes
its own into `observations/<place>`. What is read there, less our own running clock when it reached us, says how far
each is ahead of the others; our own wall clock is not asked. A reading that was late on its way looks behind, by
less than a second as a rule.

Rules (messaging.md, "Accepting"):

* A leader that disagrees with *both* other places is not believed. With fewer readings nobody can tell which clock
  is wrong, and the leader's is believed.
* Only what was written while we watched counts: how old a record is that was there before, nobody knows.
* The last reading of each counts until the next, also while etcd is away: clocks seldom jump.
"""

from collections.abc import Iterator, Mapping

import structlog

from dispatcher.owned import Tasks
from sitecontrol.clock import Clock
from sitecontrol.settings import Name, Settings
from sitecontrol.view import ClusterView, Snapshot

log = structlog.get_logger()

AGREE_WITHIN_S = 5.0  # more than a reading is late, and less than matters to a text


def disagrees(leader_s: float, others_s: Mapping[Name, float]) -> bool:
    """`leader_s`: seconds by which the leader's clock is ahead of some common clock; `others_s`: the other places'."""
    return len(others_s) >= 2 and all(abs(leader_s - other) > AGREE_WITHIN_S for other in others_s.values())


def written_since(before: Snapshot, snapshot: Snapshot) -> Iterator[tuple[Name | None, Name | None, float]]:
    """What was written between two pictures: the node or the place, and its wall clock, seconds since 1970."""
    if before.read_at is None:
        return
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
        self._nodes: dict[Name, float] = {}  # seconds ahead of our running clock
        self._places: dict[Name, float] = {}
        self._believed = True  # as last told to the log
        self.tasks = Tasks("clocks")

    async def start(self) -> None:
        self.tasks.spawn(self._follow(), "follow")

    async def stop(self) -> None:
        await self.tasks.stop()

    def agree(self, leader: Name | None) -> bool:
        """Whether the wall clock of this node agrees with another place's, or nobody can tell."""
        ahead = self._nodes.get(leader) if leader is not None else None
        if leader is None or ahead is None:
            return True
        here = self._settings.site_of(leader)
        others = {place: value for place, value in self._places.items() if place != here}
        agrees = not disagrees(ahead, others)
        if agrees != self._believed:
            self._believed = agrees
            apart = {place: round(ahead - value, 1) for place, value in others.items()}
            tell = log.info if agrees else log.error
            tell("leaders_clock_agrees" if agrees else "leaders_clock_disagrees", node=leader, ahead_s=apart)
        return agrees

    async def _follow(self) -> None:
        before = self._view.snapshot
        while True:
            snapshot = await self._view.changed(before.serial)
            self.look(before, snapshot, self._clock.now())
            before = snapshot

    def look(self, before: Snapshot, snapshot: Snapshot, now: float) -> None:
        """Take the readings that are new in `snapshot`, which came `now`."""
        for node, place, wall in written_since(before, snapshot):
            if node is not None:
                self._nodes[node] = wall - now
                place = self._settings.site_of(node)  # noqa: PLW2901 # of a node we were not told of: None
            if place is not None:
                self._places[place] = wall - now
