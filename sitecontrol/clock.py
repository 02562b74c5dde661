"""The clock that everything is handed, so that tests and the simulator can hold it.

`now()` counts seconds on CLOCK_BOOTTIME, which goes on through a suspend: a lease must be seen to have
run out by a machine that slept. asyncio's own timers run on CLOCK_MONOTONIC, which stops; they are good
for waking up, never for deciding whether a lease or a claim still holds.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds on a clock that never jumps and counts through a suspend; only differences mean something."""
        ...

    def wall(self) -> datetime:
        """UTC wall-clock time, for people and records. Never for deciding who leads."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The real clock."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
