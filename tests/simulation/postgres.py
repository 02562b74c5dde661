"""PostgreSQL, as far as losing and keeping commits goes: data directories with their WAL, servers, streaming.

A WAL is a list of entries, each made once, on top of what was there: two directories hold the same up to where they
hold the same entry. A position (LSN) is the number of entries. Modelled: commits that wait for the standbys that
`synchronous_standby_names` names, and the moment between setting a name and really waiting for it; waits that end
because the names were cleared; crashes, clean and immediate stops, stops that do not end; timelines; promotion, which
may fail; streaming, which needs one history; a standby's position that is not known while it does not run; rewind and
clone, which leave a directory unusable when they are cut off.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from replication.errors import CommitUnknown, NeedsClone, NodeError, SessionLost
from sitecontrol.agent.monitor import CANARY, POLL, Running
from sitecontrol.agent.neighbours import RECEIVED
from sitecontrol.agent.row import BARRIER, FINGERPRINT, HIDE_REMOTE, OPEN, SHOW_REMOTE
from sitecontrol.leadership.facts import PgFacts, PgState
from sitecontrol.leadership.slots import slot_of
from tests.simulation.etcd import Network
from tests.simulation.scheduler import Bell, Scheduler

SYSTEM_ID = "7"
WALSENDER_TIMEOUT = 2.0
ONE_WAY = (0.01, 0.03)
KEEPALIVE = 0.2  # seconds between two words of a standby that has received all
PATIENCE = 0.1  # seconds after which one who waits looks by itself


@dataclass(frozen=True)
class Entry:
    kind: str  # "message", "row", "canary", "barrier", "checkpoint", "promoted"
    timeline: int
    payload: Any = None


@dataclass
class Disk:
    """A data directory. What it holds is on disk: it survives whatever happens to the server."""

    incarnation: str
    wal: list[int] = field(default_factory=list)
    timeline: int = 1
    control_timeline: int = 1
    checkpoint: int = 0  # up to where a stopped standby's control file tells that it holds entries
    was_primary: bool = False
    clean_end: int | None = None
    usable: bool = True
    _seen: int = 0  # entries of `wal` that `_latest` knows of
    _latest: dict[str, int] = field(default_factory=dict)

    def copy_of(self, wal: list[int]) -> None:
        self.wal, self._seen, self._latest = list(wal), 0, {}

    def latest(self, kind: str, entries: "list[Entry]") -> int | None:
        """The newest entry of a kind."""
        for i in self.wal[self._seen :]:
            self._latest[entries[i].kind] = i
        self._seen = len(self.wal)
        return self._latest.get(kind)


class World:
    """All entries that were ever written, and who runs."""

    def __init__(self, scheduler: Scheduler, network: Network, rng: random.Random) -> None:
        self.scheduler = scheduler
        self.network = network
        self.rng = rng
        self.entries: list[Entry] = []
        self.databases: dict[str, Database] = {}
        self.serial = 0
        self.looks = 0  # grows with every write and every start or end of a server

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
        self.flushed: dict[str, int] = {}  # by standby: how far it told that it has flushed
        self.senders: dict[str, float] = {}  # by standby: when it was last heard of
        self.upstream = False
        self.reload = 0  # counts changes of `names`


class Database:
    """One node's PostgreSQL: its directory, and the server that runs on it, if one does."""

    def __init__(self, world: World, node: str, place: str) -> None:
        self.world = world
        self.node = node
        self.place = place
        self.owner = f"postgres {node}"
        self.disk: Disk | None = None
        self._server: Server | None = None
        self.grew = Bell(world.scheduler)  # there is more WAL
        self.settled = Bell(world.scheduler)  # what commits wait for may have come
        self.follows: str | None = None
        self.slow_stop = False
        self.disk_stalls = False  # nothing more gets onto it, and nothing that needs to be written ends
        self.unflushed = 0  # commits whose WAL waits for it
        self.fails_promotion = False
        world.databases[node] = self
        self._restart_receiver()

    @property
    def server(self) -> Server | None:
        return self._server

    @server.setter
    def server(self, server: Server | None) -> None:
        self._server = server
        self.world.looks += 1
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
        """Write and flush here; returns the position after it."""
        disk = self.disk
        assert disk is not None
        self.world.entries.append(Entry(kind, disk.timeline, payload))
        disk.wal.append(len(self.world.entries) - 1)
        self.world.looks += 1
        self.grew.ring()
        return len(disk.wal)

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
        position = self.append(kind, payload)
        await world.scheduler.wait(world.rng.uniform(0.001, 0.01))
        while True:
            if self.server is not server or server.closing or world.scheduler.now - started > within:
                raise CommitUnknown("cut off")
            if not self.hung and (
                local or all(server.flushed.get(n, 0) >= position for n in server.waits_for)
            ):
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
            flushed = source.flushed.get(self.node, 0)
            if heard is not None and heard[0] is source:
                self._take(server, source, heard[1])
                if told > flushed:
                    source.flushed[self.node] = flushed = told
                    upstream.settled.ring()
            elif flushed > len(server.disk.wal):
                source.flushed[self.node] = flushed = 0  # another data directory by this name
            told = len(server.disk.wal)
            server.upstream = True
            source.senders[self.node] = self.world.scheduler.now
            if flushed == told == len(source.disk.wal):
                await wait(KEEPALIVE, upstream.grew)
            heard = (source, len(source.disk.wal))
            await wait(rng.uniform(*ONE_WAY))

    def _upstream(self) -> "Database | None":
        """Who is streamed from: reached, running, and of one history with us."""
        upstream = self.world.databases.get(self.follows) if self.follows else None
        if upstream is None or self.disk is None or not self.world.network.talk(self.place, upstream.place):
            return None
        source = upstream.up()
        if source is None or source.recovering:
            return None
        ours, theirs = self.disk.wal, source.disk.wal
        same = len(ours) <= len(theirs) and (not ours or theirs[len(ours) - 1] == ours[-1])
        return upstream if same else None

    def _take(self, server: Server, source: Server, length: int) -> None:
        wal = server.disk.wal
        if self.disk_stalls:
            return
        wal.extend(source.disk.wal[len(wal) : length])
        if wal:
            server.disk.timeline = self.world.entries[wal[-1]].timeline

    def streams_to(self, node: str, server: Server) -> bool:
        heard = server.senders.get(node)
        return heard is not None and self.world.scheduler.now - heard < WALSENDER_TIMEOUT


class NotAllowed(asyncpg.PostgresError):
    """The server refused: nothing was done."""


class ModelSession:
    """What the agent's code asks of a session, statement by statement."""

    def __init__(self, database: Database, server: Server) -> None:
        self._database = database
        self._server = server
        self.closed = False

    def terminate(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True

    async def read(self, sql: str, *_: object, timeout: float) -> list[dict[str, Any]]:
        database = self._database
        await self._ready(timeout)
        if sql == POLL:
            return [database_poll(database, self._server)]
        if sql == RECEIVED:
            return [{"lsn": len(self._server.disk.wal)}]
        if sql == "checkpoint":
            await database.world.scheduler.wait(database.world.rng.uniform(0.02, 0.4))
            await self._ready(timeout)
            disk = self._server.disk
            disk.control_timeline, disk.checkpoint = disk.timeline, len(disk.wal)
            return []
        assert "fingerprint" in sql
        return [{"fingerprint": FINGERPRINT}]

    async def commit(self, sql: str, *args: Any, timeout: float) -> list[Any]:
        database, server = self._database, self._server
        await self._ready(timeout)
        if sql == BARRIER:
            await database.commit("barrier", None, within=timeout)
        elif sql == CANARY:
            await database.commit("canary", args[0], within=timeout)
        elif sql == OPEN:
            term, node = args
            await database.commit("row", (term, node, server.boot, ()), within=timeout, local=True)
        else:
            row = database.last("row")
            if row is None:
                return []
            term, node, boot, remote = row.payload
            if sql == HIDE_REMOTE:
                remote = tuple(n for n in remote if n not in args[0])
            else:
                assert sql == SHOW_REMOTE
                remote = tuple(args[0])
            await database.commit("row", (term, node, boot, remote), within=timeout, local=True)
        return []

    async def _ready(self, timeout: float) -> None:
        """The same server still answers."""
        database = self._database
        await database.world.scheduler.wait(database.world.rng.uniform(0.0005, 0.004))
        if not await database.world.scheduler.until(lambda: not database.hung, within=timeout, every=0.05):
            self.closed = True
            raise SessionLost("no answer")
        if self.closed or database.server is not self._server:
            self.closed = True
            raise SessionLost("the server is gone")


def database_poll(database: Database, server: Server) -> dict[str, Any]:
    disk, row = server.disk, database.last("row")
    standbys = [
        {
            "name": name,
            "streaming": True,
            "flush": server.flushed.get(name, 0),
            "replay": server.flushed.get(name, 0),
            "flush_lag": 0.0,
            "replay_lag": 0.0,
        }
        for name in server.senders
        if database.streams_to(name, server)
    ]
    return {
        "in_recovery": server.recovering,
        "row_term": row.payload[0] if row else None,
        "opened_here": row is not None and row.payload[1:3] == (database.node, server.boot),
        "remote_in_step": list(row.payload[3]) if row else [],
        "canary_seq": disk.latest("canary", database.world.entries),
        "names": ",".join(f'"{name}"' for name in server.names),
        "lsn": len(disk.wal),
        "inserted": len(disk.wal) + database.unflushed,
        "replayed": len(disk.wal),
        "timeline": disk.timeline,
        "control_timeline": disk.control_timeline,
        "upstream": server.upstream,
        "standbys": json.dumps(standbys),
        "slots": json.dumps(
            [
                {"name": slot_of(name), "lsn": len(disk.wal), "lost": False}
                for name in database.world.databases
                if name != database.node
            ]
        ),
    }


class ModelPostgres:
    """What the agent's code asks of `OwnPostgres`, on a Database; `alive` tells whether this agent still is."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.world = database.world
        self._failed_starts = 0
        self._known_boot = ""

    @property
    def boot(self) -> str:
        return self._known_boot

    def forget_marker(self) -> None:
        return

    def running(self) -> Running:
        disk = self.database.disk
        return Running(
            system_id=SYSTEM_ID if disk else None,
            incarnation=disk.incarnation if disk else None,
            follows=self.database.follows,
        )

    async def connect(self, purpose: str) -> ModelSession:
        del purpose
        return await connect(self.database)

    async def at_rest(self) -> PgFacts | None:
        database, disk = self.database, self.database.disk
        if database.server is not None:
            return None
        if disk is None:
            return PgFacts(state=PgState.ABSENT)
        if not disk.usable:
            return PgFacts(state=PgState.UNUSABLE)
        known = len(disk.wal) if disk.was_primary else disk.checkpoint
        return PgFacts(
            state=PgState.STOPPED,
            system_id=SYSTEM_ID,
            incarnation=disk.incarnation,
            timeline=disk.control_timeline if not disk.was_primary else disk.timeline,
            received_lsn=known,
            replayed_lsn=disk.checkpoint,
            clean_shutdown_lsn=disk.clean_end,
            was_primary=disk.was_primary,
            failed_starts=self._failed_starts,
        )

    # -- moving it

    async def _take_time(self, least: float, most: float) -> None:
        await self.world.scheduler.wait(self.world.rng.uniform(least, most))

    async def _start(self, *, recovering: bool, names: tuple[str, ...], follows: str | None) -> None:
        database, disk = self.database, self.database.disk
        await self.end_at_once()
        if disk is None or not disk.usable:
            raise NodeError("no data")
        if database.disk_stalls:
            raise NodeError("its disk takes nothing")
        assert not (not recovering and not disk.was_primary), "a standby's directory was started as a primary"
        self._known_boot = self.world.new_name("boot")
        ready = self.world.scheduler.now + self.world.rng.choice((0.05, 0.1, 0.3, 0.9))
        database.follows = follows
        server = Server(disk, self._known_boot, recovering=recovering, names=names, ready_at=ready)
        database.server = server
        disk.clean_end = None
        if recovering:
            disk.was_primary = False
        await self.world.scheduler.until(lambda: database.up() is server, within=30.0)

    async def start_primary(self, names: tuple[str, ...], *, within: float | None = None) -> None:
        del within
        await self._start(recovering=False, names=names, follows=None)

    async def start_standby(self, leader: str | None) -> None:
        if self.database.server is not None:
            if not self.database.server.recovering:
                raise NodeError("it runs as a primary")
            self.database.follows = leader
            return
        await self._start(recovering=True, names=(), follows=leader)

    async def promote(self) -> None:
        database = self.database
        server = database.server
        await self._take_time(0.05, 0.3)
        if database.fails_promotion or database.disk_stalls:
            raise NodeError("the promotion did not end")
        if server is None or database.server is not server or database.hung:
            raise NodeError("not running")
        if server.recovering:
            server.recovering = False
            server.upstream = False
            server.disk.was_primary = True
            server.disk.timeline += 1
            database.append("promoted")
            database.follows = None

    async def set_names(self, names: tuple[str, ...]) -> None:
        self.database.set_names(names)
        await self._take_time(0.01, 0.05)

    async def bring_in(self, name: str, *, within: float) -> int:
        database = self.database
        server = database.server
        database.add_name(name)
        if server is None or not await self.world.scheduler.until(
            lambda: name in server.waits_for and database.server is server, within=within
        ):
            raise NodeError("waiting did not begin")
        position = len(server.disk.wal)
        if not await self.world.scheduler.until(
            lambda: server.flushed.get(name, 0) >= position and database.server is server, within=within
        ):
            raise NodeError("it did not flush in time")
        return position

    async def stop_clean(self, *, within: float) -> None:
        database = self.database
        server = database.server
        if server is None or database.hung:
            await self.end_at_once()
            return
        if not server.closing:
            server.closing = True
            self.world.scheduler.spawn(database.shut_down(server), database.owner)
        if not await self.world.scheduler.until(lambda: database.server is not server, within=within):
            await self.end_at_once()

    async def end_at_once(self, reached: Callable[[str], None] = lambda _step: None) -> None:
        if self.database.server is not None:
            await self._take_time(0.01, 0.3)
            self.database.crash()
        reached("connections_ended")
        reached("postgres_ended")

    async def rewind(self, leader: str) -> None:
        source = await self._source(leader)
        await self.stop_clean(within=5.0)
        disk = self.database.disk
        if disk is None or not disk.usable:
            raise NeedsClone("nothing to rewind")
        up = source.up()
        if up is None or up.disk.control_timeline != up.disk.timeline:
            raise NodeError("the leader's first checkpoint is not done")
        if self.world.rng.random() < 0.15:
            raise NeedsClone("WAL from before the fork is gone")
        disk.usable = False
        await self._take_time(0.2, 0.8)
        await self._copy(source, disk)
        await self.start_standby(leader)

    async def clone(self, leader: str) -> None:
        source = await self._source(leader)
        await self.end_at_once()
        self.database.disk = Disk(incarnation=self.world.new_name("disk"), usable=False)
        await self._take_time(0.3, 1.0)
        await self._copy(source, self.database.disk)
        await self.start_standby(leader)

    async def _source(self, leader: str) -> Database:
        source = self.world.databases[leader]
        await self._take_time(0.01, 0.1)
        up = source.up()
        if not self.world.network.talk(self.database.place, source.place) or up is None or up.recovering:
            raise NodeError("the leader cannot be reached")
        return source

    async def _copy(self, source: Database, disk: Disk) -> None:
        up = source.up()
        if not self.world.network.talk(self.database.place, source.place) or up is None or up.recovering:
            raise NodeError("the leader was lost on the way")
        disk.copy_of(up.disk.wal)
        disk.timeline = disk.control_timeline = up.disk.timeline
        disk.checkpoint = len(disk.wal)
        disk.was_primary, disk.clean_end, disk.usable = False, None, True


async def connect(database: Database) -> ModelSession:
    world = database.world
    await world.scheduler.wait(world.rng.uniform(0.001, 0.01))
    server = database.server
    if server is None:
        raise SessionLost("nobody listens")
    if world.scheduler.now < server.ready_at or server.closing:
        raise asyncpg.CannotConnectNowError("the database system is starting up")
    if database.hung:
        await world.scheduler.wait(1.0)
        raise SessionLost("no answer")
    return ModelSession(database, server)
