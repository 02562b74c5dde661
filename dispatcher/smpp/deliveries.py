"""Receipts and replies on their way to the database: committed before they are acknowledged.

What arrives in one read from the socket is handed on together, so that it is committed together. At most
`MAX_OPEN` wait at once; beyond that the carrier is told to try later, and memory stays bounded.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from dispatcher.model import Receipt, Reply, ReplyPart
from dispatcher.smpp.pdu import DataSm, DeliverSm
from dispatcher.smpp.reader import Received
from dispatcher.smpp.receipts import UnusableError, read
from dispatcher.smpp.status import CommandStatus
from dispatcher.smpp.submission import LinkCounters
from sitecontrol.clock import Clock

MAX_OPEN: Final = 5_000

Deliver = Receipt | Reply | ReplyPart

OnDeliver = Callable[[Sequence[Deliver]], Awaitable[bool]]
"""Called with what arrived together (one or more), possibly many times at once. True only when all of it is
committed: then each is answered ESME_ROK. False or an exception: ESME_RX_T_APPN, so it is brought again."""

Acknowledge = Callable[[Sequence[Received], CommandStatus], None]
"""Answers the requests, or does nothing when their connection is gone."""

log = structlog.get_logger()


class Deliveries:
    """Those of one link, across its connections."""

    def __init__(self, carrier: str, on_deliver: OnDeliver, clock: Clock, counters: LinkCounters) -> None:
        self._carrier = carrier
        self._on_deliver = on_deliver
        self._clock = clock
        self._counters = counters
        self._open = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, arrived: Sequence[Received], acknowledge: Acknowledge) -> None:
        """Hand on what a connection read; `acknowledge` is called when it is known what became of it."""
        if self._open + len(arrived) > MAX_OPEN:
            self._counters.deliveries_refused += len(arrived)
            acknowledge(arrived, CommandStatus.ESME_RX_T_APPN)
            return
        usable, deliveries, useless = [], [], []
        now = self._clock.wall()
        for received in arrived:
            assert isinstance(received.pdu, DeliverSm | DataSm)  # noqa: S101 # the connection sorts them
            try:
                deliveries.append(read(self._carrier, received.pdu, now))
                usable.append(received)
            except UnusableError as error:
                log.warning("delivery_unusable", carrier=self._carrier, error=str(error))
                useless.append(received)
        if useless:
            self._counters.malformed += len(useless)
            acknowledge(useless, CommandStatus.ESME_RX_P_APPN)
        if usable:
            self._open += len(usable)
            task = asyncio.create_task(self._commit(usable, deliveries, acknowledge))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def wait(self, seconds: float) -> None:
        """Give those under way a chance to end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def aclose(self) -> None:
        """End those under way; unanswered, the carrier brings them again."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _commit(
        self, arrived: list[Received], deliveries: list[Deliver], acknowledge: Acknowledge
    ) -> None:
        try:
            committed = await self._on_deliver(deliveries)
        except Exception as error:  # noqa: BLE001 # whatever went wrong in there, it is not known to be committed
            log.warning("delivery_not_committed", carrier=self._carrier, error=repr(error))
            committed = False
        finally:
            self._open -= len(arrived)
        if committed:
            receipts = sum(isinstance(delivery, Receipt) for delivery in deliveries)
            self._counters.receipts += receipts
            self._counters.replies += len(deliveries) - receipts
        else:
            self._counters.deliveries_refused += len(arrived)
        acknowledge(arrived, CommandStatus.ESME_ROK if committed else CommandStatus.ESME_RX_T_APPN)
