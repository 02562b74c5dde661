"""This node's PostgreSQL in the words of the agent: who it follows by *name*, what it is at rest, its boots.

Wraps `replication.node.Node`, which knows nothing of sites. Each start gets a random boot in its cluster_name
(`<node>/<boot>`), by which the database knows that it was not opened yet (docs/failover.md).
"""

import asyncio
import secrets as random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import asyncpg
import structlog

from replication import standbys
from replication.binaries import find
from replication.configuration import Primary, Standby
from replication.configured import NodeSettings
from replication.control import ClusterState, ControlData
from replication.directory import sync_folder
from replication.errors import NeedsClone, NodeError, NotReady, ReplicationError
from replication.node import Node
from replication.postmaster import StopMode
from replication.session import Session, Target
from sitecontrol import quarantine
from sitecontrol.agent import comparing
from sitecontrol.agent.fencing import sessions_ended
from sitecontrol.agent.monitor import Running
from sitecontrol.agent.row import OPENING
from sitecontrol.agent.setting_aside import Leading, SettingAside
from sitecontrol.agent.spare import Spare
from sitecontrol.agent.wal_room import WalRoom
from sitecontrol.clock import Clock
from sitecontrol.leadership.facts import PgFacts, PgState
from sitecontrol.leadership.timing import END_POSTGRES
from sitecontrol.settings import Secrets, Settings, SettingsError

log = structlog.get_logger()

CONNECT_WITHIN = 1.0  # seconds
START_WITHIN = 30.0
DOOMED_AFTER = 1.0  # seconds that a killed process may take to go, before a dead disk is the explanation
CLONE_WITHIN = 3_600.0
MADE_WITHIN = 600.0  # a step of the first start: nobody could do it sooner, and what is cut off is begun anew
LOOK_AGAIN = 3.0  # an operator may move a data directory that is at rest
SILENT = (
    ReplicationError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
)  # a TimeoutError is an OSError
WAS_PRIMARY = frozenset(
    {
        ClusterState.IN_PRODUCTION,
        ClusterState.SHUT_DOWN,
        ClusterState.SHUTTING_DOWN,
        ClusterState.CRASH_RECOVERY,
        ClusterState.STARTING_UP,
    }
)


def node_settings(settings: Settings) -> NodeSettings:
    """From the site's file. Raises SettingsError, or ToolsMissing when no PostgreSQL is found."""
    replication, name = settings.replication, settings.site.node
    if replication is None or name is None:
        raise SettingsError("a node needs site.node and [replication]")
    host, _, port = replication.listen.rpartition(":")
    beside = settings.site.state_dir / "postgres"
    return NodeSettings(
        name=name,
        binaries=find(replication.bin_dir, user=replication.run_as),
        data_dir=replication.data_dir,
        config_dir=replication.data_dir.with_name(replication.data_dir.name + ".conf"),
        socket_dir=replication.socket_dir or beside / "socket",
        host=host.strip("[]"),
        port=int(port),
        run_as=replication.run_as,
        parameters=replication.parameters,
    )


class OwnPostgres:
    """`marker`: exists while the first data directory of a cluster is being made (see `bootstrap`)."""

    def __init__(self, settings: Settings, secrets: Secrets, clock: Clock, *, marker: Path) -> None:
        try:
            self._node = Node(node_settings(settings))
        except NodeError as error:
            raise SettingsError(str(error)) from error
        self._settings = settings
        self._secrets = secrets
        self._clock = clock
        self._name = settings.site.node or ""
        self._known = Running(system_id=None, incarnation=None, follows=None)
        self._at_rest: PgFacts | None = None
        self._looked_at = 0.0
        self._failed_starts = 0
        self._start_failed_at: float | None = None
        self._apart_from: str | None = None
        self.comparing = False  # our history with the leader's: until that ends nothing is started or moved
        self._setting_aside = SettingAside(
            self._node,
            site=settings.site.name,
            folder=quarantine.folder_in(settings.site.state_dir),
            clock=clock,
        )
        self._spare = Spare(lambda: self.connect("spare"))
        replication = settings.replication
        self._wal_room = WalRoom(replication.data_dir if replication else Path(), clock)
        self.boot = ""  # of the start that runs; empty for one that we found running
        self.marker = marker

    # -- owning it -------------------------------------------------------------------------------------------

    async def take(self) -> None:
        """Own the data directory; a PostgreSQL that runs there is left running. Raises DataDirectoryInUse."""
        await self._node.acquire()
        running = self._node.find_running()
        if running is not None:
            await self._learn(follows=None)

    async def release(self) -> None:
        self._node.release()

    async def connect(self, purpose: str, *, database: str = "hotsite") -> Session:
        """A superuser session over the unix socket, the caller's to close: a new one, or for OPENING the spare one."""
        if purpose == OPENING and (spare := self._spare.take()) is not None:
            return spare
        return await self._node.session(database, timeout=CONNECT_WITHIN)

    # -- looking at it ---------------------------------------------------------------------------------------

    @property
    def identity(self) -> tuple[str, str]:
        """(system identifier, incarnation) of the data directory that runs."""
        if self._known.system_id is None or self._known.incarnation is None:
            raise NodeError("the data directory is not known yet")
        return self._known.system_id, self._known.incarnation

    def running(self) -> Running:
        return replace(
            self._known,
            unfinished=self.unfinished,
            apart_from=self._apart_from,
            wal_free=self._wal_room.free,
            wal_volume=self._wal_room.volume,
        )

    async def at_rest(self) -> PgFacts | None:
        """What can be said of a PostgreSQL that does not run; None when it runs."""
        if self._node.running is not None:
            self._at_rest = None
            return None
        now = self._clock.now()
        if self._at_rest is None or now - self._looked_at > LOOK_AGAIN:
            self._at_rest, self._looked_at = await self._look_at_rest(), now
        return replace(self._at_rest, wal_free=self._wal_room.free, wal_volume=self._wal_room.volume)

    @property
    def unfinished(self) -> bool:
        return self.marker.exists()

    def forget_marker(self) -> None:
        """The data directory is the cluster's: nobody may take it for leftovers of a first start any more."""
        if self.unfinished:
            self.marker.unlink()
            sync_folder(self.marker.parent)

    async def worth_keeping(self) -> str | None:
        """Why what lies in the data directory is no first start's leftover; None: it is one, or nothing is there."""
        if not self._node.has_data():
            return None
        if not self.unfinished:
            return "no first start of ours was begun in it"
        if self._node.needs_clone():
            return None  # half made, or half removed
        control = await self._node.control_data()
        made = self.marker.read_text().strip()
        if made.isdigit() and made != control.system_id:
            return f"it is of the cluster {control.system_id}, and the first start that was begun made {made}"
        if control.was_standby or control.timeline > 1 or self._node.directory.is_copy():
            return "it was a standby, or was promoted"
        return None

    async def _look_at_rest(self) -> PgFacts:
        if not self._node.has_data():
            return PgFacts(state=PgState.ABSENT)
        if self._node.needs_clone():
            return PgFacts(state=PgState.UNUSABLE)
        control = await self._node.control_data()
        clean_end = await self._clean_end(control)
        return PgFacts(
            state=PgState.STOPPED,
            system_id=control.system_id,
            incarnation=self._node.directory.incarnation(control),
            timeline=control.timeline,
            received_lsn=max(control.min_recovery_end, control.checkpoint, clean_end or 0),
            replayed_lsn=control.checkpoint,
            clean_shutdown_lsn=clean_end,
            was_primary=control.state in WAS_PRIMARY,
            failed_starts=self._failed_starts,
            start_failed_at=self._start_failed_at if self._failed_starts else None,
            apart_from=self._apart_from,
            unfinished=self.unfinished,
        )

    async def _clean_end(self, control: ControlData) -> int | None:
        """Where a clean shutdown as a primary ended. None: there was none, or nobody can tell."""
        if control.state is not ClusterState.SHUT_DOWN:
            return None
        try:
            return await self._node.shutdown_lsn(control)
        except NodeError as error:
            log.warning("shutdown_not_read", error=str(error))
            return None

    async def _learn(self, *, follows: str | None, compared_in: int | None = None) -> None:
        control = await self._node.control_data()
        self._known = Running(
            system_id=control.system_id,
            incarnation=self._node.directory.incarnation(control),
            follows=follows,
            compared_in=compared_in,
        )

    # -- moving it ---------------------------------------------------------------------------------------------

    async def create(self) -> None:
        """The first data directory of a new cluster."""
        await self._node.kill()
        if self._node.has_data():
            await asyncio.to_thread(self._node.directory.remove)
        self._at_rest = None
        await self._node.initdb(deadline=MADE_WITHIN)

    async def start_primary(self, names: tuple[str, ...], *, within: float | None = None) -> None:
        """Start closed; commits wait for every one of `names` from the first moment on.

        Raises NotReady when it still recovers after `within` seconds; it goes on recovering.
        """
        await self._node.kill()
        await self._start(Primary(waits_for=names), follows=None, within=within or START_WITHIN)

    async def start_standby(self, leader: str | None, *, term: int | None = None) -> None:
        """Start as a standby of `leader`, or have a running one follow it; None: replay only what is here.

        With a `term` its history and ours are compared first. Raises NeedsClone when they contradict each other, and
        does nothing then. While the leader does not tell, one that runs is left as it is (raises), and one that does
        not run is started to replay what is here.
        """
        compared_in = None
        if leader is not None and term is not None:
            try:
                compared_in = term if await self._compare(leader) else None
            except NeedsClone:
                raise
            except SILENT as error:
                if self._node.running is not None:
                    raise
                log.warning("history_not_compared", leader=leader, error=str(error))
                leader = None
        role = Standby(upstream=self._target(leader, "replication") if leader else None)
        if self._node.running is not None:
            self._node.follow(role)
            await self._learn(follows=leader, compared_in=compared_in)
        else:
            await self._node.kill()
            await self._start(role, follows=leader, compared_in=compared_in, within=START_WITHIN)
        await self._spare.prepare()

    async def _compare(self, leader: str) -> bool:
        """Returns whether that is the end of it: False while the leader is not promoted."""
        self._at_rest = None
        control = await self._node.control_data()
        self.comparing = True
        try:
            promoted = await comparing.goes_on(self._node, self._target(leader, "rewind"), control.system_id)
        except NeedsClone:
            self._apart_from = leader
            raise
        finally:
            self.comparing = False
        self._apart_from = None
        self.forget_marker()
        return promoted

    async def disown(self) -> None:
        """What is here is not the copy that the leader takes it for: by another name it counts for nothing in `sync`,
        the leader stops waiting for it, and it may be cloned.
        """
        incarnation = self._node.directory.new_incarnation(await self._node.control_data())
        self._known, self._at_rest = replace(self._known, incarnation=incarnation), None
        log.warning("copy_disowned", incarnation=incarnation)

    async def _start(
        self,
        role: Primary | Standby,
        *,
        follows: str | None,
        within: float,
        compared_in: int | None = None,
    ) -> None:
        self.boot = random.token_hex(8)
        try:
            await self._node.start(role, cluster_name=f"{self._name}/{self.boot}", deadline=within)
        except NotReady:
            self._failed_starts = 0  # it runs, and replays
            await self._learn(follows=follows, compared_in=compared_in)
            raise
        except NodeError:
            self._failed_starts += 1
            self._start_failed_at = self._clock.now()
            raise
        finally:
            self._at_rest = None
        self._failed_starts = 0
        await self._learn(follows=follows, compared_in=compared_in)

    async def promote(self) -> None:
        await self._node.promote(through=self._spare.session)  # it stays there for the opening
        self._known = replace(
            self._known, follows=None, compared_in=None
        )  # the directory is the same: no look at it in the pause

    async def set_names(self, names: tuple[str, ...]) -> None:
        """Have commits wait for these only; whoever waits for others now returns as if it had been waited for."""
        await self._node.wait_for(names)

    async def bring_in(self, name: str, *, within: float) -> int:
        """Have commits wait for `name` too; return a position, taken once they really do, that it has flushed."""
        position = await standbys.begin_waiting(self._node, (name,), deadline=within)
        async with aclosing(await self._node.session()) as session:
            await standbys.wait_flushed(session, name, position, deadline=within)
        return position

    async def keep_wal(
        self, *, drop: Sequence[str], make: Sequence[str], move: Sequence[tuple[str, int]]
    ) -> None:
        """Drop these slots, make those, move others; all of it can be repeated."""
        async with aclosing(await self._node.session()) as session:
            for name in drop:
                await standbys.drop_slot(session, name)
            for name in make:
                await standbys.create_slot(session, name)
            for name, position in move:
                await standbys.move_slot(session, name, position)

    async def stop_clean(self, *, within: float) -> None:
        """A fast, clean shutdown; past its time an immediate one, which is not clean."""
        try:
            await self._node.stop(StopMode.FAST, deadline=within)
        except NodeError as error:
            log.warning("shutdown_not_clean", error=str(error))
            await self.end_at_once()

    async def end_at_once(self, reached: Callable[[str], None] = lambda _step: None) -> None:
        """Immediate stop; whatever is left of its processes is killed. `reached` is told the steps, as in `fencing`.

        What a dead disk holds in the kernel counts as ended: otherwise nobody could ever take over from such a leader.
        """
        watching = asyncio.create_task(self._watch_sessions(reached), name="sessions-end")
        try:
            await self._node.stop(StopMode.IMMEDIATE, deadline=END_POSTGRES)
        except NodeError:
            await self._node.kill(doomed_after=DOOMED_AFTER)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        self._at_rest = None
        reached("connections_ended")
        reached("postgres_ended")

    async def _watch_sessions(self, reached: Callable[[str], None]) -> None:
        postmaster = self._node.running
        if postmaster is not None:
            await sessions_ended(postmaster)
            reached("connections_ended")

    async def rewind(self, leader: str) -> None:
        """Back to the leader's history, then start as its standby. Raises NeedsClone."""
        source = self._target(leader, "rewind")
        timeline = await self._timeline_of(
            source
        )  # before anything is stopped: it may only be the line that is dead
        await self.stop_clean(within=5.0)
        await self._set_aside(leader)
        needed = await self._node.rewind_from(source, timeline=timeline)
        self._failed_starts, self._apart_from = 0, None
        log.info("rewound", leader=leader, needed=needed)
        await self.start_standby(leader)

    async def reach(self, leader: str) -> None:
        """Raises when it does not answer."""
        await self._timeline_of(self._target(leader, "rewind"))

    async def clone(self, leader: str) -> None:
        await self._timeline_of(self._target(leader, "rewind"))  # as above
        await self._node.make_room_for(self._target(leader, "monitor"))
        await self.end_at_once()
        await self._set_aside(leader)
        await self._node.clone_from(self._target(leader, "replication"), deadline=CLONE_WITHIN)
        self.forget_marker()
        self._failed_starts, self._apart_from = 0, None
        log.info("cloned", leader=leader)
        await self.start_standby(leader)

    async def _set_aside(self, leader: str) -> None:
        try:
            await self._setting_aside.run(
                Leading(
                    node=leader, files=self._target(leader, "rewind"), rows=self._target(leader, "migrate")
                )
            )
        finally:
            self._at_rest = None

    async def _timeline_of(self, source: Target) -> int:
        session = await Session.connect(source, timeout=CONNECT_WITHIN)
        try:
            rows = await session.read(
                "select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int as timeline",
                timeout=CONNECT_WITHIN,
            )
        finally:
            await session.aclose()
        return int(rows[0]["timeline"])

    def _target(self, node: str, role: str) -> Target:
        known = self._settings.node(node)
        if known is None:
            raise NeedsClone(f"no node {node!r} in our settings: add it as a [[place.node]]")
        host, _, port = known.postgres.rpartition(":")
        return Target(
            host=host.strip("[]"),
            port=int(port),
            user=f"hotsite_{role}",
            password=self._secrets.get(f"postgres-{role}"),
            database="hotsite",
            application_name=self._name,
        )
