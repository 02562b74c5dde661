"""The network between the places, and an etcd of three members in them, with the faults that real ones have.

Modelled: who reaches whom (each direction by itself); a leader of its own, elected by a majority that can talk to each
other, whose change makes every lease begin anew; no lease ends while there is no leader; answers that take their time;
a call that is cut off is unknown and may have been applied; members that are sick: they lose calls, lose answers, or
apply a call long after its caller has given it up. (`MemoryStore`, which the conformance suite holds to a real etcd,
is what is stored.)
"""

import itertools
import random
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from sitecontrol.belief import believe
from sitecontrol.etcd.api import (
    Compare,
    Delete,
    EtcdError,
    EtcdUnknown,
    Event,
    EventKind,
    MemberStatus,
    Put,
    Range,
    TxnResult,
    WatchBatch,
)
from sitecontrol.etcd.memory_store import MemoryStore
from sitecontrol.view import Snapshot, put, remove
from tests.simulation.scheduler import Bell, Scheduler, SimulatedClock

T = TypeVar("T")
PLACES = ("columbus", "denver", "witness")
PREFIX = "/hotsite/sim/"
CALL_TIMEOUT = 1.0
ELECTION = (0.9, 1.6)  # seconds without a leader


class Network:
    def __init__(self) -> None:
        self._cut: dict[tuple[str, str], int] = {}

    def cut(self, source: str, destination: str) -> None:
        self._cut[source, destination] = self._cut.get((source, destination), 0) + 1

    def mend(self, source: str, destination: str) -> None:
        self._cut[source, destination] -= 1

    def mend_all(self) -> None:
        self._cut.clear()

    def passes(self, source: str, destination: str) -> bool:
        return source == destination or not self._cut.get((source, destination))

    def talk(self, one: str, other: str) -> bool:
        """Requests and answers get through."""
        return self.passes(one, other) and self.passes(other, one)


def told(snapshot: Snapshot, **changes: Any) -> Snapshot:
    """As `dataclasses.replace`, at a tenth of its price: a picture computes nothing of itself."""
    after = object.__new__(Snapshot)
    after.__dict__.update(snapshot.__dict__, **changes)
    return after


FOR_EVER = 10**9  # seconds


class Store(MemoryStore):
    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__(clock)
        self.of_dispatchers = self.grant(FOR_EVER)  # what their records are bound to: here it never ends

    def elect(self) -> None:
        """A new leader: every lease begins anew with it."""
        self.move_leader(2 if self._leader == 1 else 1)

    def end_leases(self) -> None:
        for lease in tuple(self._leases):
            if lease != self.of_dispatchers:
                self.revoke(lease)

    def since(self, revision: int) -> list[Event]:
        """What happened after a revision, oldest first."""
        newest_first = itertools.takewhile(lambda e: e.kv.mod_revision > revision, reversed(self._history))
        return list(newest_first)[::-1]


class EtcdCluster:
    def __init__(self, scheduler: Scheduler, network: Network, rng: random.Random) -> None:
        self._scheduler = scheduler
        self._network = network
        self.rng = rng
        self.store = Store(SimulatedClock(scheduler))
        self.watched = False  # whether agents and dispatchers see through the real view
        self.down: set[str] = set()
        self.leader: str | None = "witness"
        self.sick = 0.0  # how likely a call meets a fault
        self.all_lost = (
            False  # no member was left: when it returns, leases may end before anybody gets through
        )
        self.late_only = False  # every transaction is applied after its caller has given it up
        self.slow: set[str] = set()  # places that answers reach late, but within their time
        self.read = Snapshot()  # everything as it stands there
        self.snapshot = Snapshot()  # what is believed of it by somebody who has seen it all
        self._shown = 1  # the revision of both
        self._electing = False
        self._away_until = dict.fromkeys(PLACES, 0.0)
        self._serving: dict[str, bool] = {}  # what `serves` last said, until something changes
        self.made = 0  # how often it was made anew: its members are of another cluster then
        self.late = 0  # calls that are under way, and will be applied after their caller had given them up
        self.changed = Bell(scheduler)
        self.store.listen(self._follow)
        scheduler.spawn(self._end_leases(), "etcd")

    # -- who serves

    def _followers(self, leader: str) -> list[str]:
        return [p for p in PLACES if p not in self.down and self._network.talk(leader, p)]

    def look(self) -> None:
        """What runs and who reaches whom may have changed."""
        self._serving.clear()
        if self.leader is not None and (self.leader in self.down or len(self._followers(self.leader)) < 2):
            self.leader = None
        if self.leader is None and not self._electing:
            self._electing = True
            self._scheduler.spawn(self._elect(), "etcd")

    async def _elect(self) -> None:
        while True:
            await self._scheduler.wait(self.rng.uniform(*ELECTION))
            able = [p for p in PLACES if p not in self.down and len(self._followers(p)) >= 2]
            if able:
                self.leader = self.rng.choice(able)
                self._serving.clear()
                self.store.elect()
                if self.all_lost:
                    self._come_back()
                self._electing = self.all_lost = False
                return

    def _come_back(self) -> None:
        """Nobody was there: leases may end before anybody gets through, and some get through sooner than others."""
        self._away_until = {p: self._scheduler.now + self.rng.uniform(0.0, 0.6) for p in PLACES}
        if self.rng.random() < 0.5:
            self.store.end_leases()

    def serves(self, place: str) -> bool:
        """Whether somebody in `place` gets answers of the majority."""
        if self._scheduler.now < self._away_until[place]:
            return False
        known = self._serving.get(place)
        if known is None:
            known = self._serving[place] = self._answers(place)
        return known

    def _answers(self, place: str) -> bool:
        leader = self.leader
        if leader is None:
            return False
        reached = [m for m in PLACES if m not in self.down and self._network.talk(place, m)]
        return any(m == leader or self._network.talk(m, leader) for m in reached)

    def move_leader(self, place: str) -> None:
        if place not in self.down and len(self._followers(place)) >= 2:
            self.leader = place
            self._serving.clear()
            self.store.elect()

    def make_anew(self) -> None:
        """All its members have lost their disks. Whoever knows the cluster that they were does not go over to them."""
        self.made += 1
        self.late = 0
        self.store.lose_everything()
        self.store.of_dispatchers = self.store.grant(FOR_EVER)
        self.read = self.snapshot = Snapshot()

    def lose(self, keys: Iterable[str]) -> None:
        """Somebody deletes them, at once."""
        deletes = tuple(Delete(key=key) for key in keys)
        self.store.txn((), deletes, read_on_failure=False)

    @property
    def keys(self) -> list[str]:
        return [kv.key for kv in self.store.get_prefix(PREFIX).kvs]

    async def _end_leases(self) -> None:
        """Each in its time, but none while nobody leads."""
        while True:
            ends = self.store.next_expiry
            await self._scheduler.wait(0.1 if ends is None else max(0.02, ends - self._scheduler.now))
            if self.leader is not None:
                self.store.tick()

    # -- what is seen

    def _follow(self) -> None:
        """Keep the decoded picture beside the store."""
        for event in self.store.since(self._shown):
            name = event.kv.key.removeprefix(PREFIX)
            deleted = event.kind is EventKind.DELETE
            self.read = remove(self.read, name) if deleted else put(self.read, name, event.kv)
            self.read = told(self.read, revision=event.kv.mod_revision)
        self._shown = self.store.revision
        self.snapshot = told(believe(self.snapshot, self.read), read_at=0.0)
        self._scheduler.changes += 1
        self.changed.ring()


class EtcdClient:
    """Implements what an agent uses of `api.Etcd`, from one place."""

    def __init__(self, cluster: EtcdCluster, scheduler: Scheduler, place: str) -> None:
        self._cluster = cluster
        self._scheduler = scheduler
        self._place = place
        self._made = cluster.made

    @property
    def knows(self) -> bool:
        """These are the members of the cluster that gave the first answer."""
        return self._made == self._cluster.made

    @property
    def _served(self) -> bool:
        return self.knows and self._cluster.serves(self._place)

    @property
    def strangers(self) -> Sequence[str]:
        return ()

    async def get_prefix(
        self, prefix: str, *, serializable: bool = False, timeout: float | None = None
    ) -> Range:
        del serializable, timeout
        return await self._ask(partial(self._cluster.store.get_prefix, prefix))

    async def get(self, key: str, *, serializable: bool = False, timeout: float | None = None) -> Range:
        return await self.get_prefix(key)  # no key of ours begins with another

    async def txn(
        self,
        compares: Sequence[Compare],
        puts_and_deletes: Sequence[Put | Delete],
        *,
        read_on_failure: bool = False,
        timeout: float | None = None,
    ) -> TxnResult:
        del timeout
        return await self._change(
            partial(
                self._cluster.store.txn,
                tuple(compares),
                tuple(puts_and_deletes),
                read_on_failure=read_on_failure,
            )
        )

    async def grant(self, ttl: int, *, timeout: float | None = None) -> int:
        del timeout
        return await self._change(partial(self._cluster.store.grant, ttl))

    async def keep_alive(self, lease: int, *, timeout: float | None = None) -> int:
        del timeout
        return await self._change(partial(self._cluster.store.keep_alive, lease))

    async def move_leader(self, member_id: int, *, timeout: float | None = None) -> None:
        del timeout
        await self._ask(partial(self._cluster.move_leader, PLACES[member_id - 1]))

    async def members(self, *, timeout: float | None = None) -> Sequence[MemberStatus]:
        raise NotImplementedError

    def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch, None]:
        raise NotImplementedError

    async def _ask(self, step: "partial[T]") -> T:
        return await self._call(step, writes=False)

    async def _change(self, step: "partial[T]") -> T:
        return await self._call(step, writes=True)

    async def _call(self, step: "partial[T]", *, writes: bool) -> T:
        cluster, rng, wait = self._cluster, self._cluster.rng, self._scheduler.wait
        started = self._scheduler.now
        await wait(rng.uniform(0.005, 0.06))
        if not self._served:
            await self._out_of_time(started)
        if writes and (rng.random() < cluster.sick or (cluster.late_only and step.func == cluster.store.txn)):
            await self._meet_fault(step, started)
        answer = step()
        await wait(rng.uniform(0.5, 0.85) if self._place in cluster.slow else rng.uniform(0.005, 0.06))
        if not self._served:
            await self._out_of_time(started)
        return answer

    async def _out_of_time(self, started: float) -> None:
        await self._scheduler.wait(max(0.0, started + CALL_TIMEOUT - self._scheduler.now))
        raise EtcdUnknown("no answer")

    async def _meet_fault(self, step: Callable[[], Any], started: float) -> None:
        fates = ("late",) if self._cluster.late_only else ("lost", "applied", "late")
        fate = self._cluster.rng.choice(fates)
        if fate == "applied":
            self._try(step)
        elif fate == "late":
            self._cluster.late += 1
            self._scheduler.spawn(self._apply_late(step), "etcd")
        await self._out_of_time(started)

    async def _apply_late(self, step: Callable[[], Any]) -> None:
        await self._scheduler.wait(
            self._cluster.rng.choice((1.5, 3.0, 8.0, 20.0)) * self._cluster.rng.random()
        )
        await self._scheduler.until(lambda: self._cluster.leader is not None, within=1e9, every=0.2)
        if self.knows:
            self._cluster.late -= 1
            self._try(step)

    @staticmethod
    def _try(step: Callable[[], Any]) -> None:
        try:
            step()
        except EtcdError:
            return
