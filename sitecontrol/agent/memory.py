"""What the agent remembers between two looks: since when something has been so. Pure bookkeeping on the clock."""

from dataclasses import dataclass

from sitecontrol.leadership.facts import PgFacts, PgState
from sitecontrol.records import Phase
from sitecontrol.view import Snapshot

FOLLOWED_WELL = 5.0  # seconds of streaming after which earlier repairs are forgotten


@dataclass
class Memory:
    leader_absent_since: float | None = None
    follow_failed_since: float | None = None
    follows_well_since: float | None = None
    repairs: int = 0
    swap_id: str | None = None
    swap_phase: Phase | None = None
    swap_phase_since: float | None = None
    swap_ended_at: float = 0.0
    lead_since: float | None = None

    def look(self, now: float, cluster: Snapshot, pg: PgFacts, node: str, lease: int = 0) -> None:
        self._look_at_leader(now, cluster, lease)
        self._look_at_following(now, cluster, pg, node)
        self._look_at_swap(now, cluster)

    def _look_at_leader(self, now: float, cluster: Snapshot, lease: int) -> None:
        leads = cluster.leader is not None and lease != 0 and cluster.leader.lease == lease
        if not leads:
            self.lead_since = None
        elif self.lead_since is None:
            self.lead_since = now
        if cluster.leader is not None or cluster.read_at is None:
            self.leader_absent_since = None
        elif self.leader_absent_since is None:
            self.leader_absent_since = now

    def _look_at_following(self, now: float, cluster: Snapshot, pg: PgFacts, node: str) -> None:
        leader = cluster.leader.record.node if cluster.leader else None
        should = pg.state is PgState.STANDBY and leader not in (None, node) and pg.follows == leader
        if should and pg.upstream:
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

    def _look_at_swap(self, now: float, cluster: Snapshot) -> None:
        swap = cluster.swap.record if cluster.swap else None
        if swap is None:
            if self.swap_id is not None:
                self.swap_ended_at = now
            self.swap_id = self.swap_phase = self.swap_phase_since = None
        elif (swap.id, swap.phase) != (self.swap_id, self.swap_phase):
            self.swap_id, self.swap_phase, self.swap_phase_since = swap.id, swap.phase, now
