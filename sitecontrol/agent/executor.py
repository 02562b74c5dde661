"""Carries effects out. Each can be repeated; each that writes to etcd first, does the rest only if that was taken.

After a write to etcd whose outcome is unknown nothing is assumed: the effect fails, the facts are read anew, and
what is decided then compares the new revisions.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from replication.errors import NeedsClone
from sitecontrol.agent.bootstrap import Bootstrapper
from sitecontrol.agent.fencing import Fencing
from sitecontrol.agent.own_postgres import OwnPostgres
from sitecontrol.agent.row import Row
from sitecontrol.agent.steps import Steps
from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Etcd
from sitecontrol.leadership import planning, swapping
from sitecontrol.leadership.conditions import leader_has_written_sync
from sitecontrol.leadership.effects import (
    Advance,
    AskForSwap,
    BeginPlanned,
    Bootstrap,
    Checkpoint,
    Claim,
    Clone,
    DropPlanned,
    Effect,
    Fence,
    Finish,
    GiveUp,
    HandOver,
    Join,
    KeepWal,
    Leave,
    Mend,
    MoveEtcdLeader,
    Narrow,
    Open,
    Promote,
    Reclaim,
    RecordReached,
    Rewind,
    RollBack,
    ServeOn,
    ShowRemote,
    ShutDownForSwap,
    StartPrimary,
    StartStandby,
)
from sitecontrol.leadership.facts import Facts, PgFacts, PgState
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.records import Phase, Planned, Swap
from sitecontrol.settings import Settings
from sitecontrol.view import ClusterView

log = structlog.get_logger()

SEEN_WITHIN = 0.5  # seconds until the watch should have shown our own write
FOLLOWED_AGAIN_WITHIN = 4.0  # seconds: PostgreSQL dials its leader every half, each time for at most two
LOOK_AGAIN = 0.5  # a leader's canary moves its standbys twice in that


class Overtaken(Exception):
    """Something that was reasoned from has changed: nothing was written, decide again."""


class FollowedAgain(Exception):
    """Our standby takes from the leader again: it was only the way to it, or the leader was down."""


class Scribe:
    """Writes transactions and waits until our own picture shows them."""

    def __init__(self, etcd: Etcd, view: ClusterView, settings: Settings) -> None:
        self._etcd = etcd
        self._view = view
        self._settings = settings

    def writer(self, facts: Facts) -> Writer:
        return Writer(
            prefix=self._settings.prefix,
            cluster=facts.cluster,
            node=facts.node,
            site=facts.site,
            incarnation=facts.pg.incarnation or "",
            lease=facts.lease.id,
        )

    async def write(self, transaction: Transaction) -> int:
        """Returns the revision written. Raises Overtaken when a comparison failed, EtcdUnknown when nobody knows."""
        result = await self._etcd.txn(transaction.compares, transaction.writes)
        if not result.succeeded:
            await self._view.refresh()
            raise Overtaken(Overtaken.__doc__)
        if transaction.audited is not None:
            log.info("audited", **transaction.audited.model_dump())
        try:
            async with asyncio.timeout(SEEN_WITHIN):
                while self._view.snapshot.revision < result.revision:
                    await self._view.changed(self._view.snapshot.serial)
        except TimeoutError:
            await self._view.refresh()
        return result.revision


class Executor:
    """Every handler gets the facts that its effect was decided from: a write compares what was *reasoned from*, not
    what happens to be seen when it is written.
    """

    def __init__(
        self,
        *,
        etcd: Etcd,
        scribe: Scribe,
        postgres: OwnPostgres,
        bootstrapper: Bootstrapper,
        steps: Steps,
        row: Row,
        look: Callable[[], Awaitable[PgFacts]],
        repaired: Callable[[], None],
        proved: Callable[[float], None],
        hands_over: Callable[[str], None],
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._etcd = etcd
        self._scribe = scribe
        self._postgres = postgres
        self._bootstrapper = bootstrapper
        self._steps = steps
        self._row = row
        self._look = look  # asks PostgreSQL at once, so that the next decision sees what we did
        self._repaired = repaired  # counts a rewind or a clone
        self._proved = proved  # told when a commit began that the standbys in step have confirmed
        self._hands_over = hands_over  # told of which swap, before the hand-over is sent
        self._clock = clock
        self._settings = settings
        self.fencing = Fencing(clock)
        self._sync_written_in: str | None = None  # the boot in which we have written `sync` ourselves
        self._handlers: dict[type[Effect], Callable[[Any, Facts], Awaitable[None]]] = {
            Bootstrap: self._bootstrap,
            Claim: self._claim,
            Reclaim: self._reclaim,
            StartPrimary: self._start_primary,
            Promote: self._promote,
            Narrow: self._narrow,
            Open: self._open,
            StartStandby: self._start_standby,
            Rewind: self._rewind,
            Clone: self._clone,
            Fence: self._fence,
            GiveUp: self._give_up,
            Leave: self._leave,
            Join: self._join,
            ShowRemote: self._show_remote,
            BeginPlanned: self._begin_planned,
            DropPlanned: self._drop_planned,
            Advance: self._advance,
            ShutDownForSwap: self._shut_down_for_swap,
            ServeOn: self._serve_on,
            HandOver: self._hand_over,
            RollBack: self._roll_back,
            Finish: self._finish,
            AskForSwap: self._ask_for_swap,
            Mend: self._mend,
            MoveEtcdLeader: self._move_etcd_leader,
            Checkpoint: self._checkpoint,
            KeepWal: self._keep_wal,
            RecordReached: self._record_reached,
        }

    def only_asks(self) -> bool:
        """Whether the start of a standby that is under way only compares histories: it has moved nothing yet."""
        return self._postgres.comparing

    async def execute(self, effect: Effect, facts: Facts) -> None:
        await self._handlers[type(effect)](effect, facts)

    # -- the lead --------------------------------------------------------------------------------------------

    async def _bootstrap(self, _: Bootstrap, facts: Facts) -> None:
        await self._bootstrapper.run(facts)
        await self._look()

    async def _claim(self, effect: Claim, facts: Facts) -> None:
        writer = self._scribe.writer(facts)
        await self._scribe.write(writer.claim(effect.kind, effect.evidence, self._clock.wall()))
        log.info("lead_taken", term=writer.term + 1, **effect.evidence)

    async def _reclaim(self, _: Reclaim, facts: Facts) -> None:
        writer = self._scribe.writer(facts)
        await self._scribe.write(writer.reclaim())
        log.info("lead_taken_up_again", term=writer.term)

    async def _narrow(self, _: Narrow, facts: Facts) -> None:
        await self._scribe.write(self._scribe.writer(facts).narrow())
        self._sync_written_in = self._postgres.boot

    async def _open(self, _: Open, facts: Facts) -> None:
        if self._sync_written_in != self._postgres.boot:
            # Before this start somebody may have been on the way into `sync`, by a write whose outcome is unknown.
            # Our commits do not wait for him: something is written on top before anybody is let in.
            staying = tuple(s for s in facts.sync.standbys if s.node in facts.pg.names) if facts.sync else ()
            await self._scribe.write(self._scribe.writer(facts).rewrite_sync(staying))
            self._sync_written_in = self._postgres.boot
        self._postgres.forget_marker()
        await self._row.open(facts.term, facts.node)
        await self._look()
        log.info("opened", term=facts.term)

    async def _give_up(self, effect: GiveUp, facts: Facts) -> None:
        log.warning("giving_up", reason=effect.reason)
        await self._postgres.end_at_once()
        if effect.disown:
            await self._postgres.disown()
        await self._look()
        await self._scribe.write(self._scribe.writer(facts).give_up())

    # -- our PostgreSQL -----------------------------------------------------------------------------------------

    async def _start_primary(self, _: StartPrimary, facts: Facts) -> None:
        sync = facts.sync
        ours = sync is not None and sync.leader == facts.node
        names = tuple(s.node for s in sync.standbys) if sync is not None and ours else ()
        within = self._settings.failover.restart_within if facts.other_in_step else None
        try:
            await self._postgres.start_primary(names, within=within)
        finally:
            await self._look()

    async def _promote(self, _: Promote, facts: Facts) -> None:
        await self._postgres.promote()
        await self._look()
        log.info("promoted", term=facts.term)

    async def _start_standby(self, effect: StartStandby, facts: Facts) -> None:
        leader = facts.leader.record if facts.leader is not None else None
        if leader is None or effect.leader == facts.node:
            await self._postgres.start_standby(None)
        else:
            try:
                await self._postgres.start_standby(effect.leader, term=leader.term)
            except NeedsClone:
                # Before the leader has written `sync`, ours may be the right history, and its own the wrong one.
                if self._postgres.running().apart_from == effect.leader and leader_has_written_sync(facts):
                    await self._postgres.disown()
                    await self._look()
                raise
        await self._look()

    async def _rewind(self, effect: Rewind, facts: Facts) -> None:
        try:
            await self._postgres.rewind(effect.leader)
        except NeedsClone:
            self._repaired()
            raise
        self._repaired()
        await self._look()

    async def _clone(self, effect: Clone, facts: Facts) -> None:
        if effect.unless_followed:
            await self._postgres.reach(effect.leader)
            await self._still_not_followed(effect.leader)
        await self._postgres.clone(effect.leader)
        self._repaired()
        await self._look()

    async def _still_not_followed(self, leader: str) -> None:
        """The leader is reached, perhaps for a moment only. Raises FollowedAgain."""
        position = (await self._look()).received_lsn
        until = self._clock.now() + FOLLOWED_AGAIN_WITHIN
        while self._clock.now() < until:
            await self._clock.sleep(LOOK_AGAIN)
            seen = await self._look()
            if seen.state is PgState.STANDBY and seen.follows == leader and seen.received_lsn > position:
                raise FollowedAgain(FollowedAgain.__doc__)

    async def _fence(self, effect: Fence, facts: Facts) -> None:
        log.warning("fencing", reason=effect.reason)
        try:
            self.fencing.begin(facts)
        finally:  # whatever becomes of the measuring
            await self._postgres.end_at_once(self.fencing.reached)
        await self._look()

    # -- who is in step --------------------------------------------------------------------------------------

    async def _leave(self, effect: Leave, facts: Facts) -> None:
        await self._steps.leave(facts, effect)
        await self._look()

    async def _join(self, effect: Join, facts: Facts) -> None:
        await self._steps.join(facts, effect)
        await self._look()

    async def _show_remote(self, effect: ShowRemote, facts: Facts) -> None:
        await self._row.show_remote(effect.nodes)
        await self._look()

    # -- the planned swap ------------------------------------------------------------------------------------------

    @staticmethod
    def _swap(facts: Facts) -> Swap:
        swap = facts.swap
        if swap is None:
            raise Overtaken("the swap has ended meanwhile")
        return swap

    @staticmethod
    def _planned(facts: Facts) -> Planned:
        wanted = planning.planned(facts)
        if wanted is None:
            raise Overtaken("the planned swap was cancelled meanwhile")
        return wanted

    async def _begin_planned(self, effect: BeginPlanned, facts: Facts) -> None:
        wanted, leader = self._planned(facts), facts.leader
        if leader is None:
            raise Overtaken("nobody leads any more")
        swap = Swap(
            id=wanted.id,
            from_node=leader.record.node,
            to_node=effect.to_node,
            by=wanted.by,
            reason=wanted.reason,
            phase=Phase.REQUESTED,
            term=leader.record.term,
            requested_at=self._clock.wall(),
        )
        await self._scribe.write(self._scribe.writer(facts).begin_planned(swap, planning.without(facts)))
        log.info(
            "planned_swap_begun", id=swap.id, to=swap.to_node, by=swap.by, planned_for=wanted.at.isoformat()
        )

    async def _drop_planned(self, effect: DropPlanned, facts: Facts) -> None:
        wanted, writer = self._planned(facts), self._scribe.writer(facts)
        desired = planning.without(facts)
        await self._scribe.write(writer.drop_planned(wanted, desired, effect.reason, self._clock.wall()))
        log.warning("planned_swap_dropped", id=wanted.id, to=wanted.to, reason=effect.reason)

    async def _advance(self, effect: Advance, facts: Facts) -> None:
        swap = self._swap(facts)
        if effect.phase is Phase.CHECKED:
            # Past the phase's deadline the lane must be free to roll back; the checkpoint itself goes on by itself.
            left = swapping.deadline(facts, Phase.REQUESTED) - facts.phase_age
            await self._row.checkpoint(within=max(0.1, left))
        phases = (Phase.PROMOTED, effect.phase) if effect.phase is Phase.OPENED else (effect.phase,)
        writer = self._scribe.writer(facts)
        await self._scribe.write(writer.advance(swap, *phases, at=self._clock.wall()))

    async def _shut_down_for_swap(self, _: ShutDownForSwap, facts: Facts) -> None:
        left = swapping.deadline(facts, Phase.HELD) - facts.phase_age
        await self._postgres.stop_clean(within=max(0.5, left / 2))
        await self._look()

    async def _serve_on(self, _: ServeOn, facts: Facts) -> None:
        await self._row.barrier()  # until the standbys have come back to us
        began = self._clock.now()
        await self._row.barrier()
        self._proved(began)
        await self._row.open(facts.term, facts.node)
        await self._look()
        log.warning("serves_on_without_etcd", term=facts.term)

    async def _hand_over(self, effect: HandOver, facts: Facts) -> None:
        swap = self._swap(facts)
        target = facts.member(swap.to_node)
        if target is None or target.lease == 0 or target.record.incarnation is None:
            raise Overtaken("the target's agent is not heard any more")
        transaction = self._scribe.writer(facts).hand_over(
            swap,
            target=target,
            incarnation=target.record.incarnation,
            site=facts.site_of[swap.to_node],
            own_timeline=facts.pg.timeline,
            shutdown_lsn=effect.shutdown_lsn,
            at=self._clock.wall(),
        )
        # A hand-over of unknown outcome keeps everybody waiting for etcd: none is sent to an etcd that is gone already.
        await self._etcd.get_prefix(self._settings.prefix + "swap")
        self._hands_over(swap.id)
        await self._scribe.write(transaction)
        log.info("handed_over", to=swap.to_node)

    async def _roll_back(self, effect: RollBack, facts: Facts) -> None:
        writer = self._scribe.writer(facts)
        await self._scribe.write(writer.roll_back(self._swap(facts), effect.reason, self._clock.wall()))
        log.warning("swap_rolled_back", reason=effect.reason)

    async def _finish(self, _: Finish, facts: Facts) -> None:
        writer = self._scribe.writer(facts)
        await self._scribe.write(writer.finish(self._swap(facts), self._clock.wall()))
        log.info("swap_done")

    async def _ask_for_swap(self, effect: AskForSwap, facts: Facts) -> None:
        leader = facts.leader
        if leader is None:
            raise Overtaken("nobody leads any more")
        swap = Swap(
            id=uuid.uuid4().hex[:12],
            from_node=leader.record.node,
            to_node=effect.to_node,
            by=f"{effect.by}, agent {facts.node}",
            reason=effect.reason,
            phase=Phase.REQUESTED,
            term=leader.record.term,
            requested_at=self._clock.wall(),
            evidence=effect.evidence,
        )
        await self._scribe.write(self._scribe.writer(facts).ask(swap, effect.places))
        log.warning("swap_asked_for_by_health", id=swap.id, by=swap.by, to=swap.to_node, reason=swap.reason)

    async def _mend(self, effect: Mend, facts: Facts) -> None:
        transaction = self._scribe.writer(facts).mend(
            effect.name,
            system_id=facts.pg.system_id or "",
            waited_for=effect.waited_for,
            at=self._clock.wall(),
        )
        await self._scribe.write(transaction)
        log.warning("record_mended", key=effect.name)

    async def _checkpoint(self, _: Checkpoint, facts: Facts) -> None:
        await self._row.checkpoint()
        await self._look()
        await self._clock.sleep(2.0)  # a standby's may have to wait for the leader's next one

    async def _keep_wal(self, effect: KeepWal, facts: Facts) -> None:
        await self._postgres.keep_wal(drop=effect.drop, make=effect.make, move=effect.move)
        if effect.drop or effect.make:
            log.info("slots", dropped=effect.drop, made=effect.make)
        await self._look()

    async def _record_reached(self, effect: RecordReached, facts: Facts) -> None:
        writer = self._scribe.writer(facts)
        await self._scribe.write(writer.reached(effect.nodes, facts.pg.system_id or ""))

    async def _move_etcd_leader(self, effect: MoveEtcdLeader, facts: Facts) -> None:
        await self._etcd.move_leader(effect.member_id)
        await self._clock.sleep(2.0)  # until the members have been asked again
