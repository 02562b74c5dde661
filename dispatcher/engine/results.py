"""Hands what became of each claimed segment to the leader, in batches, until that is known to be stored.

Rules:

* A result is kept until its commit is known, however long nobody leads: results need no term, and one that
  comes late still settles a doubt.
* It stands in the journal from when it is put here until its commit is known, so that the next life hands it in if
  this one ends before.
* An error that is the data's own fault is narrowed down by halves until one result stands alone; that one is
  dropped with an alarm, and its segment ends in doubt by itself. Any other error is waited out.
"""

import asyncio
from collections.abc import Sequence
from math import inf

import asyncpg
import structlog

from dispatcher.journal import Journal
from dispatcher.leadership import Lane, Leadership
from dispatcher.metrics import Metrics
from dispatcher.model import SubmitResult
from dispatcher.owned import Tasks
from sitecontrol.clock import Clock

log = structlog.get_logger()

COLLECT_S = 0.025  # what comes within this goes together: a commit costs nearly the same for one as for fifty
BATCH_MAX = 1_000
AGAIN_AFTER_S = 0.5


class Results:
    def __init__(self, *, leadership: Leadership, journal: Journal, clock: Clock, metrics: Metrics) -> None:
        self._leadership = leadership
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._waiting: list[SubmitResult] = []
        self._put = 0  # ever
        self._some = asyncio.Event()
        self._all_stored = asyncio.Event()
        self._all_stored.set()
        self.tasks = Tasks("results")

    async def start(self) -> None:
        self.tasks.spawn(self._store_forever(), "store")

    async def stop(self, *, within: float = 0.0) -> None:
        """Store what is there, for at most `within` seconds, and end."""
        try:
            async with asyncio.timeout(within):
                await self._all_stored.wait()
        except TimeoutError:
            log.warning("results_not_stored", results=len(self._waiting))
        await self.tasks.stop()

    def put(self, result: SubmitResult) -> None:
        self._journal.learned(result)
        self._put += 1
        self._waiting.append(result)
        self._some.set()
        self._all_stored.clear()

    async def all_stored(self) -> None:
        """Wait until what was put before is stored."""
        put = self._put
        while self._put - len(self._waiting) < put:
            await self._clock.sleep(COLLECT_S)

    async def _store_forever(self) -> None:
        while True:
            await self._some.wait()
            await self._clock.sleep(COLLECT_S)
            batch = self._waiting[:BATCH_MAX]
            await self._store(batch)
            del self._waiting[: len(batch)]
            if not self._waiting:
                self._some.clear()
                self._all_stored.set()

    async def _store(self, batch: Sequence[SubmitResult]) -> None:
        """Return when `batch` is stored, but for what the database will never take."""
        while True:
            try:
                await self._leadership.run(
                    lambda store, _term: store.settle(batch), lane=Lane.SETTLE, hold_for=inf
                )
            except asyncpg.PostgresError as error:
                if not is_about_data(error):
                    log.error("results_refused", results=len(batch), error=str(error))  # noqa: TRY400 # the database's words say it
                    await self._clock.sleep(AGAIN_AFTER_S)
                    continue
                await self._narrow(batch, error)
            else:
                self._journal.stored(batch)
                self._metrics.group("settle", len(batch))
                self._metrics.outcomes(batch)
            return

    async def _narrow(self, batch: Sequence[SubmitResult], error: asyncpg.PostgresError) -> None:
        if len(batch) == 1:
            self._metrics.dropped_results += 1
            self._journal.stored(batch)
            log.error("result_dropped", message_id=str(batch[0].message_id), error=str(error))
            return
        middle = len(batch) // 2
        await self._store(batch[:middle])
        await self._store(batch[middle:])


def is_about_data(error: asyncpg.PostgresError) -> bool:
    """Whether these very rows will never be taken (SQLSTATE classes 22 and 23)."""
    return (error.sqlstate or "")[:2] in {"22", "23"}
