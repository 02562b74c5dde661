"""Keeps an eye on what cannot be read in an instant: the queue's counts, and rates over the last seconds."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncpg
import structlog

from dispatcher.leadership import Lane, Leadership, Unavailable
from dispatcher.model import QueueCounts
from dispatcher.owned import Tasks
from sitecontrol.clock import Clock

log = structlog.get_logger()

COUNT_EVERY_S = 2.0
RATES_OVER_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Counted:
    counts: QueueCounts
    at: float  # clock.now()


class Observed:
    """`totals` gives ever-growing numbers by name; `rates` is how fast each grows."""

    def __init__(
        self, *, leadership: Leadership, totals: Callable[[], Mapping[str, int]], clock: Clock
    ) -> None:
        self._leadership = leadership
        self._totals = totals
        self._clock = clock
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque()
        self.queue: Counted | None = None
        self.tasks = Tasks("observed")

    async def start(self) -> None:
        self.tasks.spawn(self._forever(), "count")

    async def stop(self) -> None:
        await self.tasks.stop()

    @property
    def rates(self) -> dict[str, float]:
        """Per second, over the last `RATES_OVER_S`."""
        if len(self._samples) < 2:
            return {}
        (began, first), (ended, last) = self._samples[0], self._samples[-1]
        return {name: round((last[name] - first.get(name, 0)) / (ended - began), 1) for name in last}

    async def _forever(self) -> None:
        while True:
            now = self._clock.now()
            self._samples.append((now, dict(self._totals())))
            while self._samples[0][0] < now - RATES_OVER_S:
                self._samples.popleft()
            await self._count()
            await self._clock.sleep(COUNT_EVERY_S)

    async def _count(self) -> None:
        try:
            counts = await self._leadership.run(
                lambda store, term: store.counts(term), lane=Lane.READ, hold_for=0.0
            )
        except Unavailable:
            return
        except asyncpg.PostgresError as error:
            log.warning("queue_not_counted", error=str(error))
            return
        self.queue = Counted(counts=counts, at=self._clock.now())
