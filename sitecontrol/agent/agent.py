"""The loop: put the facts together, decide per lane, offer the effects to the lanes; and who owns which task.

The loop itself never waits for anything slow. It runs when something changed (a watch event, PostgreSQL, an
effect that ended) and otherwise ten times a second: notify for speed, poll for truth.
"""

import asyncio
import functools
from collections.abc import Mapping
from importlib import metadata

import structlog

from sitecontrol import quarantine
from sitecontrol.agent.chronicle import Chronicle
from sitecontrol.agent.executor import Executor
from sitecontrol.agent.keeper import Keeper
from sitecontrol.agent.lanes import Lanes
from sitecontrol.agent.memory import Memory
from sitecontrol.agent.monitor import Monitor
from sitecontrol.agent.neighbours import Neighbours
from sitecontrol.agent.publisher import Publisher
from sitecontrol.agent.state import AgentState
from sitecontrol.belief import newly_bad
from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Etcd
from sitecontrol.frozen import replace
from sitecontrol.leadership.alike import told
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.facts import Facts, is_heard
from sitecontrol.leadership.invariants import Doubts
from sitecontrol.leadership.invariants import look as look_at_invariants
from sitecontrol.leadership.observed import Watch
from sitecontrol.leadership.observed import look as look_at_places
from sitecontrol.leadership.remembered import remember
from sitecontrol.leadership.room import MB
from sitecontrol.leadership.table import Decision, Lane
from sitecontrol.leadership.timing import LOOK_EVERY
from sitecontrol.records import FORMAT, Member
from sitecontrol.settings import Egress, Settings
from sitecontrol.traffic.api import Move
from sitecontrol.traffic.mover import Mover
from sitecontrol.view import Bad, ClusterView, Entry

log = structlog.get_logger()
LANES = tuple(Lane)


@functools.cache
def version() -> str:
    return metadata.version("hotsite")


class Agent:
    def __init__(
        self,
        *,
        settings: Settings,
        node: str,
        etcd: Etcd,
        clock: Clock,
        view: ClusterView,
        keeper: Keeper,
        monitor: Monitor,
        neighbours: Neighbours,
        executor: Executor,
        memory: Memory,
        mover: Mover,
        wake: asyncio.Event,
        chronicle: Chronicle | None = None,
    ) -> None:
        self._settings = settings
        self._node = node
        self._clock = clock
        self._view = view
        self._keeper = keeper
        self._monitor = monitor
        self._neighbours = neighbours
        self._memory = memory
        self._mover = mover
        self._wake = wake
        self._chronicle = chronicle  # None: nothing is told afterwards
        self._health = Watch()
        self._doubts = Doubts()
        self._differences: tuple[str, ...] = ()  # as they were last told
        self._members: Mapping[str, Entry[Member]] | None = None  # by which they were
        self._bad: Mapping[str, Bad] = {}  # what of etcd is not believed, as it was last told
        self._blank = self._unchanging_facts()
        self._lanes = Lanes(executor.execute, wake.set, clock, only_asks=executor.only_asks)
        self._executor = executor
        self._publisher = Publisher(
            etcd,
            f"{settings.prefix}members/{node}",
            self._told,
            self._describe,
            self._bad_own_record,
            clock,
        )
        self.state = AgentState(
            prefix=settings.prefix,
            facts=self._facts(),
            version=version(),
            fencing_ms=executor.fencing.last_ms,
            traffic=mover.told,
            work=self._work,
            begin=self._begin,
            hurry=self._hurry,
            strangers=lambda: etcd.strangers,
            set_aside=lambda: quarantine.found(quarantine.folder_in(settings.site.state_dir)),
        )

    async def run(self) -> None:
        """Run until cancelled. PostgreSQL is left as it is: an agent may be restarted at any time."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for name, task in (
                    ("keeper", self._keeper.run()),
                    ("view", self._view.run()),
                    ("view-wake", self._wake_on_view()),
                    ("monitor", self._monitor.run()),
                    ("neighbours", self._neighbours.run(lambda: self.state.facts)),
                    ("publisher", self._publisher.run()),
                    ("loop", self._loop()),
                    *(
                        (("chronicle", self._chronicle.run(lambda: self.state.facts)),)
                        if self._chronicle
                        else ()
                    ),
                ):
                    tasks.create_task(task, name=name)
        finally:
            await self._lanes.stop()
            await self._mover.stop()

    async def _wake_on_view(self) -> None:
        serial = 0
        while True:
            serial = (await self._view.changed(serial)).serial
            self._wake.set()

    async def _loop(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            self.look_and_decide()

    def look_and_decide(self) -> None:
        pg = self._monitor.facts
        led = self._memory.leader_absent_since is None
        self._memory.look(self._clock.now(), self._view.snapshot, pg, self._node, self._keeper.lease.id)
        if led and self._memory.leader_absent_since is not None:
            log.info("nobody_leads")
        facts = self.state.facts = self._facts()
        self._tell_of_differences(facts)
        self._tell_of_bad_records(facts)
        self._look_at_invariants(facts)
        self._executor.fencing.look(is_open=facts.open)
        if self._chronicle is not None:
            self._chronicle.look(facts)
        for lane in LANES:
            decision = decide(lane, facts)
            before = self.state.decisions.get(lane)
            changed = before is None or before.rule != decision.rule
            if changed:
                log.debug("rule", lane=lane.value, rule=decision.rule, sentence=decision.sentence)
            self.state.decisions[lane] = decision
            started = self._lanes.offer(decision, facts)
            if started and self._chronicle is not None:
                self._chronicle.began(decision, facts)
            if changed or started:
                past = self.state.past.get(lane, ())
                self.state.past[lane] = remember(past, decision, facts, started=started)
        self._mover.look(self._move(facts) if self.state.serving else None)

    def _work(self) -> str | None:
        effect = self._lanes.busy_with(Lane.POSTGRES)
        return type(effect).__name__ if effect else None

    def _begin(self, decision: Decision) -> bool:
        """What an operator asked for and the table would not do by itself."""
        facts, lane = self.state.facts, decision.lane
        started = self._lanes.offer(decision, facts)
        if started:
            self.state.past[lane] = remember(self.state.past.get(lane, ()), decision, facts, started=True)
        return started

    def _hurry(self) -> None:
        """What was tried in vain is tried again now, and what was to be waited for has been."""
        self._lanes.forget_failures(Lane.POSTGRES)
        self._memory.hurry(self._clock.wall())
        self._wake.set()

    def _move(self, facts: Facts) -> Move:
        began = facts.cluster.history.get(f"{facts.term:010d}")
        reason = f"{began.record.kind}: {began.record.reason}" if began else ""
        return Move(site=facts.site, term=facts.term, reason=reason.removesuffix(": "))

    def _tell_of_differences(self, facts: Facts) -> None:
        if facts.cluster.members is self._members:
            return
        self._members = facts.cluster.members
        found = self.state.settings_differ
        if found != self._differences:
            self._differences = found
            if found:
                log.warning(
                    "settings_differ", differences=list(found), cure="make [failover] alike at all sites"
                )

    def _tell_of_bad_records(self, facts: Facts) -> None:
        if facts.cluster.bad is self._bad:
            return
        for key, bad in newly_bad(self._bad, facts.cluster.bad).items():
            log.warning("bad_record", key=key, why=bad.why, revision=bad.mod_revision)
        self._bad = facts.cluster.bad

    def _look_at_invariants(self, facts: Facts) -> None:
        before, self._doubts = self._doubts, look_at_invariants(self._doubts, facts)
        self.state.broken = self._doubts.broken
        for broken in self._doubts.broken:
            if broken not in before.broken:
                log.error("invariant_broken", invariant=broken.invariant, what=broken.what)
        for known in before.broken:
            if known not in self._doubts.broken:
                log.info("invariant_broken_no_more", invariant=known.invariant, what=known.what)

    def _unchanging_facts(self) -> Facts:
        """What the settings tell; the rest is of each look."""
        settings = self._settings
        return Facts(
            now=self._clock.now(),
            wall=self._clock.wall(),
            node=self._node,
            site=settings.site.name,
            preferred=settings.here.preferred,
            site_of={n.name: p.name for p in settings.place for n in p.nodes},
            settings=settings.failover,
            cluster=self._view.snapshot,
            cluster_read=False,
            etcd_heard_at=None,
            lease=self._keeper.lease,
            pg=self._monitor.facts,
            home=next((p.name for p in settings.place if p.preferred), None),
            dispatchers_of={p.name: tuple(d.name for d in p.dispatchers) for p in settings.place},
            wal_room=_wal_room(settings),
            live_site_sends=settings.dispatcher.egress is Egress.LIVE_SITE,
            places=tuple(p.name for p in settings.place),
        )

    def _facts(self) -> Facts:
        memory, snapshot = self._memory, self._view.snapshot
        now, wall, blank = self._clock.now(), self._clock.wall(), self._blank
        heard_at = max(
            (at for at in (self._keeper.heard_at, snapshot.read_at) if at is not None), default=None
        )
        self._health = look_at_places(
            self._health,
            now=now,
            wall=wall,
            cluster=snapshot,
            places=blank.places,
            site_of=blank.site_of,
            etcd_here=is_heard(heard_at, now, blank.settings),
            home=blank.home,
        )
        return replace(
            blank,
            now=now,
            wall=wall,
            cluster=snapshot,
            cluster_read=snapshot.read_at is not None,
            etcd_heard_at=heard_at,
            health=self._health,
            lease=self._keeper.lease,
            pg=self._monitor.facts,
            later_version_at=memory.later_version_at,
            leader_absent_since=memory.leader_absent_since,
            peers=dict(self._neighbours.peers),
            follow_failed_since=memory.follow_failed_since,
            join_after=memory.join_after,
            repairs=memory.repairs,
            swap_phase_since=memory.swap_phase_since,
            hand_over_unsent=memory.hand_over_unsent,
            swap_ended_at=memory.swap_ended_at,
            lead_since=memory.lead_since,
            reached_since=memory.reached_since,
            etcd_leader_here=self._neighbours.etcd_leader_here,
            etcd_leader_target=self._neighbours.etcd_leader_target,
            etcd_members=dict(self._neighbours.etcd_members),
            etcd_leader_place=self._neighbours.etcd_leader_place,
            etcd_full=self._neighbours.etcd_full,
        )

    def _bad_own_record(self) -> int | None:
        bad = self._view.snapshot.bad.get(f"members/{self._node}")
        ours = bad is not None and not self.state.facts.of_later_version(bad)
        return bad.mod_revision if bad is not None and ours else None

    def _told(self) -> tuple[object, int]:
        facts, state = self.state.facts, self.state
        asked_at = self._memory.rejoin_asked_at
        pg = facts.pg
        told = (state.role, tuple(state.reasons), pg.incarnation, pg.timeline, facts.term, asked_at)
        return told, facts.lease.id

    def _describe(self) -> Member:
        facts, state = self.state.facts, self.state
        return Member(
            node=facts.node,
            site=facts.site,
            role=state.role,
            incarnation=facts.pg.incarnation,
            term=facts.term,
            timeline=facts.pg.timeline,
            received_lsn=facts.pg.received_lsn,
            replayed_lsn=facts.pg.replayed_lsn,
            ready=not state.reasons,
            reasons=tuple(state.reasons),
            version=state.version,
            failover=told(facts.settings),
            rejoin_asked_at=self._memory.rejoin_asked_at,
            writes_format=FORMAT,
            wall=facts.wall,
        )


def _wal_room(settings: Settings) -> int | None:
    """In bytes. None: none is set."""
    wanted = settings.replication.wal_room_mb if settings.replication else 0
    return None if wanted is None else wanted * MB
