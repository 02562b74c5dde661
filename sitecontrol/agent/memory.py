"""What the agent remembers between two looks: since when something has been so. Pure bookkeeping on the clock."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sitecontrol.leadership.facts import PgFacts, PgState
from sitecontrol.leadership.steps import pause_before_join
from sitecontrol.records import Member, Phase
from sitecontrol.view import Entry, Snapshot

FOLLOWED_WELL = 5.0  # seconds of streaming after which earlier repairs are forgotten
MOVED_WITHIN = 2.0  # seconds: a leader's canary moves its standbys several times in that


@dataclass
class Memory:
    later_version_at: float | None = None
    leader_absent_since: float | None = None
    follow_failed_since: float | None = None
    follows_well_since: float | None = None
    position: int | None = None  # as a standby of the present leader
    moved_at: float | None = None  # when that was last seen to grow
    repairs: int = 0
    swap_id: str | None = None
    swap_phase: Phase | None = None
    swap_seen_in: Phase | None = None  # the phase in which this agent first saw it
    sent_for: str | None = None  # the last swap whose hand-over it sent
    swap_phase_since: float | None = None
    swap_ended_at: float = 0.0
    lead_since: float | None = None
    reached_revision: int = 0
    reached_since: float | None = None
    failed_joins: dict[str, tuple[int, float]] = field(
        default_factory=dict
    )  # standby -> in a row, the last at
    rejoin_asked_at: datetime | None = None  # of ourselves, as our member record tells it
    members_heard: Mapping[str, Entry[Member]] | None = None  # when `rejoins_heard` was last told
    rejoins_heard: dict[str, datetime] = field(
        default_factory=dict
    )  # node -> when its last one was asked for

    @property
    def hand_over_unsent(self) -> bool:
        """No hand-over of the swap in progress was sent from here: not by this agent, nor by one before it, for this
        one has seen the swap since before that could be.
        """
        return self.swap_seen_in in (Phase.REQUESTED, Phase.CHECKED) and self.sent_for != self.swap_id

    def note_hand_over(self, swap: str) -> None:
        """It is about to be sent."""
        self.sent_for = swap

    @property
    def join_after(self) -> dict[str, float]:
        """Until when each standby that failed to come into step stays out."""
        return {node: at + pause_before_join(n) for node, (n, at) in self.failed_joins.items()}

    def note_failed_join(self, node: str, now: float) -> None:
        before, _ = self.failed_joins.get(node, (0, now))
        self.failed_joins[node] = (before + 1, now)

    def look(self, now: float, cluster: Snapshot, pg: PgFacts, node: str, lease: int = 0) -> None:
        self._look_at_versions(now, cluster)
        self._look_at_leader(now, cluster, lease)
        self._look_at_following(now, cluster, pg, node)
        self._look_at_swap(now, cluster)
        revision = cluster.reached.mod_revision if cluster.reached else 0
        if revision != self.reached_revision:
            self.reached_revision, self.reached_since = revision, now

    def _look_at_versions(self, now: float, cluster: Snapshot) -> None:
        """Whoever was heard before this agent started may have been of a later version."""
        first = self.later_version_at is None and cluster.read_at is not None
        if first or cluster.tells_of_later_version:
            self.later_version_at = now

    def hurry(self, asked_at: datetime) -> None:
        """An operator says that the leader has been waited for long enough, and that repairs may begin anew. The leader
        hears of it by our member record, for it may have us wait as well.
        """
        self.rejoin_asked_at = asked_at
        self.repairs = 0
        if self.follow_failed_since is not None:
            self.follow_failed_since = -math.inf

    def _look_at_leader(self, now: float, cluster: Snapshot, lease: int) -> None:
        leads = cluster.leader is not None and lease != 0 and cluster.leader.lease == lease
        if self.failed_joins:
            in_step = {s.node for s in cluster.sync.record.standbys} if cluster.sync else set()
            self.failed_joins = {
                n: tried for n, tried in self.failed_joins.items() if leads and n not in in_step
            }
        self._look_at_rejoins(cluster)
        if not leads:
            self.lead_since = None
        elif self.lead_since is None:
            self.lead_since = now
        if cluster.leader is not None or cluster.read_at is None:
            self.leader_absent_since = None
        elif self.leader_absent_since is None:
            self.leader_absent_since = now

    def _look_at_rejoins(self, cluster: Snapshot) -> None:
        """A standby whose operator asks for it anew may come into step at once."""
        if cluster.members is self.members_heard:
            return
        self.members_heard = cluster.members
        told = ((node, member.record.rejoin_asked_at) for node, member in cluster.members.items())
        asked = {node: at for node, at in told if at is not None}
        for node, at in asked.items():
            if at != self.rejoins_heard.get(node):
                self.failed_joins.pop(node, None)
        self.rejoins_heard = asked

    def _look_at_following(self, now: float, cluster: Snapshot, pg: PgFacts, node: str) -> None:
        leader = cluster.leader.record.node if cluster.leader else None
        should = pg.state is PgState.STANDBY and leader not in (None, node) and pg.follows == leader
        self._look_at_position(now, pg.received_lsn if should else None)
        if should and pg.upstream and (self._moves(now) or _has_all(cluster, pg)):
            self.follow_failed_since = None
            self.follows_well_since = self.follows_well_since or now
            if now - self.follows_well_since > FOLLOWED_WELL:
                self.repairs = 0
            return
        self.follows_well_since = None
        if not should:
            self.follow_failed_since = None
        elif self.follow_failed_since is None:
            self.follow_failed_since = now

    def _look_at_position(self, now: float, position: int | None) -> None:
        """A walreceiver says that it streams before the leader has agreed to it, and again at each try: one that is
        refused each time, because the WAL that it needs is gone, is known by its position, which stays as it is.
        """
        if position is None or self.position is None:
            self.moved_at = None
        elif position > self.position:
            self.moved_at = now
        self.position = position

    def _moves(self, now: float) -> bool:
        return self.moved_at is not None and now - self.moved_at <= MOVED_WITHIN

    def _look_at_swap(self, now: float, cluster: Snapshot) -> None:
        swap = cluster.swap.record if cluster.swap else None
        if swap is None:
            if self.swap_id is not None:
                self.swap_ended_at = now
            self.swap_id = self.swap_phase = self.swap_phase_since = self.swap_seen_in = None
            return
        if swap.id != self.swap_id:
            self.swap_seen_in = swap.phase
        if (swap.id, swap.phase) != (self.swap_id, self.swap_phase):
            self.swap_id, self.swap_phase, self.swap_phase_since = swap.id, swap.phase, now


def _has_all(cluster: Snapshot, pg: PgFacts) -> bool:
    """Whether nothing is missing here of what the leader last told that it has: then there is nothing to move for."""
    leader = cluster.members.get(cluster.leader.record.node) if cluster.leader else None
    return (
        leader is not None
        and pg.timeline == leader.record.timeline
        and pg.received_lsn >= leader.record.received_lsn
    )
