"""What a node's agent knows at one moment, and the questions that decisions ask of it. Pure data, no I/O.

Durations are seconds on `Clock.now()`; "unknown" is None, never a default that could be mistaken for a fact.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from sitecontrol.frozen import reckoned
from sitecontrol.leadership.observed import Watch
from sitecontrol.records import InStep, Leader, Maintenance, Member, Phase, Position, Swap, Sync
from sitecontrol.settings import FailoverSettings
from sitecontrol.view import Bad, Entry, Snapshot

LATER_VERSION_PATIENCE = (
    10.0  # seconds that the agent of a later version may not be heard, as while it starts again
)


class PgState(Enum):
    """What our PostgreSQL is doing."""

    ABSENT = "absent"  # no data directory
    UNUSABLE = "unusable"  # a clone, rewind or initdb was cut off half way: only a fresh clone helps
    STOPPED = "stopped"  # no process (stopped, crashed, or killed)
    PRIMARY = "primary"  # runs and takes writes
    STANDBY = "standby"  # runs in recovery
    STARTING = "starting"  # it runs and says that it does not take connections yet (recovery)
    MUTE = "mute"  # a process runs, but it does not answer


@dataclass(frozen=True, kw_only=True)
class StandbyFacts:
    """One standby as the primary sees it (pg_stat_replication, plus when it last moved)."""

    name: str
    streaming: bool
    flush_lsn: int
    replay_lsn: int
    moved_at: float  # when its flush position last advanced, or had nothing to advance to
    still: int = 0  # looks in a row at which it had not moved
    flush_lag_s: float = (
        0.0  # how long the newest commit took, or the oldest waits already, to be on its disk
    )
    replay_lag_s: float | None = None  # until it could be read there; None: nothing to measure by


@dataclass(frozen=True, kw_only=True)
class SlotFacts:
    """A replication slot of our own PostgreSQL."""

    name: str
    lsn: int  # from here on WAL is kept
    lost: bool  # it kept more than it may, and keeps nothing any more


@dataclass(frozen=True, kw_only=True)
class PgFacts:
    state: PgState
    since: float = 0.0  # in this state since
    looked_at: float = 0.0  # when all this was seen
    down_since: float | None = None  # it does not answer as a primary or a standby since; None: it does
    unfinished: bool = (
        False  # made by a first start that was cut off: unless it became the cluster, it is nothing
    )
    system_id: str | None = None
    incarnation: str | None = None
    timeline: int = 0
    control_timeline: int = 0  # as its control file has it, which is all that is left of it after a restart
    received_lsn: int = 0  # standby: the greater of received and replayed; primary: flushed
    replayed_lsn: int = 0
    whole_lsn: int = 0  # PRIMARY: the end of a record, flushed: crash recovery comes at least to there
    unflushed_since: float | None = None  # PRIMARY: there is WAL to flush, and its disk has taken none since
    unreplayed_since: float | None = None  # STANDBY: there is WAL to replay, and it has replayed none since
    received_at: float | None = None  # STANDBY: when it last received some
    clean_shutdown_lsn: int | None = (
        None  # STOPPED: end of the shutdown record, if it was shut down as a primary
    )
    was_primary: bool = False  # STOPPED: it ran as a primary before
    follows: str | None = None  # STANDBY: the node whose address it was told to follow
    compared_in: int | None = None  # STANDBY: the term in whose leader's history ours was found to go on
    apart_from: str | None = (
        None  # a leader that has a timeline of the number of one of ours, and another one
    )
    upstream: bool = False  # STANDBY: a walreceiver is streaming
    open_term: int | None = None  # PRIMARY: the term this very start was opened for
    opened_at: float | None = (
        None  # PRIMARY: when it was, or when this agent, just started, first saw that it is
    )
    row_term: int | None = None  # the term in control.leadership, whoever opened it
    remote_in_step: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # synchronous_standby_names as the server has it
    standbys: tuple[StandbyFacts, ...] = ()
    slots: tuple[SlotFacts, ...] = ()
    canary_at: float | None = None  # PRIMARY: begin of the last committed canary; STANDBY: last new one seen
    canary_written: datetime | None = None  # when the newest that is here was, by its writer's wall clock
    wal_free: int | None = None  # bytes on the volume of its WAL
    wal_volume: int | None = None  # all bytes of that volume
    failed_starts: int = 0  # starts in a row that ended at once
    start_failed_at: float | None = None  # STOPPED: when the last of them did


@dataclass(frozen=True, kw_only=True)
class LeaseFacts:
    """Our own lease, reckoned from before the last successful renewal was sent."""

    id: int = 0  # 0 = none
    ends_at: float = 0.0
    former: int = 0  # the one that we lost before, in which a record of ours may still be seen; 0 = none


@dataclass(frozen=True, kw_only=True)
class Peer:
    """What another node's PostgreSQL said when asked directly."""

    received_lsn: int
    asked_at: float


def is_heard(heard_at: float | None, now: float, settings: FailoverSettings) -> bool:
    return heard_at is not None and now - heard_at <= settings.etcd_silence


@dataclass(frozen=True, kw_only=True)
class Facts:
    now: float
    wall: datetime
    node: str
    site: str
    preferred: bool  # our site is the preferred one
    site_of: dict[str, str]  # every configured node's site
    settings: FailoverSettings
    cluster: Snapshot
    cluster_read: bool  # everything was read from etcd at least once since this agent started
    etcd_heard_at: float | None  # etcd's last word to us
    lease: LeaseFacts
    pg: PgFacts
    home: str | None = None  # the preferred site
    later_version_at: float | None = None  # an agent of a later version was, or may have been, heard last
    leader_absent_since: float | None = None  # when we first saw that nobody leads
    peers: dict[str, Peer] = field(default_factory=dict)
    follow_failed_since: float | None = None  # we run as a standby of the leader and nothing streams, since
    join_after: Mapping[str, float] = field(default_factory=dict)  # standbys that failed to join: until when
    repairs: int = 0  # rewinds and clones tried since we last followed well
    swap_phase_since: float | None = None  # when we first saw the swap in its present phase
    hand_over_unsent: bool = False  # of the swap in progress; False: it was sent, or perhaps
    swap_ended_at: float = 0.0  # when the last swap's record disappeared
    lead_since: float | None = None  # when we first saw ourselves named as the leader
    reached_since: float | None = None  # when we first saw `reached` as it is
    etcd_leader_here: bool = False  # etcd's own leader runs in our site
    etcd_leader_target: int | None = None  # a member elsewhere that could take it
    etcd_members: Mapping[str, bool] = field(
        default_factory=dict
    )  # place -> its member answers; empty: unknown
    etcd_leader_place: str | None = None  # where etcd's own leader runs; None: unknown
    etcd_full: bool = False  # it said a moment ago that it takes no writes
    dispatchers_of: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # site -> its dispatchers, by the settings
    # Bytes that should be free for our WAL before production is moved here; None: by the size of its volume.
    wal_room: int | None = 0
    live_site_sends: bool = True  # only the live site's dispatchers send (dispatcher.egress)
    places: tuple[str, ...] = ()  # every configured place: all that may observe
    health: Watch = field(default_factory=Watch)  # what was seen of the places' words so far

    # -- questions ---------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """An operator has switched automatic swaps off, or perhaps: what people want was never read, and is bad now."""
        desired = self.cluster.desired
        return desired.record.paused if desired is not None else self.bad("desired")

    def maintenance(self, site: str) -> Maintenance | None:
        """The work that is announced at a site. One that we saw begin lasts by our own clock, too: a wall clock that
        jumps ends nothing early.
        """
        desired = self.cluster.desired
        for window in (desired.record.maintenance if desired else None) or ():
            seen_for = self.now - self.health.windows.get(window, float("-inf"))
            if window.site == site and (
                self.wall < window.until or seen_for < (window.until - window.since).total_seconds()
            ):
                return window
        return None

    @reckoned
    def leader(self) -> Entry[Leader] | None:
        return self.cluster.leader

    @reckoned
    def sync(self) -> Sync | None:
        return self.cluster.sync.record if self.cluster.sync else None

    @reckoned
    def swap(self) -> Swap | None:
        return self.cluster.swap.record if self.cluster.swap else None

    @reckoned
    def term(self) -> int:
        return self.cluster.term.record.term if self.cluster.term else 0

    def bad(self, name: str) -> bool:
        """What stands under this key in etcd is not believed (`sitecontrol.belief`)."""
        return name in self.cluster.bad

    def mendable(self, name: str) -> bool:
        """It is not believed, and no later version of this program can have written it."""
        bad = self.cluster.bad.get(name)
        return bad is not None and not self.of_later_version(bad)

    def of_later_version(self, bad: Bad) -> bool:
        """It says so, and an agent of such a version is heard, or was a moment ago. Without one anybody wrote it."""
        heard = self.later_version_at
        about = self.cluster.tells_of_later_version or (
            heard is not None and self.now - heard <= LATER_VERSION_PATIENCE
        )
        return bad.newer and about

    @reckoned
    def lead(self) -> bool:
        """Etcd names *us*: by our lease, never by our name."""
        leader = self.leader
        return leader is not None and self.lease.id != 0 and leader.lease == self.lease.id

    @reckoned
    def led_by_other(self) -> bool:
        return self.leader is not None and not self.lead and self.leader.record.node != self.node

    @property
    def lease_ends_in(self) -> float:
        return self.lease.ends_at - self.now

    @reckoned
    def lease_safe(self) -> bool:
        return self.lease.id != 0 and self.lease_ends_in > self.settings.lease_margin

    @reckoned
    def etcd_here(self) -> bool:
        """Etcd spoke to us within the last renewal periods."""
        return is_heard(self.etcd_heard_at, self.now, self.settings)

    @property
    def etcd_proof_ends(self) -> float:
        """Until when etcd alone shows that nobody else leads: by its word, or by our lease. May be long past."""
        ends = [float("-inf")]
        if self.etcd_heard_at is not None:
            ends.append(self.etcd_heard_at + self.settings.etcd_silence)
        if self.lease.id != 0:
            ends.append(self.lease.ends_at - self.settings.lease_margin)
        return max(ends)

    @property
    def proved_by_canary_since(self) -> bool:
        """A canary that began after etcd's proof had ended has committed. From then on we serve by the canary alone:
        while one waits nothing can be acknowledged, and whether anybody else was promoted only etcd will tell.
        """
        return self.pg.canary_at is not None and self.pg.canary_at > self.etcd_proof_ends

    @property
    def canary_age(self) -> float | None:
        """Seconds since the last canary. An open primary that has written none since it was opened counts from then:
        a barrier had just committed. Or from when an agent that was just started saw it open.
        """
        pg = self.pg
        opened = pg.opened_at if pg.open_term is not None else None
        began = [at for at in (pg.canary_at, opened) if at is not None]
        return self.now - max(began) if began else None

    @property
    def canary_fresh(self) -> bool:
        age = self.canary_age
        return age is not None and age <= self.settings.canary_max_age

    @property
    def unflushed_for(self) -> float:
        """Seconds that the disk of our primary has taken no WAL, though there is some."""
        since = self.pg.unflushed_since
        return 0.0 if since is None or self.pg.state is not PgState.PRIMARY else self.now - since

    @property
    def unreplayed_for(self) -> float:
        """Seconds that our standby has replayed nothing, though there is something to replay."""
        since = self.pg.unreplayed_since
        return 0.0 if since is None or self.pg.state is not PgState.STANDBY else self.now - since

    @property
    def our_place_in_step(self) -> InStep | None:
        """Our own entry in `sync`, if it is for this very data directory."""
        if self.sync is None:
            return None
        mine = (s for s in self.sync.standbys if s.node == self.node)
        return next((s for s in mine if s.incarnation == self.pg.incarnation), None)

    @property
    def retired(self) -> frozenset[str]:
        """Nodes that an operator counts as gone for good, and whose agents are not heard."""
        desired = self.cluster.desired
        return frozenset((desired.record.retired if desired else None) or ()) - self.cluster.members.keys()

    @property
    def recorded_leader(self) -> bool:
        """`sync` names us, with this data directory, as the leader of its term."""
        sync = self.sync
        return (
            sync is not None
            and sync.leader == self.node
            and self.pg.incarnation is not None
            and sync.leader_incarnation == self.pg.incarnation
        )

    @property
    def may_lead(self) -> bool:
        """Failover rule 4: nothing that was acknowledged can be missing here."""
        if self.recorded_leader:
            # Of a primary at rest only the last checkpoint is known: it is judged when it has started, before it opens.
            return self.pg.was_primary or self.short_of is None
        mine = self.our_place_in_step
        return (
            mine is not None
            and self.pg.timeline >= mine.timeline
            and max(self.pg.received_lsn, self.pg.replayed_lsn) >= mine.lsn
            and self.short_of is None
        )

    def had(self, node: str) -> Position | None:
        """How far a node that held every acknowledged message is recorded to have come."""
        reached = self.cluster.reached
        return next((p for p in reached.record.nodes if p.node == node), None) if reached else None

    @property
    def short_of(self) -> Position | None:
        """What we are recorded to have reached, if what is here is less: then it is an older copy, or not replayed yet.

        By the node's name: a data directory that was disowned, or lost its identity, is still no more than it is.
        """
        had = self.had(self.node)
        here = self.pg.timeline, max(self.pg.received_lsn, self.pg.replayed_lsn)
        return had if had is not None and here < (had.timeline, had.lsn) else None

    @property
    def other_in_step(self) -> bool:
        """Somebody else, whose agent is alive, could take over if we gave the lead up."""
        sync = self.sync
        complete = {sync.leader, *(s.node for s in sync.standbys)} if sync is not None else set()
        return any(node in self.cluster.members for node in complete - {self.node})

    @reckoned
    def open(self) -> bool:
        """Dispatchers are let in, in the term that we hold."""
        return (
            self.pg.state is PgState.PRIMARY
            and self.pg.open_term is not None
            and self.pg.open_term == self.term
        )

    @property
    def compared(self) -> bool:
        """Whoever leads was asked in this term, and its history goes on from ours."""
        return self.leader is not None and self.pg.compared_in == self.leader.record.term

    def member(self, node: str) -> Entry[Member] | None:
        return self.cluster.members.get(node)

    @property
    def name_taken_by(self) -> Entry[Member] | None:
        """The record that another agent keeps under our name, as one with a copied configuration does. Not our own from
        before our lease was lost: it is bound to that one or, from before a restart, tells of this very data directory.
        And whom `sync` names gives way to nobody.
        """
        told = self.member(self.node)
        if told is None or told.lease in (self.lease.id, self.lease.former) or self.lead:
            return None
        ours = self.pg.incarnation is not None and told.record.incarnation == self.pg.incarnation
        known = self.recorded_leader or self.our_place_in_step is not None
        return None if ours or known else told

    def standby(self, node: str) -> StandbyFacts | None:
        return next((s for s in self.pg.standbys if s.name == node), None)

    @property
    def released_by(self) -> str | None:
        """Who gave the last term up by itself: nobody else has to wait for its canary to grow old."""
        return self.cluster.term.record.released_by if self.cluster.term else None

    @property
    def down_for(self) -> float:
        """Seconds that our PostgreSQL could have been started again in, and was not."""
        since = self.pg.down_since
        if since is None:
            return 0.0
        return self.now - max(since, self.swap_ended_at, self.lead_since or 0.0)

    @property
    def phase_age(self) -> float:
        """Seconds that the swap in progress has been in its phase, by our own clock."""
        return 0.0 if self.swap_phase_since is None else self.now - self.swap_phase_since

    @reckoned
    def swap_leaves_us(self) -> bool:
        """We are the leader that a swap before its hand-over is moving production away from."""
        swap = self.swap
        return (
            swap is not None
            and self.lead
            and swap.from_node == self.node
            and swap.term == self.term
            and swap.phase in (Phase.REQUESTED, Phase.CHECKED, Phase.HELD)
        )

    @property
    def drained(self) -> bool:
        """Every dispatcher of our site has stopped claiming and has no submit without an answer. One whose record is
        not believed may be of our site, and is not known to have.
        """
        swap = self.swap
        if swap is None or any(name.startswith("dispatchers/") for name in self.cluster.bad):
            return False
        ours = [d.record for d in self.cluster.dispatchers.values() if d.record.site == self.site]
        return all(d.held_for == swap.id and d.unanswered == 0 for d in ours)

    @property
    def handed_cleanly(self) -> bool:
        """We shut down clean and handed over to the present leader, who holds all that we have: just follow."""
        swap, leader = self.swap, self.leader
        return (
            swap is not None
            and leader is not None
            and self.pg.clean_shutdown_lsn is not None
            and swap.from_node == self.node
            and swap.to_node == leader.record.node
            and leader.record.term == swap.term + 1
            and swap.phase not in (Phase.REQUESTED, Phase.CHECKED, Phase.HELD)
        )

    def in_phase(self, *phases: Phase) -> bool:
        return self.swap is not None and self.swap.phase in phases
