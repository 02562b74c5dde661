"""What is seen of etcd from one place: by a cheap model, or, in every few seeds, by the real view on a modelled watch.

The modelled watch falls silent, breaks, and finds its revision compacted away. It goes on where it was, as
`etcd.watch.Watch` does; when that is gone, it reads everything again.
"""

from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeAlias, cast

from sitecontrol.belief import believe
from sitecontrol.etcd.api import EtcdUnknown, WatchBatch
from sitecontrol.snapshot import leader_revision
from sitecontrol.view import ClusterView, Snapshot
from tests.simulation.etcd import PREFIX, EtcdClient, EtcdCluster, told
from tests.simulation.scheduler import Scheduler, SimulatedClock

WAY = (0.03, 0.08)  # seconds until a change is seen
HEARD_EVERY = 0.3  # seconds between two words of etcd while nothing changes
SILENT = 1.5  # seconds after which a watch counts as dead


class SeenCluster:
    """What a watch shows from one place: the picture of a moment ago, for as long as etcd is reached."""

    def __init__(self, cluster: EtcdCluster, place: str, scheduler: Scheduler, clock: SimulatedClock) -> None:
        self.snapshot = Snapshot()
        self.stalled = False  # the watch is lost, and nobody has noticed yet
        self.shown: Callable[[Snapshot], None] = lambda _: None
        self.leader_at: float | None = None
        self._cluster = cluster
        self._place = place
        self._scheduler = scheduler
        self._clock = clock
        self._made = cluster.made

    async def follow(self) -> None:
        cluster, wait = self._cluster, self._scheduler.wait
        while True:
            coming = cluster.read if self._reached else None
            await wait(cluster.rng.uniform(*WAY))
            if coming is not None and self._reached and coming.revision >= self.snapshot.revision:
                self._show(coming)
            if coming is cluster.read:
                await wait(HEARD_EVERY, cluster.changed)

    @property
    def _reached(self) -> bool:
        known = self._made == self._cluster.made
        return known and not self.stalled and self._cluster.serves(self._place)

    async def refresh(self, client: EtcdClient) -> None:
        await client.get_prefix("/hotsite/sim/")
        self._show(self._cluster.read)

    async def confirm_leader(self, client: EtcdClient) -> None:
        """As `ClusterView.confirm_leader`."""
        asked_at = self._clock.now()
        answer = await client.get(f"{PREFIX}leader")
        if leader_revision(self.snapshot) != (answer.one.mod_revision if answer.one else 0):
            await self.refresh(client)
        self.leader_at = asked_at

    def _show(self, read: Snapshot) -> None:
        believed = believe(self.snapshot, read)
        self.leader_at = self._clock.now()
        self.snapshot = told(believed, serial=read.revision, read_at=self.leader_at)
        self.shown(self.snapshot)


class WatchingClient(EtcdClient):
    def __init__(self, cluster: EtcdCluster, scheduler: Scheduler, place: str) -> None:
        super().__init__(cluster, scheduler, place)
        self.stalled = False  # nobody has noticed yet

    async def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch, None]:
        cluster, wait = self._cluster, self._scheduler.wait
        coming, heard = start_revision, self._scheduler.now
        while True:
            await wait(cluster.rng.uniform(*WAY))
            if self.stalled:
                continue
            if not self._served:
                if self._scheduler.now - heard > SILENT:
                    raise EtcdUnknown("the watch is silent and does not answer")
                continue
            heard = self._scheduler.now
            if cluster.store.revision >= coming:
                events = cluster.store.events(prefix, coming)
                revision = cluster.store.revision
                coming = revision + 1
                reset = cluster.store.get_prefix(prefix) if events is None else None
                yield WatchBatch(revision=revision, events=events or (), reset=reset)
            await wait(HEARD_EVERY, cluster.changed)


class WatchedCluster(ClusterView):
    """As `SeenCluster`."""

    def __init__(self, cluster: EtcdCluster, place: str, scheduler: Scheduler, clock: SimulatedClock) -> None:
        self._watching = WatchingClient(cluster, scheduler, place)
        self.shown: Callable[[Snapshot], None] = lambda _: None
        super().__init__(cast("Any", self._watching), PREFIX, clock)

    @property
    def stalled(self) -> bool:
        return self._watching.stalled

    @stalled.setter
    def stalled(self, stalled: bool) -> None:
        self._watching.stalled = stalled

    async def follow(self) -> None:
        await self.run()

    async def refresh(self, _client: EtcdClient | None = None) -> Snapshot:
        return await super().refresh()

    async def confirm_leader(self, _client: EtcdClient | None = None) -> None:
        await super().confirm_leader()

    async def _replace(self, snapshot: Snapshot) -> None:
        await super()._replace(snapshot)
        self.shown(self.snapshot)


View: TypeAlias = SeenCluster | WatchedCluster


def view_of(cluster: EtcdCluster, place: str, scheduler: Scheduler, clock: SimulatedClock) -> View:
    return (WatchedCluster if cluster.watched else SeenCluster)(cluster, place, scheduler, clock)
