"""Two sites in memory: an etcd, a picture of it, and nodes whose connections a test can break."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial

from dispatcher.leadership import Leadership
from dispatcher.metrics import Metrics
from dispatcher.store import NotLeader, Store
from replication.errors import CommitUnknown, SessionLost
from sitecontrol.clock import SystemClock
from sitecontrol.etcd.memory import MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore as EtcdData
from sitecontrol.records import Leader, Phase, Swap
from sitecontrol.settings import Settings
from sitecontrol.view import ClusterView
from tests.waiting import eventually


def settings(here: str = "columbus", **dispatcher: object) -> Settings:
    def place(name: str) -> dict[str, object]:
        node = {"name": f"{name}-a", "postgres": "127.0.0.1:1", "agent": "http://127.0.0.1:2"}
        return {"name": name, "nodes": [node]}

    return Settings.model_validate(
        {
            "site": {"name": here, "state_dir": "/nowhere", "secrets_dir": "/nowhere"},
            "place": [place("columbus"), place("denver")],
            "etcd": {"endpoints": ["http://127.0.0.1:3"]},
            "dispatcher": dispatcher,
        }
    )


class FakeNode:
    """A PostgreSQL as its clients see it. `inner` is the store that answers while it leads."""

    def __init__(self, name: str, inner: object = None) -> None:
        self.name = name
        self.inner = inner
        self.term: int | None = None  # in which it is open
        self.reachable = True
        self.silent = False  # sockets are open, nothing comes back
        self.canary_age_s = 0.0
        self.asked = 0  # how often whether it is open
        self.connections: list[FakeConnection] = []

    @property
    def standing(self) -> list["FakeConnection"]:
        return [connection for connection in self.connections if not connection.closed]

    def crash(self) -> None:
        self.reachable = False
        self.term = None
        for connection in self.standing:
            connection.terminate()


class FakeConnection:
    """Implements `warm.Connection`; it is its own store, and passes on what it does not know itself."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.closed = False
        self._cut = asyncio.Event()

    @property
    def store(self) -> Store:
        return self  # type: ignore[return-value] # __getattr__ supplies the rest

    async def answer(self, work: Callable[[], Awaitable[object]]) -> object:
        """What a statement does: wait for the node, or fail when the connection is cut."""
        if self.closed:
            raise SessionLost
        if self.node.silent:
            await self._cut.wait()
        if self.closed:
            raise CommitUnknown("the connection broke")
        return await work()

    async def is_open(self, term: int, canary_max_age_s: float | None = None) -> bool:
        async def work() -> bool:
            self.node.asked += 1
            fresh = canary_max_age_s is None or self.node.canary_age_s <= canary_max_age_s
            return self.node.term == term and fresh

        return bool(await self.answer(work))

    async def hang(self) -> None:
        """A statement that only ends with the connection."""
        await self._cut.wait()
        raise CommitUnknown("the connection broke")

    def refuse_unless_open(self, term: int) -> None:
        if self.node.term != term:
            raise NotLeader

    def __getattr__(self, name: str) -> object:
        inner = getattr(self.node.inner, name)

        async def call(*args: object, **kwargs: object) -> object:
            return await self.answer(partial(inner, *args, **kwargs))

        return call

    def terminate(self) -> None:
        self.closed = True
        self._cut.set()

    async def aclose(self) -> None:
        self.terminate()


class FakeSites:
    """The nodes, the etcd that names their leader, and a started Leadership of a dispatcher at `here`."""

    def __init__(self, chosen: Settings, inner: object = None) -> None:
        self.settings = chosen
        self.nodes = {name: FakeNode(name, inner) for name in ("columbus-a", "denver-a")}
        self.etcd = MemoryEtcd(EtcdData(SystemClock()))
        self.clock = SystemClock()
        self.metrics = Metrics()
        self.view = ClusterView(self.etcd, chosen.prefix, self.clock)
        self.leadership = Leadership(
            settings=chosen, view=self.view, dial=self.dial, clock=self.clock, metrics=self.metrics
        )

    async def dial(self, node: str) -> FakeConnection:
        if not self.nodes[node].reachable:
            raise ConnectionRefusedError(node)
        connection = FakeConnection(self.nodes[node])
        self.nodes[node].connections.append(connection)
        return connection

    async def name_leader(self, node: str, term: int) -> None:
        """The key alone: the node itself opens by `FakeNode.term`."""
        site = self.settings.site_of(node)
        assert site is not None
        record = Leader(node=node, incarnation="i", site=site, term=term)
        lease = await self.etcd.grant(600)
        await self.etcd.put(self.settings.prefix + "leader", record.encode(), lease=lease)

    async def unname_leader(self) -> None:
        """Its key is gone, as when its lease has run out."""
        await self.etcd.delete(self.settings.prefix + "leader")

    async def lead(self, node: str, term: int) -> None:
        """`node` leads and is open, as seen by the dispatcher."""
        self.nodes[node].term = term
        await self.name_leader(node, term)
        await eventually(lambda: self.leadership.state.open and self.leadership.state.term == term)

    async def swap(self, phase: Phase, term: int = 1) -> None:
        record = Swap(
            id="s1",
            from_node="columbus-a",
            to_node="denver-a",
            by="test",
            phase=phase,
            term=term,
            requested_at=datetime.now(UTC),
        )
        await self.etcd.put(self.settings.prefix + "swap", record.encode())


@asynccontextmanager
async def two_sites(chosen: Settings | None = None, inner: object = None) -> AsyncIterator[FakeSites]:
    sites = FakeSites(chosen or settings(), inner)
    following = asyncio.create_task(sites.view.run())
    await sites.leadership.start()
    try:
        yield sites
        assert not sites.leadership.tasks.died.is_set()
    finally:
        await sites.leadership.stop()
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await sites.etcd.aclose()
