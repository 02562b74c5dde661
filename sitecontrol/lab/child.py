"""One process under the supervisor: started, watched, started again, held down, stopped."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog

import sitecontrol
from sitecontrol.lab.pidfiles import write_pid
from sitecontrol.lab.plan import Process

log = structlog.get_logger()

PROJECT = Path(sitecontrol.__file__).parent.parent  # where `python -m` finds the packages
BAD_SETTINGS = 2  # the exit code of a process that refuses its settings


class ChildState(StrEnum):
    NEW = "new"
    RUNNING = "running"
    WAITING = "waiting"  # died; is started again in a moment
    HELD = "held"  # died by a fault, and stays down until released
    DEAD = "dead"  # died, and nobody starts it again
    STOPPED = "stopped"


class Child:
    """A kill is announced with `expect_death`: with `hold` the process then stays down until `release`."""

    def __init__(
        self,
        process: Process,
        *,
        log_file: Path,
        pidfile: Path,
        environment: Mapping[str, str],
        restart: bool,
    ) -> None:
        self.process = process
        self.state = ChildState.NEW
        self.hold = False
        self.restarts = 0
        self.last_exit: int | None = None
        self._log_file = log_file
        self._pidfile = pidfile
        self._environment = {**environment, "HOTSITE_LAB_PROCESS": process.name}
        self._restart = restart
        self._running: asyncio.subprocess.Process | None = None
        self._released = asyncio.Event()
        self._coming_release: asyncio.TimerHandle | None = None
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._running.pid if self._running is not None and self._running.returncode is None else None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep_running(), name=self.process.name)

    def send(self, number: signal.Signals) -> None:
        if self._running is not None and self._running.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._running.send_signal(number)

    def kill_group(self) -> None:
        """SIGKILL to the process and to everything it started in its own group (a base backup, say)."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def expect_death(self, *, hold: bool) -> None:
        """A fault is about to kill this; a release that was yet to come must not undo it."""
        if self.state is ChildState.HELD and not hold:
            return  # already down, by another fault: only a release ends that
        self._forget_release()
        self.hold = hold or self.hold  # another fault may have killed it a moment ago, and is to keep it down

    def release(self, *, after: float = 0.0) -> None:
        """May run again: now, or so many seconds from now unless a fault comes first."""
        self._forget_release()
        if after > 0:
            self._coming_release = asyncio.get_running_loop().call_later(after, self._let_go)
        else:
            self._let_go()

    def _let_go(self) -> None:
        self.hold = False
        self._released.set()

    def _forget_release(self) -> None:
        if self._coming_release is not None:
            self._coming_release.cancel()
            self._coming_release = None

    async def stop(self, within: float) -> None:
        """Ask, then kill. Stopping twice is safe."""
        self._stopping = True
        self.release()
        if self._task is None:
            return
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(within):
                await asyncio.shield(self._task)
        except TimeoutError:
            log.warning("killed_at_stop", child=self.process.name, within_s=within)
            self.kill_group()
            await self._task

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.process.name,
            "place": self.process.place,
            "kind": self.process.kind.value,
            "pid": self.pid,
            "state": self.state.value,
            "restarts": self.restarts,
            "last_exit": self.last_exit,
            "url": self.process.url,
        }

    async def _keep_running(self) -> None:
        while True:
            await self._run_once()
            if self._stopping:
                break
            if not self.hold:
                if not self._restart:
                    self.state = ChildState.DEAD
                    return
                self.state = ChildState.WAITING
                self._released.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.process.restart_after):
                        await self._released.wait()
            while self.hold:  # also by a fault that came while it waited
                self.state = ChildState.HELD
                self._released.clear()
                await self._released.wait()
            self.restarts += 1
        self.state = ChildState.STOPPED

    async def _run_once(self) -> None:
        started = time.monotonic()
        with self._log_file.open("ab") as output:
            try:
                self._running = await asyncio.create_subprocess_exec(
                    *self.process.argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._environment,
                    cwd=PROJECT,
                    start_new_session=True,
                )
            except OSError as error:
                log.error("not_started", child=self.process.name, error=str(error))  # noqa: TRY400 # no traceback
                return
        write_pid(self._pidfile, self._running.pid)
        self.state = ChildState.RUNNING
        if self._stopping:  # asked to stop while it was being started
            self.send(signal.SIGTERM)
        elif self.hold:  # a fault struck while it was being started
            self.kill_group()
        self.last_exit = await self._running.wait()
        self._pidfile.unlink(missing_ok=True)
        if not self._stopping:
            log.warning(
                "process_died",
                child=self.process.name,
                pid=self._running.pid,
                exit=self.last_exit,
                lived_s=round(time.monotonic() - started, 2),
                held=self.hold,
            )
