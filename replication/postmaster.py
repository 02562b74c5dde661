"""A running PostgreSQL: started by us, or found running after the agent was restarted.

It is a session of its own and outlives the agent. It is known by a pidfd, which wakes us the moment it ends
and never means another process.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from enum import Enum
from pathlib import Path
from typing import Self

from replication import processes
from replication.errors import NodeError, NotReady, NotStopped

POLL_S = 0.02
LOG_SHOWN = 20  # lines


class StopMode(Enum):
    """How to stop, as pg_ctl names them."""

    SMART = signal.SIGTERM  # waits for the clients to leave
    FAST = signal.SIGINT  # sends the clients away; clean
    IMMEDIATE = signal.SIGQUIT  # like a crash, in order; recovery at the next start


class Postmaster:
    def __init__(self, pid: int, data_dir: Path, child: "subprocess.Popen[bytes] | None" = None) -> None:
        self.pid = pid
        self._data_dir = data_dir
        self._child = child
        self._ended = asyncio.Event()
        self._handle = os.pidfd_open(pid)  # ProcessLookupError when it has ended
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._handle, self._note_end)

    @classmethod
    def find(cls, data_dir: Path) -> Self | None:
        """The postmaster of `data_dir`, if one runs; whoever else has its number is not taken for it."""
        try:
            pid = int((data_dir / "postmaster.pid").read_text().partition("\n")[0])
            found = cls(pid, data_dir) if pid > 0 else None
        except (OSError, ValueError):
            return None
        # Looked at after the handle was opened: now the number cannot change its owner any more.
        if found is not None and not (
            processes.works_in(pid, data_dir.stat()) and "-D" in processes.command_line(pid)
        ):
            found.release()
            return None
        return found

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    async def wait_exit(self) -> int | None:
        """Wait until it ends; return its exit status (minus the signal) if it was our own child."""
        await self._ended.wait()
        return self._child.returncode if self._child is not None else None

    async def wait_ready(self, log: "Log", *, deadline: float) -> None:
        """Wait until it accepts connections (a standby: once it is consistent).

        Raises NodeError with the end of its log when it ended instead, NotReady after `deadline` seconds.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                while not self._says_ready():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(POLL_S):
                            await self._ended.wait()
                    if self.ended:
                        status = self._child.returncode if self._child is not None else None
                        raise NodeError(f"PostgreSQL did not start (exit status {status}): {log.tail()}")
                return
        raise NotReady(f"PostgreSQL runs, but is not ready after {deadline} s: {log.tail()}")

    def reload(self) -> None:
        """Have it read its configuration again."""
        self._send(signal.SIGHUP)

    async def stop(self, mode: StopMode, *, deadline: float) -> None:
        """Stop it and wait for that. Raises NotStopped; then it goes on stopping."""
        self._send(mode.value)
        try:
            async with asyncio.timeout(deadline):
                await self._ended.wait()
        except TimeoutError:
            raise NotStopped(f"PostgreSQL did not stop ({mode.name.lower()}) within {deadline} s") from None

    def release(self) -> None:
        """Look no more after it; it goes on."""
        self._unwatch()
        if self._child is not None and not self.ended:
            self._child.returncode = 0  # it is meant to outlive us: no warning about a child left running

    def _send(self, number: signal.Signals) -> None:
        if self._handle >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def _says_ready(self) -> bool:
        try:
            lines = (self._data_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"

    def _unwatch(self) -> None:
        if self._handle >= 0:
            self._loop.remove_reader(self._handle)
            os.close(self._handle)
            self._handle = -1

    def _note_end(self) -> None:
        self._unwatch()
        if self._child is not None:
            self._child.wait()  # it has ended: this only reaps it
        self._ended.set()


class Log:
    """What PostgreSQL writes while it runs. One file, begun anew when it has grown large."""

    def __init__(self, path: Path, *, largest: int = 50_000_000) -> None:
        self._path = path
        self._largest = largest
        self._begin = 0

    def open(self) -> int:
        """A descriptor to append to, for one start; `tail` shows what is written from here on."""
        if self._path.exists() and self._path.stat().st_size > self._largest:
            self._path.rename(self._path.with_suffix(".old"))
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._begin = os.fstat(handle).st_size
        return handle

    def tail(self) -> str:
        """The last lines since this start."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(min(self._begin, size), size - 10_000))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return "no log"
        return "\n".join(lines[-LOG_SHOWN:]) or "it wrote nothing"
