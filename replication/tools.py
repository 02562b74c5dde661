"""PostgreSQL's own programs, run as its system user, in a folder of ours, with a deadline.

They work in `folder` (their working directory), so that those which a killed agent left running are found and
ended before anything is built on what they are still writing to. Passwords go through a file, never through
arguments or the environment, which others on the machine can read. What they write is made durable by one call
for the whole file system, not by theirs for each file.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from replication import configuration, control, lsn
from replication.binaries import Binaries
from replication.changes import Changes
from replication.control import ClusterState, ControlData
from replication.directory import sync_file_system, write
from replication.processes import Account, kill_all, run, run_through
from replication.session import Target
from replication.timelines import Stretch

QUICK_S = 10.0  # for programs that only look
WAL_SEGMENT_MB = 4
NOTHING_TO_DO = "no rewind required"


@dataclass(frozen=True, kw_only=True)
class Tools:
    binaries: Binaries
    account: Account
    folder: Path

    async def end_strays(self) -> int:
        """Kill what an earlier agent left running; return how many there were."""
        return await kill_all(self.folder.stat())

    async def control_data(self, data_dir: Path) -> ControlData:
        return control.parse(await self._run("pg_controldata", "-D", str(data_dir), deadline=QUICK_S))

    async def shutdown_end(self, data_dir: Path, found: ControlData) -> int | None:
        """Where the record of the last clean shutdown as a primary ends; None if there was none."""
        if found.state is not ClusterState.SHUT_DOWN:
            return None
        wal = data_dir / "pg_wal"
        # The segment is named: without, pg_waldump learns their size from whichever file it comes across first, and
        # gives up when that is one that was only made ready, and is all zeros. The record may end in the next.
        segments = [
            control.segment_name(found.checkpoint_timeline, position, segment_bytes=found.segment_bytes)
            for position in (found.checkpoint, found.checkpoint + control.SHUTDOWN_RECORD_MAX)
        ]
        named = [name for name in dict.fromkeys(segments) if name == segments[0] or (wal / name).exists()]
        record = await self._run(
            "pg_waldump",
            *("--path", str(wal)),
            *("--start", lsn.show(found.checkpoint)),
            *("--limit", "1"),
            *named,
            deadline=QUICK_S,
        )
        return control.record_end(
            found.checkpoint,
            control.shutdown_record_length(record),
            segment_bytes=found.segment_bytes,
            block_bytes=found.block_bytes,
        )

    async def changes(self, data_dir: Path, stretches: Sequence[Stretch], *, deadline: float) -> Changes:
        """What was written to tables in these parts of a history."""
        found = Changes()
        for stretch in stretches:
            command = [
                self.binaries["pg_waldump"],
                *("--path", str(data_dir / "pg_wal")),
                *("--timeline", str(stretch.timeline)),
                *("--start", lsn.show(stretch.begin)),
                *("--end", lsn.show(stretch.end or stretch.begin)),
            ]
            await run_through(self.account, command, found.read, folder=self.folder, deadline=deadline)
        return found

    async def initdb(self, into: Path, *, superuser: str, deadline: float) -> None:
        """A new cluster, on disk when this returns.

        The locale is C: the order of texts must not depend on a machine's C library, because both ends of the
        replication use the same indexes.

        Segments of the WAL are small: a promotion copies the one it ends in, and flushes the copy, before it takes
        writes.
        """
        await self._run(
            "initdb",
            *("-D", str(into), "-U", superuser, "-E", "UTF8", "--locale=C", "--data-checksums"),
            *(
                "--auth-local=peer",
                "--auth-host=scram-sha-256",
                "--no-sync",
                f"--wal-segsize={WAL_SEGMENT_MB}",
            ),
            deadline=deadline,
        )
        await asyncio.to_thread(sync_file_system, into)

    async def basebackup(self, into: Path, source: Target, *, deadline: float) -> None:
        """A copy of a running server with the WAL that it needs, on disk when this returns."""
        with self._passfile(source) as passfile:
            where = configuration.conninfo(source, passfile=passfile, **configuration.RECEIVER)
            await self._run(
                "pg_basebackup",
                *("-D", str(into), "-d", where, "--no-password"),
                *("--checkpoint=fast", "--wal-method=stream", "--no-sync"),
                deadline=deadline,
            )
        await asyncio.to_thread(sync_file_system, into)

    async def rewind(
        self, data_dir: Path, source: Target, *, config_file: Path, deadline: float, only_look: bool = False
    ) -> bool:
        """Take `data_dir` back to where its history left that of `source`; return whether that was needed, or is.

        To `only_look` it must have been shut down clean; nothing is touched.
        """
        with self._passfile(source) as passfile:
            where = configuration.conninfo(
                source, dbname=source.database, passfile=passfile, **configuration.RECEIVER
            )
            output = await self._run(
                "pg_rewind",
                *("-D", str(data_dir), "--source-server", where, "--config-file", str(config_file)),
                *(("--dry-run",) if only_look else ("--no-sync",)),
                deadline=deadline,
            )
        if not only_look:
            await asyncio.to_thread(sync_file_system, data_dir)
        return NOTHING_TO_DO not in output

    async def _run(self, program: str, *arguments: str, deadline: float) -> str:
        command = [self.binaries[program], *arguments]
        return await run(self.account, command, folder=self.folder, deadline=deadline)

    @contextlib.contextmanager
    def _passfile(self, target: Target) -> Iterator[str]:
        path = self.folder / "source.pass"
        write(path, configuration.passfile_line(target), owner=self.account.owner)
        try:
            yield str(path)
        finally:
            path.unlink(missing_ok=True)
