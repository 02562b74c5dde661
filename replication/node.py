"""One PostgreSQL over one data directory: made, started for a role, stopped, promoted, cloned, rewound.

The node does what it is told; who should lead is decided elsewhere. What it guarantees by itself:

* nobody else owns the data directory (`acquire`), and nothing of an earlier life still runs in it when
  something new begins;
* its configuration is rendered outside of the data directory for the role before each start, and
  `standby.signal` is made, or removed, for that role; a file that another node's copy brought along counts
  for nothing; a standby has no replication slots;
* a directory that was cut off half way (`needs_clone`) is never started; one that ran, or was copied, as a
  standby is never started as a primary: only `promote` ends recovery, which begins a new timeline;
* the server outlives the agent, and is found again (`find_running`).

Deadlines are in seconds. Errors are NodeError and its kinds; each operation can be repeated.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import structlog

from replication import histories, timelines
from replication.changes import Changes
from replication.configuration import Primary, Role, Standby
from replication.configured import PRIVATE_PORT, NodeSettings, Rendered, check
from replication.control import ClusterState, ControlData
from replication.directory import DataDirectory
from replication.errors import NeedsClone, NodeError
from replication.polling import until
from replication.postmaster import Log, Postmaster, StopMode
from replication.processes import Account, kill_all
from replication.session import Session, Target
from replication.timelines import Stretch
from replication.tools import Tools

log = structlog.get_logger()

STATEMENT_S = 5.0  # for statements that only look
CLEAN = frozenset({ClusterState.SHUT_DOWN, ClusterState.SHUT_DOWN_IN_RECOVERY})
SIZES_S = 30.0  # for the sizes of databases, whose files are all looked at
MB = 1_000_000
ROOM_FOR_WAL = 200 * MB  # what is written while a copy is taken


class Node:
    def __init__(self, settings: NodeSettings) -> None:
        check(settings)
        self.settings = settings
        self.account = Account.named(settings.run_as)
        self._rendered = Rendered(settings, self.account)
        self.directory = DataDirectory(settings.data_dir, settings.config_dir)
        self._tools = Tools(binaries=settings.binaries, account=self.account, folder=settings.config_dir)
        self._log = Log(settings.config_dir / "postgres.log")
        self._postmaster: Postmaster | None = None

    # -- owning it

    async def acquire(self) -> None:
        """Own the data directory; end programs that an earlier agent left at work on it.

        Raises DataDirectoryInUse. A server that runs is left running: see `find_running`.
        """
        self.account.make_folder(self.settings.config_dir)
        self.account.make_folder(self.settings.socket_dir)
        self.directory.lock()
        if self._runs_privately():
            log.warning("private_server_ended", node=self.settings.name, count=await self.kill())
        if strays := await self._tools.end_strays():
            log.warning("strays_killed", node=self.settings.name, count=strays)

    def release(self) -> None:
        """Give the data directory back; a server that runs goes on."""
        if self._postmaster is not None:
            self._postmaster.release()
            self._postmaster = None
        self.directory.unlock()

    # -- looking at it

    @property
    def running(self) -> Postmaster | None:
        """The postmaster that was started or found, unless it has ended."""
        if self._postmaster is not None and self._postmaster.ended:
            self._postmaster = None
        return self._postmaster

    def has_data(self) -> bool:
        return self.directory.exists()

    def needs_clone(self) -> bool:
        """Whether there is a data directory that only a clone can replace."""
        return self.directory.exists() and not self.directory.whole()

    async def control_data(self) -> ControlData:
        return await self._tools.control_data(self.settings.data_dir)

    async def incarnation(self) -> str:
        """The identity of the data directory (see `directory`). Costs a look at the control file."""
        return self.directory.incarnation(await self.control_data())

    async def shutdown_lsn(self, control: ControlData | None = None) -> int | None:
        """Where a clean shutdown as a primary ended; None after any other end.

        A standby that has flushed this position lacks nothing. `control` saves a look at the control file.
        """
        return await self._tools.shutdown_end(
            self.settings.data_dir, control if control is not None else await self.control_data()
        )

    def log_tail(self) -> str:
        """What the server wrote last, since it was started by us."""
        return self._log.tail()

    def target(self, database: str = "postgres") -> Target:
        """The way in for the superuser: the unix socket, as our system user."""
        return Target(
            host=str(self.settings.socket_dir),
            port=self.settings.port,
            user=self.settings.superuser,
            database=database,
            application_name="hotsite-agent",
        )

    async def session(self, database: str = "postgres", *, timeout: float = STATEMENT_S) -> Session:
        """A new session as superuser. Close it."""
        return await Session.connect(self.target(database), timeout=timeout)

    # -- making it

    async def initdb(self, *, deadline: float = 60.0) -> None:
        """Create a new cluster. Raises NodeError when there is data already."""
        if self.has_data():
            raise NodeError(f"{self.settings.data_dir} has data already: nothing was touched")
        async with self._replacement() as new:
            await self._tools.initdb(new, superuser=self.settings.superuser, deadline=deadline)

    async def make_room_for(self, source: Target) -> None:
        """Make sure that a copy of `source` fits beside what is there. `source`: as whom sizes may be asked.

        Raises NodeError that tells how much is missing; what earlier attempts left behind is gone then.
        """
        async with aclosing(await Session.connect(source, timeout=STATEMENT_S)) as session:
            rows = await session.read(
                "select sum(pg_database_size(oid))::bigint from pg_database", timeout=SIZES_S
            )
        needed = rows[0][0] + ROOM_FOR_WAL
        await asyncio.to_thread(self.directory.clear_leftovers)
        free = self.directory.free_bytes()
        if free < needed:
            raise NodeError(
                f"a copy of {source.host}:{source.port} needs {needed // MB} MB beside"
                f" {self.settings.data_dir}, and {free // MB} MB are free: make room"
            )

    async def clone_from(self, source: Target, *, deadline: float = 3600.0) -> None:
        """Replace what is there by a copy of a running server. The old data goes only when the copy is whole."""
        await self._must_be_stopped()
        async with self._replacement() as new:
            await self._tools.basebackup(new, source, deadline=deadline)

    async def rewind_from(self, source: Target, *, timeline: int, deadline: float = 600.0) -> bool:
        """Bring a directory whose history left that of `source` back to it; return whether that was needed.

        `source` leads on `timeline` and has taken a CHECKPOINT since its promotion; until its control file
        shows that, pg_rewind finds nothing to do and leaves the node diverged, so it is not run (NodeError:
        try again). pg_rewind is asked first whether it can do it, which touches nothing. Raises NeedsClone when it
        cannot, or failed half way; NodeError or SessionLost when it is the source that does not answer.
        """
        await self._must_be_stopped()
        own = await self.control_data()
        await _must_be_on(source, timeline, own.system_id)
        if own.timeline >= timeline:
            raise NeedsClone(
                f"timeline {own.timeline} cannot be rewound to timeline {timeline}: pg_rewind would not see"
                " where they parted"
            )
        says = await histories.ask(source, timeout=STATEMENT_S)
        if (other := timelines.contradicted(await self.told(), says.history)) is not None:
            raise NeedsClone(
                f"timeline {other} of {source.host}:{source.port} is another one than ours of that number:"
                " pg_rewind would take them for the same"
            )
        self._rendered.render(Primary(), cluster_name="rewinding")
        self._rendered.set_signal(standby=False)  # pg_rewind may have to run crash recovery first
        rewound = own.state not in CLEAN or await self._can_rewind(source, timeline, own, deadline)
        if rewound:
            self.directory.mark_unusable("pg_rewind did not end")
            try:
                rewound = await self._rewind(source, deadline=deadline)
            except NodeError as error:
                raise NeedsClone(str(error)) from error
        self._rendered.set_signal(standby=True)
        if rewound:
            self.directory.new_incarnation(await self.control_data())
        self.directory.unmark()
        return rewound

    async def _rewind(self, source: Target, *, deadline: float, only_look: bool = False) -> bool:
        return await self._tools.rewind(
            self.settings.data_dir,
            source,
            config_file=self._rendered.config("postgresql.conf"),
            deadline=deadline,
            only_look=only_look,
        )

    async def _can_rewind(self, source: Target, timeline: int, own: ControlData, deadline: float) -> bool:
        """Whether there is anything to rewind. Raises NeedsClone when pg_rewind cannot do it."""
        try:
            return await self._rewind(source, deadline=deadline, only_look=True)
        except NodeError as error:
            await _must_be_on(source, timeline, own.system_id)  # else it is only the source that is gone
            raise NeedsClone(str(error)) from error

    # -- looking into it

    @asynccontextmanager
    async def open_privately(self, *, deadline: float = 60.0) -> AsyncIterator[Target]:
        """Run what was a primary for nobody but us, and only to be read; shut down clean when the block ends.

        It listens on a unix socket in a folder of our user alone, waits for no standby, feeds none, and keeps all
        of its WAL: what it adds lies on its own timeline, and pg_rewind takes it back. Nobody sees that it runs
        (`running` is None), but whoever ends our server ends this one. Raises as `start` does; nothing runs then.
        """
        if self.needs_clone():
            raise NeedsClone
        await self._must_be_stopped()
        self._check_role(Primary(), await self.control_data())
        folder = self._rendered.private_folder()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self.account.make_folder(folder)
        self._rendered.render(Primary(), cluster_name="private", private=True)
        self._rendered.set_signal(standby=False)
        self._remove_stale_locks()
        postmaster = self._spawn()
        try:
            await postmaster.wait_ready(self._log, deadline=deadline)
            yield replace(self.target(), host=str(folder), port=PRIVATE_PORT)
            await postmaster.stop(StopMode.FAST, deadline=deadline)
        finally:
            await self._end_orphans(first=postmaster)
            await postmaster.wait_exit()

    async def history(self) -> tuple[Stretch, ...]:
        """How its timeline came about."""
        timeline = (await self.control_data()).timeline
        return await asyncio.to_thread(histories.own, self.settings.data_dir, timeline)

    async def told(self) -> frozenset[Stretch]:
        """All that its files tell of timelines, of those that it left, too; it may run."""
        return await asyncio.to_thread(histories.all_own, self.settings.data_dir)

    async def changes(self, begin: int, end: int, *, deadline: float = 60.0) -> Changes:
        """Which rows were written between two positions. Raises NodeError when the WAL is not there any more."""
        stretches = timelines.since(await self.history(), begin, end)
        return await self._tools.changes(self.settings.data_dir, stretches, deadline=deadline)

    # -- running it

    def find_running(self) -> Postmaster | None:
        """The postmaster of our data directory, if one runs, whoever started it."""
        if self.running is None:
            self._postmaster = Postmaster.find(self.settings.data_dir)
        return self._postmaster

    async def start(self, role: Role, *, cluster_name: str, deadline: float = 60.0) -> Postmaster:
        """Start for `role` and wait until it accepts connections.

        Raises NeedsClone, NodeError (with the end of the log when it ended at once), NotReady: then it runs,
        but does not answer yet (a long recovery, or a standby that lacks WAL which its upstream does not send).
        """
        if self.needs_clone():
            raise NeedsClone
        await self._must_be_stopped()
        control = await self.control_data()
        self._check_role(role, control)
        self.directory.incarnation(control)  # notices a directory that was exchanged while it stood still
        self._rendered.render(role, cluster_name=cluster_name)
        self._rendered.set_signal(standby=isinstance(role, Standby))
        if isinstance(role, Standby):
            await asyncio.to_thread(self._forget_slots)
        self._remove_stale_locks()
        self._postmaster = self._spawn()
        await self._postmaster.wait_ready(self._log, deadline=deadline)
        return self._postmaster

    async def wait_exit(self) -> int | None:
        """Wait until the server ends (at once if none runs); its exit status if it was our own child."""
        return await self._postmaster.wait_exit() if self._postmaster is not None else None

    async def stop(self, mode: StopMode = StopMode.FAST, *, deadline: float = 30.0) -> None:
        """Stop it, if it runs, with everything that belongs to it. Raises NotStopped."""
        if (postmaster := self.find_running()) is not None:
            await postmaster.stop(mode, deadline=deadline)
        await self._end_orphans()

    async def kill(self, *, deadline: float = 10.0, doomed_after: float | None = None) -> int:
        """End every process of it at once, orphans included; return how many there were.

        With `doomed_after` seconds those that a dead disk holds in the kernel count as ended (`processes.kill_all`).
        """
        running = self.find_running()
        count = await self._end_orphans(first=running, deadline=deadline, doomed_after=doomed_after)
        if running is not None and doomed_after is None:
            await running.wait_exit()
        return count

    async def promote(self, *, through: Session | None = None, deadline: float = 30.0) -> None:
        """End recovery and begin a new timeline, by a name that no other has (see `timelines`); returns when it takes
        writes. Done already: nothing happens.

        `through`: a superuser session that stands already, and is left open; without one, one is dialled.
        """
        session = through or await self.session()
        try:
            if not await _out_of_recovery(session):
                rows = await session.read(
                    "select timeline_id from pg_control_checkpoint()", timeout=STATEMENT_S
                )
                await histories.name_next(
                    self.settings.data_dir,
                    self.settings.name,
                    at_least=rows[0]["timeline_id"],
                    owner=self.account.owner,
                )
                # Not waited for in the server: that looks only every 0.1 s.
                await session.read("select pg_promote(wait => false)", timeout=deadline)
                await until(lambda: _out_of_recovery(session), "the promotion did not end", deadline=deadline)
        finally:
            if session is not through:
                await session.aclose()
        self._rendered.write_role(Primary())

    def follow(self, role: Standby) -> None:
        """Have a running standby follow another upstream, without a restart. It turns there by itself."""
        self._rendered.write_role(role)
        self._signal_reload()

    async def wait_for(self, names: tuple[str, ...], *, deadline: float = 5.0) -> None:
        """Have a running primary's commits wait for every standby of `names`; none: for nobody.

        Returns when the postmaster has read it. Commits wait a little later: use `standbys.begin_waiting`.
        """
        self._rendered.write_role(Primary(waits_for=names))
        self._signal_reload()
        # A connection shows what the postmaster knew when it was opened, or what it was told itself since, and
        # it may be told before others. The next one is accepted only after all processes have been told.
        await until(self._has_read_role, "role.conf was not read", deadline=deadline)
        await (await self.session()).aclose()

    # -- inside

    def _spawn(self) -> Postmaster:
        settings = self.settings
        command = [settings.binaries["postgres"], "-D", str(settings.data_dir)]
        for setting, file in (
            ("config_file", "postgresql.conf"),
            ("hba_file", "pg_hba.conf"),
            ("ident_file", "pg_ident.conf"),
        ):
            command += ["-c", f"{setting}={self._rendered.config(file)}"]
        output = self._log.open()
        try:
            child = self.account.popen(command, stdout=output, stderr=output, cwd=settings.config_dir)
        finally:
            os.close(output)
        return Postmaster(child.pid, settings.data_dir, child)

    def _signal_reload(self) -> None:
        if (postmaster := self.find_running()) is None:
            raise NodeError("PostgreSQL does not run")
        postmaster.reload()

    async def _has_read_role(self) -> bool:
        async with aclosing(await self.session()) as session:
            return (
                await session.read(UNREAD, str(self._rendered.config("role.conf")), timeout=STATEMENT_S) == []
            )

    def _runs_privately(self) -> bool:
        """Whether an agent that was killed left a server that it had opened for itself."""
        try:
            lines = (self.settings.data_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 4 and lines[4] == str(self._rendered.private_folder())  # the folder of its socket

    def _check_role(self, role: Role, control: ControlData) -> None:
        copied = (self.settings.data_dir / "backup_label").exists()
        if isinstance(role, Primary) and (control.was_standby or copied):
            raise NodeError(
                "this directory was a standby: start it as one and promote it, or two histories would share"
                f" timeline {control.timeline}"
            )

    def _forget_slots(self) -> None:
        """On a standby nobody moves them, and they would keep its WAL for ever. Nothing runs; what lies here may be
        left out of a copy as well (PostgreSQL's documentation of backups, "the contents of pg_replslot").
        """
        for slot in (self.settings.data_dir / "pg_replslot").glob("*"):
            shutil.rmtree(slot, ignore_errors=True)

    def _remove_stale_locks(self) -> None:
        """Nothing of ours runs: what the locks name is history, though its numbers may be in use again."""
        (self.settings.data_dir / "postmaster.pid").unlink(missing_ok=True)
        lock = self.settings.socket_dir / f".s.PGSQL.{self.settings.port}.lock"
        if lock.exists() and str(self.settings.data_dir) in lock.read_text().splitlines():
            lock.unlink()

    async def _must_be_stopped(self) -> None:
        if (postmaster := self.find_running()) is not None:
            raise NodeError(f"PostgreSQL runs already (process {postmaster.pid})")
        await self._end_orphans()

    async def _end_orphans(
        self, *, first: Postmaster | None = None, deadline: float = 10.0, doomed_after: float | None = None
    ) -> int:
        try:
            folder = self.settings.data_dir.stat()
        except FileNotFoundError:
            return 0
        pid = first.pid if first is not None else None
        return await kill_all(folder, first=pid, deadline=deadline, doomed_after=doomed_after)

    @asynccontextmanager
    async def _replacement(self) -> AsyncIterator[Path]:
        """A folder to build a new data directory in, which takes the old one's place when it is complete."""
        await asyncio.to_thread(self.directory.clear_leftovers)
        new = self.account.make_folder(self.directory.new_sibling())
        try:
            yield new
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)
            raise
        old = self.directory.replace_by(new)
        self.directory.new_incarnation(await self.control_data())
        self.directory.unmark()
        if old is not None:
            await asyncio.to_thread(shutil.rmtree, old)


UNREAD = """
    select 1 from pg_file_settings f join pg_settings s using (name)
    where f.sourcefile = $1 and f.setting is distinct from s.setting
"""


async def _out_of_recovery(session: Session) -> bool:
    rows = await session.read("select not pg_is_in_recovery()", timeout=STATEMENT_S)
    return bool(rows[0][0])


async def _must_be_on(source: Target, timeline: int, system_id: str) -> None:
    """Whether the control file of `source` shows `timeline` (see `Node.rewind_from`)."""
    async with aclosing(await Session.connect(source, timeout=STATEMENT_S)) as session:
        rows = await session.read(
            "select c.timeline_id, s.system_identifier from pg_control_checkpoint() c, pg_control_system() s",
            timeout=STATEMENT_S,
        )
    if str(rows[0]["system_identifier"] % 2**64) != system_id:
        raise NodeError("the data directory belongs to another cluster")
    if rows[0]["timeline_id"] != timeline:
        raise NodeError(
            f"the control file of {source.host}:{source.port} shows timeline {rows[0]['timeline_id']}, not"
            f" {timeline}: it needs a CHECKPOINT after its promotion"
        )
