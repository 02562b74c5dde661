"""Stores what carriers bring, receipts and replies, before they are told that we have it.

What many links bring at once is committed together. A link answers ESME_ROK only to what `take` returned True
for; otherwise the carrier is told to come again, and does. Both kinds may be stored twice without harm.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg
import structlog

from dispatcher.engine.results import is_about_data
from dispatcher.engine.schema import NOT_THERE
from dispatcher.leadership import Lane, Leadership, Unavailable
from dispatcher.metrics import Metrics
from dispatcher.model import Receipt, Reply, ReplyPart
from dispatcher.owned import Tasks
from dispatcher.smpp.link import Deliver
from dispatcher.store import JOINED_AT_ONCE
from sitecontrol.clock import Clock

log = structlog.get_logger()

# What comes within this goes together. Nobody waits for it but the carrier, and the answers that the receipts belong
# to are stored meanwhile: a receipt that overtakes its answer must be parked and taken up again, and costs twice.
COLLECT_S = 0.1
BATCH_MAX = 1_000
HOLD_S = 4.0  # carriers wait about 10 s for an answer: say "later" well before that
FINISH_EVERY_S = 5.0
WAITING_MAX = 20_000  # what is waiting to be stored; beyond it the carrier is told to come again


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one link brought at once, and whether it was stored."""

    rows: Sequence[Deliver]
    stored: asyncio.Future[bool] = field(compare=False)


class Receipts:
    def __init__(
        self, *, leadership: Leadership, clock: Clock, metrics: Metrics, reply_wait_s: float = 120.0
    ) -> None:
        self._reply_wait_s = reply_wait_s
        self._leadership = leadership
        self._clock = clock
        self._metrics = metrics
        self._waiting: list[Delivery] = []
        self._some = asyncio.Event()
        self._open = False
        self.tasks = Tasks("receipts")

    async def start(self) -> None:
        self._open = True
        self.tasks.spawn(self._store_forever(), "store")
        self.tasks.spawn(self._finish_forever(), "finish")

    async def stop(self) -> None:
        """Refuse everything from now on, also what is not stored yet."""
        self._open = False
        await self.tasks.stop()
        self._answer(self._waiting, stored=False)
        self._waiting = []

    async def take(self, rows: Sequence[Deliver]) -> bool:
        """Whether all of `rows` are committed. Many links call it at the same time."""
        if not self._open or len(self._waiting) >= WAITING_MAX:
            return False
        delivery = Delivery(rows, asyncio.get_running_loop().create_future())
        self._waiting.append(delivery)
        self._some.set()
        return await delivery.stored

    async def _store_forever(self) -> None:
        while True:
            await self._some.wait()
            await self._clock.sleep(COLLECT_S)
            batch = self._waiting[:BATCH_MAX]
            await self._store(batch)
            del self._waiting[: len(batch)]
            if not self._waiting:
                self._some.clear()

    async def _store(self, batch: Sequence[Delivery]) -> None:
        """Answer each delivery of `batch`."""
        try:
            await self._commit([row for delivery in batch for row in delivery.rows])
        except Unavailable:
            self._answer(batch, stored=False)
        except asyncpg.PostgresError as error:
            if is_about_data(error) and len(batch) > 1:
                for delivery in batch:  # one bad delivery must not refuse the others
                    await self._store([delivery])
                return
            log.error("deliveries_refused", deliveries=len(batch), error=str(error))  # noqa: TRY400 # the database's words say it
            self._answer(batch, stored=False)
        else:
            self._answer(batch, stored=True)

    async def _commit(self, rows: Sequence[Deliver]) -> None:
        receipts = [row for row in rows if isinstance(row, Receipt)]
        replies = [row for row in rows if isinstance(row, Reply)]
        parts = [row for row in rows if isinstance(row, ReplyPart)]
        if receipts:
            await self._leadership.run(
                lambda store, _term: store.receipts(receipts), lane=Lane.SETTLE, hold_for=HOLD_S
            )
            self._metrics.group("receipts", len(receipts))
            self._metrics.receipts += len(receipts)
        if replies:
            await self._leadership.run(
                lambda store, _term: store.replies(replies), lane=Lane.SETTLE, hold_for=HOLD_S
            )
            self._metrics.replies += len(replies)
        if parts:
            await self._leadership.run(
                lambda store, _term: store.reply_parts(parts), lane=Lane.SETTLE, hold_for=HOLD_S
            )
            self._metrics.reply_parts += len(parts)

    async def _finish_forever(self) -> None:
        """Store what came of replies whose other parts have been waited for long enough."""
        while True:
            await self._clock.sleep(FINISH_EVERY_S)
            if not self._leadership.gate.open:
                continue
            try:
                joined = await self._leadership.run(
                    lambda store, _term: store.finish_received(self._reply_wait_s, JOINED_AT_ONCE),
                    lane=Lane.SETTLE,
                    hold_for=0.0,
                )
            except Unavailable:
                continue
            except asyncpg.PostgresError as error:
                if error.sqlstate not in NOT_THERE:
                    log.error("replies_not_finished", error=str(error))  # noqa: TRY400 # the database's words say it
                continue
            if joined:
                log.warning("replies_with_missing_parts", replies=joined)

    @staticmethod
    def _answer(batch: Sequence[Delivery], *, stored: bool) -> None:
        for delivery in batch:
            if not delivery.stored.done():
                delivery.stored.set_result(stored)
