"""A node's own PostgreSQL as its agent moves it: starts, stops, promotion, rewind and clone, on the model."""

from collections.abc import Callable, Mapping, Sequence

from replication.errors import NeedsClone, NodeError
from sitecontrol.agent.monitor import Running
from sitecontrol.leadership.facts import PgFacts, PgState
from tests.simulation.disk import Disk
from tests.simulation.postgres import Database, Server
from tests.simulation.scheduler import SimulatedClock
from tests.simulation.session import ModelSession, connect

SYSTEM_ID = "7"


class ModelPostgres:
    """What the agent's code asks of `OwnPostgres`, on a Database, by the clock of its machine."""

    def __init__(self, database: Database, clock: SimulatedClock) -> None:
        self.database = database
        self.world = database.world
        self._clock = clock
        self._failed_starts = 0
        self._start_failed_at: float | None = None
        self._known_boot = ""
        self._compared_in: int | None = None
        self._apart_from: str | None = None
        self.comparing = False

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
            compared_in=self._compared_in,
            apart_from=self._apart_from,
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
            start_failed_at=self._start_failed_at if self._failed_starts else None,
            apart_from=self._apart_from,
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
        if database.fails_starts:
            await self._take_time(0.05, 0.2)
            self._failed_starts += 1
            self._start_failed_at = self._clock.now()
            raise NodeError("it ended as soon as it was started")
        self._failed_starts = 0
        assert not (not recovering and not disk.was_primary), "a standby's directory was started as a primary"
        self._known_boot = self.world.new_name("boot")
        ready = self.world.scheduler.now + self.world.rng.choice((0.05, 0.1, 0.3, 0.9))
        database.follows = follows
        disk.flushed = len(disk.wal)  # as recovery does before anything else
        server = Server(disk, self._known_boot, recovering=recovering, names=names, ready_at=ready)
        database.server = server
        disk.clean_end = None
        if recovering:
            disk.was_primary = False
        await self.world.scheduler.until(lambda: database.up() is server, within=30.0)
        disk.unjudged = False

    async def start_primary(self, names: tuple[str, ...], *, within: float | None = None) -> None:
        del within
        await self._start(recovering=False, names=names, follows=None)

    async def start_standby(self, leader: str | None, *, term: int | None = None) -> None:
        compared_in = None
        if leader is not None and term is not None:
            try:
                compared_in = term if await self._compare(leader) else None
            except NeedsClone:
                raise
            except NodeError:
                if self.database.server is not None:
                    raise
                leader = None  # it replays what is here meanwhile
        self._compared_in = compared_in
        if self.database.server is not None:
            if not self.database.server.recovering:
                raise NodeError("it runs as a primary")
            self.database.follows = leader
            return
        await self._start(recovering=True, names=(), follows=leader)

    async def _compare(self, leader: str) -> bool:
        """As `sitecontrol.agent.comparing`: a timeline is known by the promotion that began it."""
        source = self.world.databases[leader]
        self.comparing = True
        try:
            await self._take_time(0.01, 0.1)
        finally:
            self.comparing = False
        up, disk = source.up(), self.database.disk
        if not self.world.network.talk(self.database.place, source.place) or up is None or disk is None:
            raise NodeError("the leader does not tell its history")
        if up.recovering and disk.timeline > up.disk.timeline:
            raise NodeError("the leader is not promoted yet")
        ours, theirs = disk.promotions(self.world.entries), up.disk.promotions(self.world.entries)
        self._apart_from = leader if any(theirs.get(n, p) != p for n, p in ours.items()) else None
        if self._apart_from is not None:
            raise NeedsClone("another timeline of the same number")
        return not up.recovering

    async def disown(self) -> None:
        if (disk := self.database.disk) is not None:
            disk.incarnation = self.world.new_name("disk")

    async def promote(self) -> None:
        database = self.database
        server = database.server
        await self._take_time(0.05, 0.3)
        fails = database.fails_promotion and self.world.rng.choice(
            ("before", "crash", "crash after", "untold")
        )
        if fails == "before" or database.disk_stalls:
            raise NodeError("the promotion did not end")
        if server is None or database.server is not server or database.hung:
            raise NodeError("not running")
        if server.recovering and fails != "crash":
            server.recovering, server.upstream, server.paused = False, False, None
            server.disk.was_primary = True
            server.disk.timeline += 1
            database.flush(server, database.append("promoted"))
            database.follows = None
        if fails in {"crash", "crash after"}:
            database.crash()
        if fails:
            raise NodeError("the promotion did not end")

    async def set_names(self, names: tuple[str, ...]) -> None:
        self.database.set_names(names)
        await self._take_time(0.01, 0.05)

    async def keep_wal(self, *, drop: Sequence[str], make: Sequence[str], move: Mapping[str, int]) -> None:
        """Slots: here WAL is never taken away, but when `rewind` finds it gone."""
        del drop, make, move
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
            lambda: server.told_by(name) >= position and database.server is server, within=within
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
        self._apart_from = None
        await self.start_standby(leader)

    async def reach(self, leader: str) -> None:
        await self._source(leader)

    async def clone(self, leader: str) -> None:
        source = await self._source(leader)
        await self.end_at_once()
        self.database.disk = Disk(incarnation=self.world.new_name("disk"), usable=False)
        await self._take_time(0.3, 1.0)
        await self._copy(source, self.database.disk)
        self._apart_from = None
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
