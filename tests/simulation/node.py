"""One agent: its real loop, table, executor, lease keeper, publisher and monitor, put together on the models."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

from sitecontrol.agent.agent import Agent
from sitecontrol.agent.executor import Executor, Overtaken, Scribe
from sitecontrol.agent.keeper import Keeper
from sitecontrol.agent.lanes import gives_way
from sitecontrol.agent.memory import Memory
from sitecontrol.agent.monitor import Monitor
from sitecontrol.agent.neighbours import Neighbours
from sitecontrol.agent.publisher import Publisher
from sitecontrol.agent.row import Row
from sitecontrol.agent.steps import Steps
from sitecontrol.leadership.effects import Effect
from sitecontrol.leadership.facts import Facts, Peer
from sitecontrol.leadership.table import Decision, Lane
from sitecontrol.leadership.transactions import Transaction
from sitecontrol.settings import Settings
from sitecontrol.traffic.mover import Mover
from sitecontrol.view import ClusterView
from tests.simulation.etcd import EtcdClient, EtcdCluster
from tests.simulation.own_postgres import ModelPostgres
from tests.simulation.postgres import Database
from tests.simulation.scheduler import Scheduler, SimulatedClock, Task
from tests.simulation.views import View, view_of

TICK = 0.1


class SimulatedScribe(Scribe):
    """As `Scribe`, without asyncio's timers."""

    def __init__(self, etcd: EtcdClient, seen: View, settings: Settings, scheduler: Scheduler) -> None:
        super().__init__(etcd, cast("ClusterView", seen), settings)  # type: ignore[arg-type] # all that it uses of them
        self._client, self._seen, self._scheduler = etcd, seen, scheduler

    async def write(self, transaction: Transaction) -> int:
        result = await self._client.txn(transaction.compares, transaction.writes)
        if not result.succeeded:
            await self._seen.refresh(self._client)
            raise Overtaken("something changed")
        if not await self._scheduler.until(
            lambda: self._seen.snapshot.revision >= result.revision, within=0.5
        ):
            await self._seen.refresh(self._client)
        return result.revision


class SimulatedLanes:
    """As `Lanes`: one effect a lane, which a fence ends, and a claim while it only waits."""

    def __init__(self, node: "SimulatedNode") -> None:
        self._node = node
        self._running: dict[Lane, tuple[Effect, Task]] = {}
        self._ended: dict[Lane, tuple[Effect, float]] = {}
        self._resting: set[Lane] = set()

    def offer(self, decision: Decision, facts: Facts) -> bool:
        effect = decision.effect
        if effect is None:
            return False
        busy = self._running.get(decision.lane)
        if busy is not None:
            waits = decision.lane in self._resting or self._node.executor.only_asks()
            if not gives_way(busy[0], effect, waits=waits):
                return False
            busy[1].cancel()
        elif self._just_done(decision.lane, effect):
            return False
        self._node.say("decided", f"{decision.rule}: {type(effect).__name__}")
        self._node.begins(effect, facts)
        task = self._node.spawn(self._run(decision.lane, effect, facts, busy[1] if busy else None))
        self._running[decision.lane] = (effect, task)
        return True

    def busy_with(self, lane: Lane) -> Effect | None:
        busy = self._running.get(lane)
        return busy[0] if busy is not None else None

    def _just_done(self, lane: Lane, effect: Effect) -> bool:
        last = self._ended.get(lane)
        return last is not None and last[0] == effect and self._node.clock.now() - last[1] < 0.2

    async def _run(self, lane: Lane, effect: Effect, facts: Facts, previous: Task | None) -> None:
        node = self._node
        try:
            if previous is not None:
                await node.scheduler.until(previous.done, within=60.0)
            await node.executor.execute(effect, facts)
            node.say("done", type(effect).__name__)
        except Exception as error:  # as in the real lanes: judged anew from fresh facts
            if isinstance(error, AssertionError | AttributeError | TypeError | NameError):
                raise  # a defect, there or in the model
            node.say("failed", f"{type(effect).__name__}: {type(error).__name__}: {error}")
            self._resting.add(lane)
            try:
                await node.clock.sleep(0.2)
            finally:
                self._resting.discard(lane)
        self._ended[lane] = (effect, node.clock.now())
        current = self._running.get(lane)
        if current is not None and current[0] is effect:
            del self._running[lane]


class LeaseFile:
    """The lease's id on the node's disk: outlives the agent. A copy's place is another."""

    def __init__(self) -> None:
        self.text = ""
        self.place = str(id(self))
        self._fresh = ""

    def read_text(self) -> str:
        return self.text

    def with_suffix(self, _: str) -> "LeaseFile":
        return self

    def keep(self, lease: int) -> None:
        self.text = f"{lease:x} {self.place}"

    def copy_of(self, other: "LeaseFile") -> None:
        self.text = other.text

    def write_text(self, text: str) -> None:
        self._fresh = text

    def replace(self, _: "LeaseFile") -> None:
        self.text = self._fresh


class SimulatedNode:
    """A node's agent, from one start to its death; the database and the lease's id outlive it."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        cluster: EtcdCluster,
        database: Database,
        databases: dict[str, Database],
        settings: Settings,
        clock: SimulatedClock,
        lease_file: LeaseFile,
        say: Callable[[str, str], None],
        begins: Callable[[Effect, Facts], None],
    ) -> None:
        self.scheduler, self.database, self.clock, self.say = scheduler, database, clock, say
        self.begins = begins
        self.owner = f"agent {database.machine}"
        self._databases = databases
        etcd = EtcdClient(cluster, scheduler, database.place)
        self.etcd = etcd
        self.seen = view_of(cluster, database.place, scheduler, clock)
        view = cast("ClusterView", self.seen)
        postgres: Any = ModelPostgres(database, clock)
        self.monitor = Monitor(
            postgres.connect, postgres.at_rest, postgres.running, lambda: None, clock, settings.failover
        )
        self.keeper = Keeper(
            cast("Any", etcd), clock, settings.failover, cast("Path", lease_file), place=lease_file.place
        )
        memory, row = Memory(), Row(postgres.connect)
        scribe = SimulatedScribe(etcd, self.seen, settings, scheduler)

        def repaired() -> None:
            memory.repairs += 1

        def join_failed(standby: str) -> None:
            memory.note_failed_join(standby, clock.now())

        def hands_over(swap: str) -> None:
            memory.note_hand_over(swap)
            say("sends", "the hand-over")  # its id is drawn by chance, and a seed repeats itself

        self.executor = Executor(
            etcd=cast("Any", etcd),
            scribe=scribe,
            postgres=postgres,
            bootstrapper=cast("Any", None),  # the cluster is there when the simulation begins
            steps=Steps(postgres, row, scribe.writer, scribe.write, join_failed),
            row=row,
            look=self.monitor.poll,
            repaired=repaired,
            proved=self.monitor.proved,
            hands_over=hands_over,
            clock=clock,
            settings=settings,
        )
        self.neighbours: Any = SimulatedNeighbours()
        self.agent = Agent(
            settings=settings,
            node=database.node,
            etcd=cast("Any", etcd),
            clock=clock,
            view=view,
            keeper=self.keeper,
            monitor=self.monitor,
            neighbours=cast("Neighbours", self.neighbours),
            executor=self.executor,
            memory=memory,
            mover=Mover((), check_every=10.0, clock=clock),
            wake=asyncio.Event(),
        )
        self.agent._lanes = cast("Any", SimulatedLanes(self))  # the seam of asyncio's tasks
        self._publisher = Publisher(
            cast("Any", etcd),
            f"/hotsite/sim/members/{database.node}",
            self.agent._told,
            self.agent._describe,
            self.agent._bad_own_record,
            clock,
        )

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> Task:
        return self.scheduler.spawn(coroutine, self.owner)

    def start(self) -> None:
        for coroutine in (
            self.keeper.run(),
            self.seen.follow(),
            self.monitor._poll_forever(),  # `run` makes asyncio tasks of the two
            self.monitor._canary_forever(),
            self._publisher.run(),
            self._ask_target(),
            self._loop(),
        ):
            self.spawn(coroutine)

    async def _loop(self) -> None:
        while True:
            await self.clock.sleep(TICK)
            self.agent.look_and_decide()

    async def _ask_target(self) -> None:
        """As `Neighbours`: how far the target of a swap has received."""
        while True:
            facts = self.agent.state.facts
            target = facts.swap.to_node if facts.swap is not None and facts.swap_leaves_us else None
            if target is None:
                self.neighbours.peers = {}
                await self.scheduler.wait(0.2)
                continue
            await self.clock.sleep(0.04)
            other = self._databases.get(target)
            if other is None or not other.world.network.talk(self.database.place, other.place):
                continue
            server = other.up()
            if server is not None:
                peer = Peer(received_lsn=len(server.disk.wal), asked_at=self.clock.now())
                self.neighbours.peers = {target: peer}


class SimulatedNeighbours:
    def __init__(self) -> None:
        self.peers: dict[str, Peer] = {}
        self.etcd_leader_here = False
        self.etcd_leader_target: int | None = None
        self.etcd_members: dict[str, bool] = {}
        self.etcd_leader_place: str | None = None
        self.etcd_full = False
