"""Dispatchers at both sites: they write messages to whoever leads, look unknown ones up, and claim.

They trust nobody: they try whatever node they last heard of, whenever it takes them, without the gate that real
dispatchers keep shut when in doubt. What keeps a message safe has to hold without it.
Only where nothing but etcd is lost, and it is service that is looked at, do they keep to the gate of their place.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import asyncpg

from dispatcher.gate import newest_leader
from replication.errors import CommitUnknown, ReplicationError
from sitecontrol.records import Leader
from tests.simulation.etcd import EtcdCluster
from tests.simulation.postgres import Database, Server
from tests.simulation.scheduler import Scheduler, SimulatedClock
from tests.simulation.views import SeenCluster

NEVER_WRITTEN = -1  # no entry: nobody holds it


@dataclass
class Acknowledged:
    message: int  # what its entry carries
    position: int
    entry: int
    term: int
    node: str
    began: float
    at: float
    remote: tuple[str, ...] = ()  # the nodes of other sites that it was told to be on


@dataclass
class Ledger:
    """What was promised, and who was opened when."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    opened: list[tuple[int, str, float]] = field(default_factory=list)  # (term, machine, when)
    longest_gap: float = 0.0
    last: float = 0.0


class Dispatcher:
    def __init__(
        self,
        *,
        scheduler: Scheduler,
        cluster: EtcdCluster,
        databases: dict[str, Database],
        place: str,
        ledger: Ledger,
        rng: random.Random,
        check: Callable[[Acknowledged, Database], None],
        number: Callable[[], int],
        may_ask: Callable[[], bool] = lambda: True,
    ) -> None:
        """`may_ask`: whether the gate lets requests through."""
        self.owner = f"dispatcher {place}"
        self._scheduler, self._databases, self._place = scheduler, databases, place
        self._ledger, self._rng, self._check, self._number = ledger, rng, check, number
        self._may_ask = may_ask
        self._seen = SeenCluster(cluster, place, scheduler, SimulatedClock(scheduler))
        self._leader: Leader | None = None  # the last one that was seen
        self._unknown: list[tuple[int, int, Database]] = []  # (message, entry, where)

    def start(self) -> None:
        for coroutine in (self._seen.follow(), *(self._send() for _ in range(2))):
            self._scheduler.spawn(coroutine, self.owner)

    async def _send(self) -> None:
        while True:
            await self._scheduler.wait(self._rng.uniform(0.1, 0.35))
            self._leader = leader = newest_leader(self._leader, self._seen.snapshot)
            if leader is None or not self._may_ask():
                continue
            known = self._databases.get(leader.node)
            if known is None or not known.world.network.talk(self._place, known.place):
                continue
            try:
                await self._once(known, leader.term)
            except (ReplicationError, asyncpg.PostgresError):
                continue

    async def _once(self, database: Database, term: int) -> None:
        def leads(server: Server) -> bool:
            return database.opened_here(server) == term

        await self._scheduler.wait(self._rng.uniform(0.001, 0.03))
        again = next((u for u in self._unknown if self._rng.random() < 0.5), None)
        began = self._scheduler.now
        if again is not None and database.disk is not None and again[1] in database.disk.wal:
            # It is there, and nobody knows where else: a barrier, and then it may be told of (rule 5).
            message, entry, _ = again
            await database.commit("barrier", None, within=10.0, may=leads)
            self._unknown.remove(again) if again in self._unknown else None
            position = database.disk.wal.index(entry) + 1
        else:
            message = self._number()
            first = len(database.world.entries)
            try:
                patience = self._rng.choice((0.5, 10.0))  # some callers cancel their waits
                position = await database.commit("message", message, within=patience, may=leads)
            except CommitUnknown:
                if (written := _entry_of(database, message, first)) is not None:
                    self._unknown.append((message, written, database))
                    del self._unknown[:-20]
                raise
            found = _entry_of(database, message, first)
            entry = NEVER_WRITTEN if found is None else found
        if not database.world.network.talk(self._place, database.place) or database.disk is None:
            return  # the answer is lost on the way
        row = database.last("row")
        remote = row.payload[3] if row is not None else ()
        told = Acknowledged(message, position, entry, term, database.node, began, self._scheduler.now, remote)
        self._check(told, database)
        ledger = self._ledger
        ledger.longest_gap = max(ledger.longest_gap, told.at - ledger.last)
        ledger.last = told.at
        ledger.acknowledged.append(told)


def _entry_of(database: Database, message: int, first: int) -> int | None:
    """The entry that has a message, if it was written: a disk that stalls takes it later than it was given."""
    entries = database.world.entries
    return next(
        (
            i
            for i in range(first, len(entries))
            if (entries[i].kind, entries[i].payload) == ("message", message)
        ),
        None,
    )
