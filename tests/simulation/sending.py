"""A dispatcher that sends: the real gate, sender, backlog, results and doubt, put together on the models.

Real are `Leadership`'s rules (who is followed, vouched for, open), `gate.decide`, `Sender`'s claims, deadlines and
writes, `Doubt`'s verdicts and what follows from them, and what becomes of each answer. Modelled are asyncio's tasks and
timers, the connections, the store (`store.py`), and the carrier's link (`carrier.py`).
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import asyncpg

from dispatcher.engine.doubt import EVERY_S, Doubt
from dispatcher.engine.results import BATCH_MAX, COLLECT_S, Results
from dispatcher.engine.sender import BUSY_PAUSE_S, IDLE_PAUSE_S, WRITE_MAX, Sender
from dispatcher.journal import Journal
from dispatcher.leadership import (
    AGAIN_AFTER_S,
    ASK_ALIVE_EVERY_S,
    ASK_PROOF_EVERY_S,
    RETRY_AFTER_S,
    Lane,
    Leadership,
    Unavailable,
)
from dispatcher.metrics import Metrics
from dispatcher.model import SubmitResult
from dispatcher.store import NotLeader, Store
from replication.errors import CommitUnknown, SessionLost
from sitecontrol.etcd.api import EtcdError, Put
from sitecontrol.records import DispatcherRecord
from sitecontrol.settings import Settings
from sitecontrol.view import ClusterView, Snapshot
from tests.simulation.carrier import CarrierLink, Inbox
from tests.simulation.etcd import PREFIX, EtcdClient, EtcdCluster
from tests.simulation.postgres import Database
from tests.simulation.scheduler import Bell, Scheduler, SimulatedClock
from tests.simulation.store import ModelStore
from tests.simulation.views import View, view_of

T = TypeVar("T")
ASK_OPEN_EVERY_S = 0.05  # the real one asks five times as often, which costs here and tells nothing more
RENEW_EVERY_S = 1.5
UNKEPT = Journal(Path(), "simulated")  # it is never begun, so it keeps nothing


class Unread:
    """Metrics that nobody reads: whatever is counted, nothing is kept."""

    def __getattr__(self, _: str) -> "Unread":
        return self

    def __setattr__(self, _: str, value: object) -> None: ...

    def __call__(self, *_: object) -> "Unread":
        return self

    def __iadd__(self, _: object) -> Self:
        return self


METRICS = cast("Metrics", Unread())


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all dispatchers share."""

    scheduler: Scheduler
    cluster: EtcdCluster
    databases: dict[str, Database]
    inbox: Inbox
    claimed: Callable[
        [Database, int, float], None
    ]  # told of each claim that was made: where, in which term, since
    leaves: Callable[["SimulatedDispatcher", int], None]  # told of each text just before it leaves


class WarmNode:
    """Our connection to a node, as far as it stands."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connection: ModelStore | None = None

    @property
    def watch(self) -> "WarmNode":
        return self

    def need(self, *, needed: bool) -> None: ...

    def abandon(self) -> None:
        self.drop()

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.closed = True
            self.connection = None


class SimulatedLeadership(Leadership):
    """As `Leadership`, with connections of the model and without asyncio's timers."""

    def __init__(
        self, around: Surroundings, place: str, view: View, clock: SimulatedClock, settings: Settings
    ) -> None:
        self._around, self._place, self._seen = around, place, view
        super().__init__(
            settings=settings,
            view=cast("ClusterView", view),
            dial=cast("Any", None),
            clock=clock,
            metrics=METRICS,
        )
        self._nodes = cast("Any", {name: WarmNode(name) for name in around.databases})

    def see(self, snapshot: Snapshot) -> None:
        self._see(snapshot)

    async def confirm(self, etcd: EtcdClient) -> None:
        await self._seen.confirm_leader(etcd)

    async def run(
        self,
        op: Callable[[Store, int], Awaitable[T]],
        *,
        lane: Lane = Lane.INTAKE,
        hold_for: float | None = None,
    ) -> T:
        del lane
        deadline = self._clock.now() + (hold_for or 0.0)
        while True:
            node = cast("WarmNode | None", self._open_node())
            if node is not None and node.connection is not None:
                store, term = node.connection, self.gate.term
                try:
                    return await op(cast("Store", store), term)
                except (CommitUnknown, NotLeader, OSError, asyncpg.PostgresError) as error:
                    store.closed |= isinstance(error, CommitUnknown)
                    self._forgive(error, cast("Any", node), term)
            if self._clock.now() >= deadline:
                raise Unavailable(RETRY_AFTER_S, self.gate.sentence)
            await self._clock.sleep(AGAIN_AFTER_S if node is not None else 0.1)

    async def watch_node(self, node: WarmNode) -> None:
        """Dial it, ask it whether it is open, notice when it is gone: again and again."""
        database = self._around.databases[node.name]
        while True:
            if node.connection is not None and node.connection.gone:
                node.drop()
            if node.connection is None:
                await self._dial_again(node, database)
            if node.connection is not None:
                await self._ask_model(node, node.connection)
            self._decide()
            leads = self._known is not None and self._known.node == node.name
            proves = self._known is not None and leads and not self._vouched(self._known)
            pause = ASK_OPEN_EVERY_S if leads and not self.gate.open else ASK_ALIVE_EVERY_S
            await self._clock.sleep(min(pause, ASK_PROOF_EVERY_S) if proves else pause)

    async def _dial_again(self, node: WarmNode, database: Database) -> None:
        try:
            node.connection = await ModelStore.dial(self._around.scheduler, database, self._place)
        except (SessionLost, OSError, asyncpg.PostgresError):
            return
        node.connection.claimed = self._around.claimed

    async def _ask_model(self, node: WarmNode, connection: ModelStore) -> None:
        leader = self._known
        proved = leader is None or self._vouched(leader)
        canary_max_age = None if proved else self._settings.failover.canary_max_age
        try:
            answer = await connection.is_open(leader.term if leader is not None else 0, canary_max_age)
        except (OSError, CommitUnknown, asyncpg.PostgresError):
            node.drop()
            return
        if leader is not None and leader.node == node.name:
            self._opened = (node.name, leader.term) if answer else None

    def nodes(self) -> Sequence[WarmNode]:
        return cast("Sequence[WarmNode]", tuple(self._nodes.values()))


class Lock:
    """As asyncio's."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._free = Bell(scheduler)
        self._held = False

    def locked(self) -> bool:
        return self._held

    async def __aenter__(self) -> None:
        while self._held:
            await self._scheduler.wait(1.0, self._free)
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        self._held = False
        self._free.ring()


class SimulatedResults(Results):
    def __init__(self, scheduler: Scheduler, leadership: SimulatedLeadership, clock: SimulatedClock) -> None:
        super().__init__(leadership=leadership, journal=UNKEPT, clock=clock, metrics=METRICS)
        self._scheduler = scheduler
        self._came = Bell(scheduler)

    def put(self, result: SubmitResult) -> None:
        self._waiting.append(result)
        self._came.ring()

    async def run(self) -> None:
        while True:
            while not self._waiting:
                await self._scheduler.wait(60.0, self._came)
            await self._clock.sleep(COLLECT_S)
            batch = self._waiting[:BATCH_MAX]
            await self._store(batch)
            del self._waiting[: len(batch)]


class SimulatedDispatcher:
    """One life of a dispatcher: claims and writes while its gate lets it."""

    def __init__(
        self,
        around: Surroundings,
        place: str,
        life: int,
        clock: SimulatedClock,
        settings: Settings,
        seed: int,
    ) -> None:
        self.place, self.owner = place, f"sender {place}"
        self.identity = self._name(life)
        self._around, self._clock = around, clock
        self._rng = random.Random(seed + life)
        self._carriers_stall = True
        self.etcd = EtcdClient(around.cluster, around.scheduler, place)
        self._lease = around.cluster.store.of_dispatchers
        self.seen = view_of(around.cluster, place, around.scheduler, clock)
        self.leadership = SimulatedLeadership(around, place, self.seen, clock, settings)
        self.seen.shown = self.leadership.see
        self.results = SimulatedResults(around.scheduler, self.leadership, clock)
        shared: dict[str, Any] = {
            "identity": self.identity,
            "settings": settings.dispatcher,
            "metrics": METRICS,
        }
        self.sender = Sender(
            leadership=self.leadership,
            results=self.results,
            journal=UNKEPT,
            clock=clock,
            **shared,
        )
        self.sender.claiming = cast("Any", Lock(around.scheduler))
        self.doubt = Doubt(
            leadership=self.leadership, sender=self.sender, clock_agrees=lambda _: True, clock=clock, **shared
        )
        self.link = CarrierLink(
            scheduler=around.scheduler,
            clock=clock,
            rng=self._rng,
            place=place,
            owner=self.owner,
            inbox=around.inbox,
            check=lambda number: around.leaves(self, number),
            late=self.sender.late_answer,
        )
        self._carrier = settings.carrier[0]
        self.sender.use([(self._carrier, cast("Any", self.link))])

    def start(self) -> None:
        for coroutine in (
            self.seen.follow(),
            *(self.leadership.watch_node(node) for node in self.leadership.nodes()),
            self.results.run(),
            self._claim_forever(),
            self._feed(),
            self._end_claims(),
            self._register(),
        ):
            self._around.scheduler.spawn(coroutine, self.owner)

    def _name(self, life: int) -> str:
        """As `Engine.identity`: unique to this life of the process."""
        return f"{self.place}-1.{life}"

    def calm(self) -> None:
        """From now on there is room on the link whenever it is asked."""
        self._carriers_stall = False

    async def _claim_forever(self) -> None:
        """As `Sender._claim_forever`, half as often."""
        sender = self.sender
        while True:
            sender._withdraw()
            wanted = sender._wanted()
            claimed = await sender._claim(wanted) if wanted else 0
            await self._clock.sleep(2 * BUSY_PAUSE_S if claimed else 2 * IDLE_PAUSE_S)

    async def _feed(self) -> None:
        """As `Sender._feed`, on a link that has room when it has."""
        while True:
            if self._carriers_stall and self._rng.random() < 0.05:
                await self._clock.sleep(self._rng.choice((1.0, 4.3, 4.9, 7.0)))
            if self.sender.unwritten and self.link.bound:
                self.sender._write(self._carrier, cast("Any", self.link), WRITE_MAX)
            await self._clock.sleep(self._rng.uniform(0.02, 0.3))

    async def _end_claims(self) -> None:
        """As `Doubt._forever`."""
        while True:
            await self._clock.sleep(EVERY_S)
            if not self.leadership.gate.open:
                continue
            for work in (self.doubt._end_claims, self.doubt._work_off_what_is_due):
                try:
                    await work()
                except Unavailable:
                    continue

    async def _register(self) -> None:
        """As `Registration`: what a swap waits for is told at once. And as `ClusterView.confirm`, less often."""
        written: DispatcherRecord | None = None
        heard = self._clock.now()
        while True:
            record = self._record()
            try:
                if record != written:
                    key, lease = f"{PREFIX}dispatchers/{record.name}", self._lease
                    put = Put(key=key, value=record.encode(), lease=lease)
                    await self.etcd.txn((), (put,))
                    written = record
                elif self._clock.now() - heard >= RENEW_EVERY_S:
                    heard = self._clock.now()
                    await self.leadership.confirm(self.etcd)
            except EtcdError:
                written = None
            await self._clock.sleep(0.05 if self.leadership.gate.swap else 0.4)

    def _record(self) -> DispatcherRecord:
        swap = self.leadership.gate.swap
        return DispatcherRecord(
            name=f"{self.place}-1",
            site=self.place,
            ready=True,
            links=1,
            links_up=int(self.link.bound),
            held_for=swap if self.sender.stopped else None,
            unanswered=self.sender.unanswered if swap is not None else 0,
        )
