"""Tasks with an owner: started by it, awaited by it, and never dying in silence.

Every long-lived part of the dispatcher has `start` and `stop` (twice is safe) and keeps its tasks here. A
task that ends on its own, with or without an error, is a defect: `died` tells the process, which then stops
as a whole rather than go on as half a dispatcher.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog

log = structlog.get_logger()


class Tasks:
    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._dismissed: set[asyncio.Task[Any]] = set()
        self.died = asyncio.Event()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` until `stop`, or `dismiss`. It must not end before."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def dismiss(self, *tasks: asyncio.Task[Any]) -> None:
        """Cancel these, which are not wanted any more, and wait until each has ended."""
        self._dismissed.update(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Cancel them all and wait until each has ended."""
        self._stopping = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if self._stopping or task in self._dismissed:
            self._dismissed.discard(task)
            return
        error = None if task.cancelled() else task.exception()
        log.error("task_died", task=task.get_name(), exc_info=error)
        self.died.set()


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do these at the same time; the first error ends the others and is raised."""
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)


async def nap(event: asyncio.Event, seconds: float) -> None:
    """Sleep, or wake when `event` is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
