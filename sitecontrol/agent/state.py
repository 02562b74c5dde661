"""What the agent knows and decided last, and how it is told to others: the JSON of `/status`, `/cluster` and `/why`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sitecontrol.etcd.api import FULL
from sitecontrol.leadership import failback, health, planning, remembered, why
from sitecontrol.leadership.alike import differences_from_us
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.invariants import Broken
from sitecontrol.leadership.mending import in_step_unknown
from sitecontrol.leadership.reaching import HOLDING, older_copy
from sitecontrol.leadership.remembered import Remembered
from sitecontrol.leadership.room import lacks_wal_room
from sitecontrol.leadership.table import Decision, Lane
from sitecontrol.quarantine import SetAside
from sitecontrol.records import FORMAT, Phase, Role
from sitecontrol.traffic.moving import Progress

REPLAY_PATIENCE = 2.0  # seconds that a standby may replay nothing before it is no stand-in
BAD_RECORDS_TOLD = 50
FLUSH_PATIENCE = 1.0  # seconds that a disk may take no WAL before it is said


async def _nobody() -> Mapping[str, Mapping[str, Any] | None]:
    return {}


@dataclass
class AgentState:
    """The one mutable place that the loop writes and the API reads."""

    prefix: str
    facts: Facts
    version: str
    decisions: dict[Lane, Decision] = field(default_factory=dict)
    past: dict[Lane, tuple[Remembered, ...]] = field(default_factory=dict)  # each lane's last decisions
    fencing_ms: dict[str, float] = field(default_factory=dict)  # step -> when the last fencing reached it
    broken: Sequence[Broken] = ()  # invariants, as far as they are seen from here
    traffic: Mapping[str, Progress] = field(default_factory=dict)  # adapter -> how far it is
    set_aside: Callable[[], Sequence[SetAside]] = tuple  # the files of rows that this node alone held
    work: Callable[[], str | None] = lambda: None  # what is being done with PostgreSQL: an effect's name
    begin: Callable[[Decision], bool] = lambda _: False  # what an operator asked for; False: the lane is busy
    hurry: Callable[[], None] = lambda: None  # what was to be waited for is tried now
    # `GET /status` of each other node's agent; None: it is not heard.
    ask_others: Callable[[], Awaitable[Mapping[str, Mapping[str, Any] | None]]] = _nobody
    strangers: Callable[[], Sequence[str]] = (
        tuple  # members of etcd that belong to another cluster, with the cure
    )

    @property
    def serving(self) -> bool:
        """We are the live site: open, and named by etcd a moment ago; without its word, with a canary that commits.

        By our lease: etcd may answer while the picture that names us is old, because its watch hangs. Only a lease that
        `leader` is bound to, and that was just renewed, shows that nobody else has taken it since.

        The dispatchers judge alike (`dispatcher.gate`), so that a load balancer hears one answer from all of a site.
        """
        f = self.facts
        named = f.leader is not None and f.leader.record.node == f.node
        contradicted = f.leader is not None and not named
        proved = (f.lead and f.etcd_here) or f.canary_fresh
        closing = f.swap_leaves_us and f.in_phase(Phase.HELD) and f.etcd_here
        return f.open and proved and not contradicted and not closing

    @property
    def role(self) -> Role:
        f = self.facts
        if f.lead and f.pg.state is PgState.PRIMARY:
            return Role.LEADER
        if f.pg.state is PgState.STANDBY:
            # One that has not compared its history with the leader's may not come into step. While nobody leads, who is
            # in step may lead by what it holds.
            compared = (
                f.lead or f.pg.compared_in == f.term or (f.leader is None and f.our_place_in_step is not None)
            )
            return Role.STANDBY if compared else Role.STARTING
        if f.pg.state in (PgState.ABSENT, PgState.UNUSABLE):
            return Role.STARTING
        return Role.LEADER if self.serving else Role.STOPPED

    @property
    def reasons(self) -> list[str]:
        """Why this node cannot do its part now; empty when it can."""
        f = self.facts
        reasons: list[str] = []
        if not f.cluster_read:
            reasons.append("etcd was not read yet")
        elif not f.etcd_here and not self.serving:
            reasons.append("etcd is not reached")
        if not f.etcd_here:
            reasons.extend(self.strangers())
        reasons.extend(self._name_taken())
        if in_step_unknown(f) and not self.serving:
            reasons.append(why.UNKNOWN_IN_STEP)
        if f.pg.state is PgState.STANDBY and f.leader is None and older_copy(f):
            reasons.append(HOLDING.sentence)
        decision = self.decisions.get(Lane.POSTGRES)
        sentence = decision.sentence if decision else "nothing was decided yet"
        if f.pg.state is PgState.STANDBY:
            if f.lead:
                reasons.append(f"PostgreSQL of the leader is in recovery: {sentence}")
            elif not f.pg.upstream:
                reasons.append("PostgreSQL does not stream from the leader")
            if f.leader is not None and not f.lead and not f.compared:
                reasons.append(
                    "the leader has not told its history in this term yet: without it this node does not come into step"
                    " (why: `history_not_compared` or `effect_failed` in this agent's log)"
                )
            if f.unreplayed_for > REPLAY_PATIENCE:
                reasons.append(
                    "PostgreSQL receives from the leader, but replays nothing: is its replay paused?"
                )
            reasons.extend(lacks_wal_room(f))
        elif not self.serving:
            reasons.append(f"PostgreSQL is {f.pg.state.value}: {sentence}")
            reasons.extend(lacks_wal_room(f))  # which may be why it does not run
        elif f.unflushed_for > FLUSH_PATIENCE:
            reasons.append("the disk takes no WAL: nothing can commit")
        elif not f.canary_fresh:
            reasons.append("no canary has committed for a while: commits wait, or are about to begin again")
        if f.follow_failed_since is not None:
            reasons.append("the leader cannot be followed")
        return reasons

    def _name_taken(self) -> list[str]:
        other = self.facts.name_taken_by
        if other is None:
            return []
        disk = other.record.incarnation or "none yet"
        who = f"site {other.record.site}, data directory {disk}, lease {other.lease:x}"
        cure = "stop it, or give this node a name of its own (site.node)"
        return [f"another agent uses the name {self.facts.node} ({who}): {cure}"]

    @property
    def settings_differ(self) -> tuple[str, ...]:
        """Where other nodes run with other settings of [failover] than we do: an alarm, but no reason to do nothing."""
        return differences_from_us(self.facts)

    @property
    def bad_records(self) -> dict[str, str]:
        """What in etcd is not believed, and why: an alarm. Anybody may write any number of keys: not all are told."""
        bad = self.facts.cluster.bad
        return {name: bad[name].why for name in sorted(bad)[:BAD_RECORDS_TOLD]}

    @property
    def etcd_alarm(self) -> str | None:
        """What etcd itself says is wrong with it: an alarm, but nothing that keeps this node from doing its part."""
        return FULL if self.facts.etcd_full else None

    @property
    def invariants_broken(self) -> list[dict[str, str]]:
        """An alarm: a defect, or somebody's hand. What is promised is not sure until it is understood."""
        return [{"invariant": broken.invariant, "what": broken.what} for broken in self.broken]

    def status(self) -> dict[str, Any]:
        """`GET /status` (docs/interfaces.md)."""
        f = self.facts
        leader = f.leader.record if f.leader else None
        return {
            "node": f.node,
            "site": f.site,
            "role": self.role.value,
            "version": self.version,
            "writes_format": FORMAT,
            "term": f.term,
            "leader": leader.node if leader else None,
            "live_site": leader.site if leader else None,
            "is_open": f.open,
            "live": self.serving,
            "postgres": {
                "state": f.pg.state.value,
                "timeline": f.pg.timeline,
                "lsn": f.pg.received_lsn,
                "replayed_lsn": f.pg.replayed_lsn,
                "lag_bytes": max(0, f.pg.received_lsn - f.pg.replayed_lsn),
                "follows": f.pg.follows,
                "streaming": f.pg.upstream,
                "names": list(f.pg.names),
                "system_id": f.pg.system_id,
                "row_term": f.pg.row_term,
                "open_term": f.pg.open_term,
                "was_primary": f.pg.was_primary,
                "incarnation": f.pg.incarnation,
                "unfinished": f.pg.unfinished,
                "slots": [slot.name for slot in f.pg.slots],
                "standbys": [
                    {
                        "name": s.name,
                        "streaming": s.streaming,
                        "lag_bytes": max(0, f.pg.received_lsn - s.flush_lsn),
                        "replay_lag_bytes": max(0, f.pg.received_lsn - s.replay_lsn),
                        "lag_s": round(s.flush_lag_s, 3),
                        "replay_lag_s": None if s.replay_lag_s is None else round(s.replay_lag_s, 3),
                    }
                    for s in f.pg.standbys
                ],
            },
            "durability": self.durability,
            "lease_s": round(f.lease_ends_in, 3) if f.lease.id else None,
            "canary_age_s": None if f.canary_age is None else round(f.canary_age, 3),
            "etcd_reached": f.etcd_here,
            "etcd_alarm": self.etcd_alarm,
            "swap": f.swap.model_dump(mode="json") if f.swap else None,
            "decision": self._decision(Lane.POSTGRES),
            "decisions": {lane.value: self._decision(lane) for lane in self.decisions},
            "work": self.work(),
            "ready": not self.reasons,
            "reasons": self.reasons,
            "health": self._health(),
            "fencing": {"last_ms": self.fencing_ms},
            "traffic": [
                {"adapter": name, "state": told.state.value, "reason": told.reason}
                for name, told in self.traffic.items()
            ],
            "quarantine": self._quarantine(),
            "settings_differ": list(self.settings_differ),
            "if_lost": why.brief(f),
            "bad_records": self.bad_records,
            "invariants_broken": self.invariants_broken,
        }

    @property
    def unsettled(self) -> list[SetAside]:
        """What waits for an operator."""
        return [file for file in self.set_aside() if not file.settled]

    def _quarantine(self) -> dict[str, Any]:
        """An alarm, but nothing that keeps this node from doing its part."""
        files = self.unsettled
        rows = sum(file.header.rows for file in files)
        failed = [file.header.error for file in files if file.header.error is not None]
        alarm = f"{rows} rows that only this node held are set aside in {len(files)} files"
        if failed:
            alarm += f", and more could not be read ({failed[-1]})"
        return {
            "files": len(files),
            "rows": rows,
            "alarm": f"{alarm}: see `sitectl node quarantine list`" if files else None,
        }

    @property
    def durability(self) -> str:
        """By the records: whether every commit waits for another site."""
        f = self.facts
        if f.sync is None:
            return "unknown"
        home = f.site_of.get(f.sync.leader)
        remote = any(f.site_of.get(s.node) not in (None, home) for s in f.sync.standbys)
        return "two-site" if remote else "one-site"

    def cluster(self) -> dict[str, Any]:
        """`GET /cluster` (docs/interfaces.md)."""
        f = self.facts
        leader = f.leader.record if f.leader else None
        desired = f.cluster.desired.record if f.cluster.desired else None
        return {
            "live_site": leader.site if leader else None,
            "leader": leader.node if leader else None,
            "term": f.term,
            "durability": self.durability,
            "sync": [s.model_dump(mode="json") for s in f.sync.standbys] if f.sync else [],
            "swap": f.swap.model_dump(mode="json") if f.swap else None,
            "nodes": [{"node": node, "site": site} for node, site in sorted(f.site_of.items())],
            "members": [m.record.model_dump(mode="json") for m in f.cluster.members.values()],
            "dispatchers": [d.record.model_dump(mode="json") for d in f.cluster.dispatchers.values()],
            "planned": planning.document(f),
            "paused": desired.paused if desired else False,
            "paused_by": desired.paused_by if desired else "",
            "paused_reason": desired.paused_reason if desired else "",
            "maintenance": [
                window.model_dump(mode="json")
                for site in sorted(set(f.site_of.values()))
                if (window := f.maintenance(site)) is not None
            ],
            "retired": sorted(f.retired),
            "health": self._health(),
            "settings_differ": list(self.settings_differ),
            "bad_records": self.bad_records,
            "invariants_broken": self.invariants_broken,
            "told_by": f.node,
            "decision": self._decision(Lane.POSTGRES),
            "etcd_reached": f.etcd_here,
            "etcd_alarm": self.etcd_alarm,
        }

    def why(self) -> dict[str, Any]:
        """`GET /why` (docs/interfaces.md)."""
        broken = self.invariants_broken
        return {
            **why.document(self.facts),
            "invariants_broken": broken,
            "decisions": remembered.document(self.past.values()),
        }

    def _health(self) -> dict[str, Any]:
        waits = {"failback": list(failback.waits_for(self.facts))}
        return {"decision": self._decision(Lane.HEALTH), **health.document(self.facts), **waits}

    def _decision(self, lane: Lane) -> dict[str, str] | None:
        decision = self.decisions.get(lane)
        return {"rule": decision.rule, "sentence": decision.sentence} if decision else None
