"""Looks at every target on time.

Rules.
- One task per target: a target that hangs delays nobody else.
- A look is cut off at its deadline, and the next of the same target begins only after it ended, so nothing
  piles up. Beats missed meanwhile are left out, not caught up.
- The first looks are spread over one period, so that a hundred targets do not fire in the same millisecond.
- A target with a `source` is looked at right after its source, with what that look brought home.
- Whatever a probe raises is bad news about its target, never the end of the task.
"""

import asyncio
import os
import ssl
from collections import defaultdict
from collections.abc import Iterable, Mapping

from healthcheck.board import Board
from healthcheck.probes.result import Probe, Result, plain
from healthcheck.targets import Kind, Target
from sitecontrol.clock import Clock


async def look(probe: Probe, target: Target) -> Result:
    """One look, cut off at its deadline; never raises except when cancelled."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout_at(began + target.timeout):
            return await probe(target, began + target.timeout)
    except TimeoutError:
        detail = f"no answer within {target.timeout:g} s"
    except OSError as error:
        detail = plain_words(error)
    except Exception as error:  # noqa: BLE001 - a probe's failure is a finding, and the other looks go on
        detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Result(ok=False, latency=loop.time() - began, detail=plain(detail))


def plain_words(error: OSError) -> str:
    """The system's own words ("Connection refused") where the number is the system's, else the error's."""
    if error.errno is not None and error.errno > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


class Scheduler:
    def __init__(
        self, targets: Iterable[Target], probes: Mapping[Kind, Probe], board: Board, clock: Clock
    ) -> None:
        self._own = [t for t in targets if t.source is None]
        self._derived: dict[str, list[Target]] = defaultdict(list)
        for target in targets:
            if target.source is not None:
                self._derived[target.source].append(target)
        self._probes = probes
        self._board = board
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            for index, target in enumerate(self._own):
                offset = target.every * index / len(self._own)
                group.create_task(self._watch(target, offset), name=f"look {target.name}")

    async def _watch(self, target: Target, offset: float) -> None:
        due = self._clock.now() + offset
        while True:
            await self._clock.sleep(max(0.0, due - self._clock.now()))
            await self.beat(target)
            due = next_beat(due, target.every, self._clock.now())

    async def beat(self, target: Target) -> None:
        """Look at a target, then at whatever is derived from it."""
        self._board.record(target, await look(self._probes[target.kind], target))
        for derived in self._derived[target.name]:
            self._board.record(derived, await look(self._probes[derived.kind], derived))


def next_beat(due: float, every: float, now: float) -> float:
    """The first beat of the row due, due + every, … that is still ahead."""
    missed = max(0, int((now - due) // every))
    return due + every * (missed + 1)
