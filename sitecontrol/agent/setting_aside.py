"""Sets aside what our node alone holds, before its history is thrown away by a rewind or a clone.

In order: where our history left the leader's; if anything lies beyond that, PostgreSQL is opened for nobody else and
shut down clean again; in between a program of the dispatcher's (`dispatcher.set_aside`) writes down what the leader
lacks. It is a process of its own: it may be ended at its deadline, and this package knows nothing of messages.

**A node returns whatever becomes of this.** All of it has a deadline; what cannot be read is told by a file that says
so, and then the node is rewound or cloned all the same. The same end of the same history is set aside once: a file that
tells of it is looked for first, so that an agent which is started again in between does not do it twice.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from replication import histories, lsn, position, timelines
from replication.changes import Changes
from replication.control import ControlData
from replication.errors import NodeError, ReplicationError
from replication.histories import Says
from replication.node import Node
from replication.session import Session, SessionLost, Target
from sitecontrol import quarantine
from sitecontrol.clock import Clock
from sitecontrol.quarantine import Header

log = structlog.get_logger()

WITHIN_S = 120.0  # for all of it, crash recovery included; pg_rewind would have to run that anyway
LOOK_S = 3.0
OWN_S = (
    30.0  # our own server, just recovered: what it holds alone is not given up because the machine is busy
)
LARGEST = 512_000_000  # bytes of one file
PROGRAM = (sys.executable, "-m", "dispatcher.set_aside")
FAILURES = (ReplicationError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError, KeyError)


@dataclass(frozen=True, kw_only=True)
class Leading:
    """The leader whose history replaces ours, and the ways to it."""

    node: str
    files: Target  # as whom pg_rewind reads files
    rows: Target  # as whom the rows of messages can be read


class LeaderSilent(NodeError):
    """The leader cannot be reached."""


class SettingAside:
    """`folder`: where the files go."""

    def __init__(self, node: Node, *, site: str, folder: Path, clock: Clock) -> None:
        self._node = node
        self._site = site
        self._folder = folder
        self._clock = clock
        self._looked_into: Header | None = None  # the last that was looked into to its end

    async def run(self, leading: Leading) -> None:
        """Set aside what `leading` lacks. PostgreSQL is stopped, before and after.

        Raises LeaderSilent: then it cannot be rewound or cloned either.
        """
        if not self._node.has_data() or self._node.needs_clone():
            return  # what was cut off half way was set aside before
        control = await self._node.control_data()
        if control.was_standby:
            return  # it only has what others wrote
        header = self._header(control, leading.node)
        try:
            async with asyncio.timeout(WITHIN_S):
                says = await _ask(leading.files)
                header = header.model_copy(update={"leader_timeline": says.timeline})
                if control.system_id != says.system_id:
                    return  # it was never part of this cluster
                if (fork := await self._fork(control, says)) is not None:
                    header = header.model_copy(update={"fork_lsn": lsn.show(fork)})
                    if not self._is_known(header):
                        await self._look_into(header, fork, leading)
                        self._looked_into = header
        except LeaderSilent:
            raise
        except FAILURES as error:
            if not self._is_known(header):
                self._keep(header.model_copy(update={"error": _why(error), "complete": False}))

    def _header(self, control: ControlData, leader: str) -> Header:
        """Before anything was looked at."""
        return Header(
            at=self._clock.wall(),
            node=self._node.settings.name,
            site=self._site,
            system_id=control.system_id,
            incarnation=self._node.directory.incarnation(control),
            term=None,
            leader=leader,
            timeline=control.timeline,
            leader_timeline=None,
            fork_lsn=None,
            end_lsn=None,
            counts={},
            compared=False,
            complete=True,
            error=None,
        )

    async def _fork(self, control: ControlData, says: Says) -> int | None:
        """Where our history left the leader's; None when nothing of ours can lie beyond that."""
        fork = timelines.fork(await self._node.history(), says.history)
        try:
            clean_end = await self._node.shutdown_lsn(control)
        except NodeError:
            clean_end = None  # nobody can tell: look
        return None if fork is None or (clean_end is not None and clean_end <= fork) else fork

    async def _look_into(self, header: Header, fork: int, leading: Leading) -> None:
        with tempfile.TemporaryDirectory(prefix="hotsite-set-aside-") as folder:
            body = Path(folder) / "rows"
            async with self._node.open_privately(deadline=WITHIN_S) as private:
                async with aclosing(await Session.connect(private, timeout=OWN_S)) as session:
                    end = (await position.look(session, timeout=OWN_S)).received
                changes = await self._node.changes(fork, end)
                own = replace(private, database=leading.rows.database)
                found = await _write_down(order(own, leading.rows, changes, body))
                whole = header.model_copy(update={"end_lsn": lsn.show(end), **found})
                if whole.counts:
                    await asyncio.to_thread(self._keep, whole, body)

    def _is_known(self, header: Header) -> bool:
        kept = (file.header for file in quarantine.found(self._folder))
        return any(known is not None and known.is_about(header) for known in (self._looked_into, *kept))

    def _keep(self, header: Header, body: Path | None = None) -> None:
        try:
            path = quarantine.write(self._folder, header, body)
        except OSError as error:
            log.error("set_aside_not_kept", error=str(error), counts=header.counts)  # noqa: TRY400 (it says all)
            return
        told = header.model_dump(include={"counts", "fork_lsn", "compared", "complete", "error"})
        log.warning("set_aside", file=str(path), rows=header.rows, **told)


async def _ask(source: Target) -> Says:
    try:
        return await histories.ask(source, timeout=LOOK_S)
    except SessionLost as error:
        raise LeaderSilent(str(error)) from error


def order(own: Target, leader: Target, changes: Changes, into: Path) -> dict[str, Any]:
    """What the program is asked for, as `dispatcher.set_aside.Order` reads it."""
    return {
        "own": asdict(own),
        "leader": asdict(leader),
        "transactions": sorted(changes.transactions),
        "blocks": [[*where, sorted(blocks)] for where, blocks in sorted(changes.blocks.items())],
        "into": str(into),
        "largest": LARGEST,
    }


async def _write_down(asked: dict[str, Any]) -> dict[str, Any]:
    """Run the program; what it found. It is killed when its caller is cancelled."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        told, errors = await process.communicate(json.dumps(asked).encode())
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise NodeError(
            f"what this node alone holds was not read: {errors.decode(errors='replace').strip()[-500:]}"
        )
    return dict(json.loads(told))


def _why(error: BaseException) -> str:
    return str(error) or f"not done within {WITHIN_S:g} s"
