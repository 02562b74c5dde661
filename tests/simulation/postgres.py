"""PostgreSQL, as far as losing and keeping commits goes: data directories with their WAL, servers, streaming.

A WAL is a list of entries, each made once, on top of what was there: two directories hold the same up to where they
hold the same entry. A position (LSN) is the number of entries. Modelled: commits that wait for the standbys that
`synchronous_standby_names` names, and the moment between setting a name and really waiting for it; waits that end
because the names were cleared; crashes, clean and immediate stops, stops that do not end; timelines; promotion, which
may fail; streaming, which needs one history as far as the numbers of timelines tell; a standby's position that is not
known while it does not run; rewind and clone, which leave a directory unusable when they are cut off.
"""

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncpg

from replication.errors import CommitUnknown, NodeError, SessionLost
from tests.simulation.disk import Disk, Entry
from tests.simulation.etcd import Network
from tests.simulation.queue import Queue
from tests.simulation.scheduler import Bell, Scheduler

WALSENDER_TIMEOUT = 2.0
ONE_WAY = (0.01, 0.03)
KEEPALIVE = 0.2  # seconds between two words of a standby that has received all
PATIENCE = 0.1  # seconds after which one who waits looks by itself


class World:
    """All entries that were ever written, and who runs."""

    def __init__(self, scheduler: Scheduler, network: Network, rng: random.Random) -> None:
        self.scheduler = scheduler
        self.network = network
        self.rng = rng
        self.entries: list[Entry] = []
        self.databases: dict[str, Database] = {}
        self.serial = 0

    def new_name(self, kind: str) -> str:
        self.serial += 1
        return f"{kind}{self.serial}"


class Server:
    """One start of a PostgreSQL."""

    def __init__(
        self, disk: Disk, boot: str, *, recovering: bool, names: tuple[str, ...], ready_at: float
    ) -> None:
        self.disk = disk
        self.boot = boot
        self.recovering = recovering
        self.names = names
        self.waits_for = names  # whom commits really wait for; at a start, those it was started with
        self.ready_at = ready_at
        self.closing = False
        self.flushed: dict[str, int] = {}  # by the standby's machine: how far it told that it has flushed
        self.senders: dict[str, float] = {}  # by the standby's machine: when it was last heard of
        self.upstream = False
        self.reload = 0  # counts changes of `names`
        self.canary_at = float("-inf")  # when the newest canary that has committed was written
        self.opened_at = ready_at  # when its row was last written
        self.paused: Replayed | None = None  # replay stands still

    def told_by(self, name: str) -> int:
        """How far a standby of this name has flushed. Of two by one name either's word counts for PostgreSQL."""
        return max(self.flushed.get(name, 0), self.flushed.get(second(name), 0))

    def told_by_all(self, position: int) -> bool:
        """Whoever commits wait for has flushed that far."""
        for name in self.waits_for:  # noqa: SIM110 # asked at each step of each commit: a generator costs more
            if self.told_by(name) < position:
                return False
        return True


@functools.lru_cache(maxsize=64)
def second(node: str) -> str:
    """The machine beside `node`'s own that runs under its name."""
    return f"{node} (second)"


@dataclass(frozen=True)
class Replayed:
    """What can be read where replay stands still."""

    position: int
    row: Entry | None
    canary: int | None


class Database:
    """One node's PostgreSQL: its directory, and the server that runs on it, if one does.

    `machine`: where it runs, which is the node's name but for a second one that was given the same name.
    """

    def __init__(self, world: World, node: str, place: str, *, machine: str | None = None) -> None:
        self.world = world
        self.node = node
        self.place = place
        self.machine = machine or node
        self.owner = f"postgres {self.machine}"
        self.disk: Disk | None = None
        self._server: Server | None = None
        self.grew = Bell(world.scheduler)  # there is more WAL
        self.settled = Bell(world.scheduler)  # what commits wait for may have come
        self.follows: str | None = None
        self.slow_stop = False
        self.disk_stalls = False  # nothing more gets onto it, and nothing that needs to be written ends
        self.unflushed = 0  # commits whose WAL waits for it
        self.fails_promotion = False
        self.fails_starts = False  # it ends as soon as it is started
        world.databases[self.machine] = self
        self._restart_receiver()

    @property
    def server(self) -> Server | None:
        return self._server

    @server.setter
    def server(self, server: Server | None) -> None:
        self._server = server
        self.world.scheduler.changes += 1
        self.settled.ring()

    @property
    def hung(self) -> bool:
        return self.world.scheduler.is_stopped(self.owner)

    def up(self) -> Server | None:
        """The server, if it answers."""
        server = self.server
        return None if server is None or self.hung or self.world.scheduler.now < server.ready_at else server

    def crash(self) -> None:
        self.world.scheduler.kill(self.owner)
        self.server = None
        self._restart_receiver()

    def _restart_receiver(self) -> None:
        self.world.scheduler.spawn(self._receive(), self.owner)

    def lose_power(self) -> None:
        """The machine is gone, and what it had not flushed, or some of it."""
        self.crash()
        if self.disk is not None:
            self.disk.lose_power(
                self.world.rng.randint(self.disk.flushed, max(self.disk.flushed, len(self.disk.wal)))
            )
            self.world.scheduler.changes += 1

    def pause_replay(self) -> None:
        server = self.server
        if server is not None and server.recovering:
            server.paused = Replayed(
                len(server.disk.wal), self.last("row"), server.disk.latest("canary", self.world.entries)
            )

    def resume_replay(self) -> None:
        if self.server is not None:
            self.server.paused = None

    # -- what it holds

    def last(self, kind: str) -> Entry | None:
        found = None if self.disk is None else self.disk.latest(kind, self.world.entries)
        return None if found is None else self.world.entries[found]

    def opened_here(self, server: Server) -> int | None:
        """The term that this very start was opened in."""
        row = self.last("row")
        if row is None or server.recovering:
            return None
        term, node, boot, _ = row.payload
        return int(term) if (node, boot) == (self.node, server.boot) else None

    def append(self, kind: str, payload: Any = None) -> int:
        """Write; `flush` comes later. Returns the position after it."""
        disk = self.disk
        assert disk is not None
        self.world.entries.append(Entry(kind, disk.timeline, payload))
        disk.wal.append(len(self.world.entries) - 1)
        self.world.scheduler.changes += 1
        return len(disk.wal)

    def flush(self, server: Server, position: int) -> None:
        """What is on disk here may be streamed, and told of."""
        disk = server.disk
        if self.server is server and disk.flushed < position:
            disk.flushed = position
            self.grew.ring()

    def queue(self) -> Queue:
        assert self.disk is not None
        return self.disk.queue(self.world.entries)

    # -- commits

    async def commit(
        self,
        kind: str,
        payload: Any,
        *,
        within: float,
        local: bool = False,
        may: Callable[[Server], bool] = lambda _: True,
    ) -> int:
        """Raises SessionLost (nothing was sent), CommitUnknown, or NotAllowed."""
        world = self.world
        started = world.scheduler.now
        server = self.up()
        if server is None or server.closing:
            raise SessionLost("no server")
        if server.recovering:
            raise NotAllowed("read-only")
        if not may(server):
            raise NotAllowed("not the leader")
        await self._disk_takes(server, until=started + within)
        position = self.append(kind, payload() if callable(payload) else payload)
        await world.scheduler.wait(world.rng.uniform(0.001, 0.01))
        self.flush(server, position)
        while True:
            if self.server is not server or server.closing or world.scheduler.now - started > within:
                raise CommitUnknown("cut off")
            if not self.hung and (local or server.told_by_all(position)):
                return position
            await world.scheduler.wait(PATIENCE, self.settled)

    async def _disk_takes(self, server: Server, *, until: float) -> None:
        """What a crash finds still waiting is gone, and nobody was told of it."""
        self.unflushed += 1
        try:
            while self.disk_stalls:
                await self.world.scheduler.wait(0.03)
                if self.server is not server or self.world.scheduler.now > until:
                    raise CommitUnknown("cut off")
        finally:
            self.unflushed -= 1

    def set_names(self, names: tuple[str, ...]) -> None:
        """Clearing a name counts at once; waiting for a new one begins when the checkpointer gets to it."""
        server = self.server
        if server is None:
            raise NodeError("not running")
        server.names = names
        server.reload += 1
        server.waits_for = tuple(n for n in server.waits_for if n in names)
        self.settled.ring()
        delay = self.world.rng.choice((0.0, 0.05, 0.3, 0.8))
        self.world.scheduler.spawn(self._begin_waiting(server, server.reload, delay), self.owner)

    def add_name(self, name: str) -> None:
        """Whoever is waited for already stays."""
        known = self.server.names if self.server is not None else ()
        self.set_names((name, *(n for n in known if n != name)))

    async def _begin_waiting(self, server: Server, reload: int, delay: float) -> None:
        await self.world.scheduler.wait(delay)
        if server.reload == reload:
            server.waits_for = server.names

    async def shut_down(self, server: Server) -> None:
        """Clean, and by itself: also when whoever asked for it is gone."""
        wait, rng = self.world.scheduler.wait, self.world.rng
        await wait(rng.uniform(0.05, 0.2))
        if not server.recovering:
            while self.disk_stalls:
                await wait(0.01)
            end = self.append("checkpoint")
            self.flush(server, end)
            while self.slow_stop or any(
                server.flushed.get(n, 0) < end for n in server.senders if self.streams_to(n, server)
            ):
                await wait(0.01)
            server.disk.clean_end = end
        server.disk.checkpoint = len(server.disk.wal)
        server.disk.control_timeline = server.disk.timeline
        self.crash()

    # -- streaming

    async def _receive(self) -> None:
        """The walreceiver, whenever there is one: what the upstream has, a way's time later."""
        wait, rng = self.world.scheduler.wait, self.world.rng
        heard: tuple[Server, int] | None = None  # what is under way to us
        told = 0
        while True:
            server, upstream = self.up(), self._upstream()
            if server is None or not server.recovering or upstream is None:
                heard = None
                if server is not None:
                    server.upstream = False
                await wait(PATIENCE)
                continue
            source = upstream.up()
            assert source is not None
            flushed = source.flushed.get(self.machine, 0)
            if heard is not None and heard[0] is source:
                self._take(server, source, heard[1])
                self._flush_received(server, told)
                if told > flushed:
                    source.flushed[self.machine] = flushed = told
                    upstream.settled.ring()
            elif flushed > len(server.disk.wal):
                source.flushed[self.machine] = flushed = 0  # another data directory by this name
            told = len(server.disk.wal)
            server.upstream = True
            source.senders[self.machine] = self.world.scheduler.now
            if flushed == told == source.disk.flushed:
                await wait(KEEPALIVE, upstream.grew)
            heard = (source, source.disk.flushed)
            await wait(rng.uniform(*ONE_WAY))

    def _upstream(self) -> "Database | None":
        """Who is streamed from: reached, running, and on the timeline, by its number, that our last entry is on."""
        upstream = self.world.databases.get(self.follows) if self.follows else None
        if upstream is None or self.disk is None or not self.world.network.talk(self.place, upstream.place):
            return None
        source = upstream.up()
        if source is None or source.recovering:
            return None
        ours, theirs = self.disk.wal, source.disk.wal
        if len(ours) > len(theirs):
            return None
        entries = self.world.entries
        same = not ours or entries[theirs[len(ours) - 1]].timeline == entries[ours[-1]].timeline
        return upstream if same else None

    def _take(self, server: Server, source: Server, length: int) -> None:
        wal = server.disk.wal
        if self.disk_stalls:
            return
        wal.extend(source.disk.wal[len(wal) : length])
        if wal:
            server.disk.timeline = self.world.entries[wal[-1]].timeline

    @staticmethod
    def _flush_received(server: Server, told: int) -> None:
        server.disk.flushed = max(server.disk.flushed, told)

    def streams_to(self, machine: str, server: Server) -> bool:
        heard = server.senders.get(machine)
        return heard is not None and self.world.scheduler.now - heard < WALSENDER_TIMEOUT


class NotAllowed(asyncpg.PostgresError):
    """The server refused: nothing was done."""
