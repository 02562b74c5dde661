"""Back to the preferred site by itself (`leadership.failback`): in which runs, and when it may begin, by what stands in
etcd at that moment and stood there before.

An ask compares `leader`, `sync`, `swap`, what people want and every place's word: so of these what stands there is what
it was reasoned from, and nothing of it is excused. Of the quiet time a leader sees what etcd shows it: what was over
before it was shown has not been there, for as long as nobody's watch stands still.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sitecontrol.records import Swap
from sitecontrol.view import Snapshot
from tests.simulation.scene import Site
from tests.simulation.scheduler import Scheduler

HOME, AWAY = "columbus", "denver"  # as the shipped settings have it
NOTHING = Snapshot()
NOT_HOME = f"production is not back in {HOME}"
EVERY = 5  # in every fifth seed production goes back by itself
CLOSED_EVERY = 30  # and in every thirtieth only while the leader's wall clock is an hour ahead
AN_HOUR_AHEAD = "01:00-02:00"  # runs begin at midnight
BLINK = 2.5  # seconds: what is over sooner may not have been seen, as by an agent that was stopped
DECIDED_WITHIN = 2.0  # seconds from a look at the clock to the ask


@dataclass(frozen=True, kw_only=True)
class Failback:
    """The settings of it. No real ones allow less than a minute of quiet."""

    after: float = 3.0
    hours: str = ""


def failback_of(seed: int) -> Failback | None:
    if seed % EVERY != EVERY - 2:
        return None
    return Failback(hours=AN_HOUR_AHEAD if seed % CLOSED_EVERY == EVERY - 2 else "")


def in_hours(hours: str, wall: datetime) -> bool:
    """`hours`: "HH:MM-HH:MM", within one day."""
    first, _, last = hours.partition("-")
    return not hours or first <= f"{wall:%H:%M}" < last


@dataclass(kw_only=True)
class Returns:
    """What has been so since when, followed step by step."""

    scheduler: Scheduler
    sites: Mapping[str, Site]
    wanted: Failback
    stalls: bool  # a watch stands still in this run: its agent may miss more than a blink
    _before: Snapshot = NOTHING  # what was believed before the last change
    _seen: Snapshot = NOTHING
    _unfit_since: float | None = None  # somebody's word speaks against it
    _quiet_since: float = 0.0
    _term: int = 0
    _term_since: float = 0.0
    _in_hours_at: float = float("-inf")  # by the wall clock of the site that is not home

    def look(self, picture: Snapshot) -> None:
        """After every step that changed anything."""
        now = self.scheduler.now
        if self.in_hours:
            self._in_hours_at = now
        if picture is self._seen:
            return
        if any(_under_way(self._seen)):  # until now
            self._quiet_since = now
        self._before, self._seen = self._seen, picture
        if picture.leader is not None and picture.leader.record.term != self._term:
            self._term, self._term_since = picture.leader.record.term, now
        self._look_at_words(picture, now)

    def _look_at_words(self, picture: Snapshot, now: float) -> None:
        """These are others' to write: the leader sees them when etcd shows them."""
        if any(_told_unfit(picture)):
            self._unfit_since = now if self._unfit_since is None else self._unfit_since
        elif self._unfit_since is not None:
            if now - self._unfit_since > BLINK and not self.stalls:
                self._quiet_since = now
            self._unfit_since = None

    def wrong(self, swap: Swap, clocks: float) -> Iterator[str]:
        """Why it must not have been asked for just now. `clocks`: how slow the slowest is."""
        now, after = self.scheduler.now, self.wanted.after * clocks
        yield from _forbidden(self._before, swap)
        if now - self._term_since < after:
            yield f"the term began {now - self._term_since:.2f} s ago"
        if now - self._quiet_since < after:
            yield f"it was quiet for {now - self._quiet_since:.2f} s only"
        if not in_hours(self.wanted.hours, swap.requested_at) and now - self._in_hours_at > DECIDED_WITHIN:
            yield f"it is not between {self.wanted.hours} by the clock of who asks"

    @property
    def in_hours(self) -> bool:
        return in_hours(self.wanted.hours, self.sites[AWAY].clock.wall())


def _forbidden(picture: Snapshot, swap: Swap) -> Iterator[str]:
    """By what an ask compares."""
    leader, wanted = picture.leader, picture.desired.record if picture.desired is not None else None
    if picture.swap is not None:
        yield f"swap {picture.swap.record.id} is in progress"
    if leader is None or leader.record.node != swap.from_node or leader.record.site == HOME:
        yield "production does not run where it is to leave"
    if wanted is not None and wanted.paused:
        yield "automatic swaps are paused"
    if wanted is not None and wanted.planned is not None:
        yield f"swap {wanted.planned.id} is planned"
    if wanted is not None and any(window.until > swap.requested_at for window in wanted.maintenance or ()):
        yield "there is maintenance"
    if swap.to_node not in _in_step(picture):
        yield f"{swap.to_node} is not in step"
    yield from _told_unfit(picture)


def _under_way(picture: Snapshot) -> Iterator[str]:
    """What the leader itself drives, and so has seen: such a moment begins the quiet time anew."""
    if picture.leader is None or picture.leader.record.site == HOME:
        yield "production does not run elsewhere"
    if picture.swap is not None:
        yield "a swap is in progress"
    if not any(node.startswith(HOME) for node in _in_step(picture)):
        yield f"{HOME} is not in step"


def _told_unfit(picture: Snapshot) -> Iterator[str]:
    words = picture.observations
    for place, word in words.items():
        if False in word.record.fit.values():
            yield f"{place} sees a site unfit"
    if sum(word.record.fit.get(HOME, False) and not word.record.blind for word in words.values()) < 2:
        yield f"fewer than two places see {HOME} fit"


def _in_step(picture: Snapshot) -> tuple[str, ...]:
    return tuple(s.node for s in picture.sync.record.standbys) if picture.sync is not None else ()
