"""Coroutines in virtual time: nothing waits, nothing is random but by the seed, and a run repeats itself exactly.

There is no event loop. A coroutine that awaits `Scheduler.wait` is put aside until its time has come; which of two
comes first at the same moment is settled by the order in which they began to wait.

Every coroutine belongs to an owner, which is a process: it can be killed (its coroutines are never continued: no
`finally` runs, as none does in a process that is killed) and stopped (its coroutines go on when it is continued).

Most of a run nothing happens. So whoever waits for a change waits with a `Bell`, which goes by a time only if it is not
rung before.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from types import coroutine
from typing import Any

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Task:
    """A coroutine under way. Looks like the little of asyncio's that the agent's code uses."""

    def __init__(self, scheduler: "Scheduler", coroutine: Coroutine[Any, Any, Any], owner: str) -> None:
        self.coroutine = coroutine
        self.send: Callable[[None], float] = coroutine.send  # until the next wait; how long that is
        self.owner = owner
        self.ended = False
        self.error: BaseException | None = None
        self.due = 0  # the entry of the queue that holds; older ones are void
        self._scheduler = scheduler
        self.canceled = False

    def done(self) -> bool:
        return self.ended

    def cancel(self) -> None:
        if not self.ended and not self.canceled:
            self.canceled = True
            self._scheduler.at(0.0, self)

    def throw(self) -> float:
        """What `cancel` asked for, in the place of a `send`."""
        self.canceled = False
        return self.coroutine.throw(asyncio.CancelledError())  # type: ignore[no-any-return] # what Wait gives


class Bell:
    """Rung when something changed: who waits for it goes on at once, in the order in which they began to."""

    def __init__(self, scheduler: "Scheduler") -> None:
        self.waiting: dict[Task, None] = {}  # in order
        self._scheduler = scheduler

    def ring(self) -> None:
        waiting, self.waiting = self.waiting, {}
        for task in waiting:
            self._scheduler.at(0.0, task)


class Scheduler:
    def __init__(self) -> None:
        self.now = 0.0
        self.over = False
        self.changes = 0  # grows with all that the invariants rest on
        self.running: Task | None = None
        self._queue: list[tuple[float, int, Task]] = []
        self._serial = 0
        self._stopped: dict[str, list[Task]] = {}
        self._kept: list[Task] = []  # a coroutine that nobody holds would be closed, and its `finally` run

    def spawn(self, coroutine: Coroutine[Any, Any, Any], owner: str) -> Task:
        task = Task(self, coroutine, owner)
        self._kept.append(task)
        self.at(0.0, task)
        return task

    def at(self, delay: float, task: Task) -> None:
        self._serial += 1
        task.due = self._serial
        heappush(self._queue, (self.now + delay if delay > 0.0 else self.now, self._serial, task))

    @coroutine
    def wait(self, seconds: float, bell: Bell | None = None) -> Generator[float, None, None]:
        """For so long, or until the bell is rung."""
        if self.over:  # then the rest is only cleared away
            return
        task = self.running
        if bell is None or task is None:
            yield seconds
            return
        bell.waiting[task] = None
        yield seconds
        bell.waiting.pop(task, None)

    async def until(self, reached: Callable[[], bool], *, within: float, every: float = 0.01) -> bool:
        ends = self.now + within
        while not reached():
            if self.now >= ends:
                return False
            await self.wait(every)
        return True

    def kill(self, owner: str) -> None:
        """The process ends in the middle of whatever it does."""
        self._stopped.pop(owner, None)
        for task in self._kept:
            if task.owner == owner and not task.ended:
                task.ended = True

    def stop(self, owner: str) -> None:
        self._stopped.setdefault(owner, [])

    def resume(self, owner: str) -> None:
        for task in self._stopped.pop(owner, []):
            self.at(0.0, task)

    def is_stopped(self, owner: str) -> bool:
        return owner in self._stopped

    def run(self, until: float, after_step: Callable[[Task], None]) -> None:
        """Go on until that time, or until `after_step` raises: it is called when a step has changed anything, or was
        its task's last.
        """
        queue, stopped = self._queue, self._stopped
        looked_at = -1
        while queue and queue[0][0] <= until:
            at, serial, task = heappop(queue)
            if task.ended or serial != task.due:
                continue
            self.now = at
            if task.owner in stopped:
                stopped[task.owner].append(task)
                continue
            self.running = task
            try:
                delay = task.throw() if task.canceled else task.send(None)
            except (StopIteration, asyncio.CancelledError):
                task.ended = ended = True
            except Exception as error:  # noqa: BLE001 # `after_step` looks at it
                task.ended, task.error, ended = True, error, True
            else:
                ended = False
                self._serial = task.due = serial = self._serial + 1
                heappush(queue, (at + delay if delay > 0.0 else at, serial, task))
            if ended or looked_at != self.changes:
                looked_at = self.changes
                after_step(task)
        self.now = max(self.now, until)

    def clear_away(self) -> None:
        """The run is over: let every coroutine end, without another wait."""
        self.over = True
        for task in self._kept:
            with suppress(Exception):  # what a dead process thinks of its end is nobody's affair
                task.coroutine.close()
        self._kept.clear()


class SimulatedClock:
    """One machine's clock: its seconds may be longer or shorter by `drift`, its wall clock may be off."""

    def __init__(self, scheduler: Scheduler, drift: float = 0.0, offset: float = 0.0) -> None:
        self._scheduler = scheduler
        self._rate = 1 + drift
        self._offset = offset
        self.wall_error = 0.0  # seconds

    def now(self) -> float:
        return self._offset + self._scheduler.now * self._rate

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self._scheduler.now + self.wall_error)

    async def sleep(self, seconds: float) -> None:
        await self._scheduler.wait(seconds / self._rate)
