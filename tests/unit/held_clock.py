"""A clock for tests whose time passes only when they say so."""

import asyncio
from datetime import UTC, datetime


class HeldClock:
    """Stands still until `advance`."""

    def __init__(self) -> None:
        self._now = 1_000.0
        self._moved = asyncio.Condition()

    def now(self) -> float:
        return self._now

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self._now, UTC)

    async def sleep(self, seconds: float) -> None:
        until = self._now + seconds
        async with self._moved:
            await self._moved.wait_for(lambda: self._now >= until)

    async def advance(self, seconds: float) -> None:
        async with self._moved:
            self._now += seconds
            self._moved.notify_all()
