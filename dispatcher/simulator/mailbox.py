"""Receipts and replies waiting for an ESME: each is brought until somebody has acknowledged it.

- A receipt goes to the connection that its text came from while that is bound, else to any receiver of the
  same system_id; replies go to the receivers in turn. While none is bound, everything waits.
- At most `WINDOW` are unanswered on a connection.
- ESME_RX_T_APPN: brought again after a while. No answer within `ANSWER_WITHIN_S`, or the connection breaks:
  brought again, so an ESME may see one twice. Any other error: given up, and counted.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from dispatcher.smpp.pdu import DataSm, DeliverSm
from dispatcher.smpp.status import CommandStatus

WINDOW: Final = 500
ANSWER_WITHIN_S: Final = 5.0


class Receiver(Protocol):
    """A connection that is bound to receive."""

    def deliver(self, pdus: Sequence[DeliverSm | DataSm]) -> Sequence[int]:
        """Write these requests; their sequence numbers."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Delivery:
    pdu: DeliverSm | DataSm
    preferred: Receiver | None = None


@dataclass(kw_only=True, slots=True)
class MailboxCounters:
    brought: int = 0  # written, repeats included
    acknowledged: int = 0
    put_off: int = 0  # answered ESME_RX_T_APPN
    unanswered: int = 0  # no answer in time
    refused: int = 0  # answered with any other error, and given up


@dataclass(frozen=True, slots=True)
class _Open:
    delivery: Delivery
    sent_at: float


class Mailbox:
    """That of one system_id."""

    def __init__(self, counters: MailboxCounters) -> None:
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Delivery] = deque()
        self._open: dict[Receiver, dict[int, _Open]] = {}  # by receiver, in turn; then by sequence number
        self._sweeper: asyncio.TimerHandle | None = None
        self.retry_s = 0.5

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def open(self) -> int:
        return sum(map(len, self._open.values()))

    def attach(self, receiver: Receiver) -> None:
        self._open[receiver] = {}
        self.pump()

    def detach(self, receiver: Receiver) -> None:
        """The connection is gone: what it did not answer is brought to another."""
        unanswered = self._open.pop(receiver, {})
        self._waiting.extendleft(reversed([entry.delivery for entry in unanswered.values()]))
        self.pump()

    def put(self, deliveries: Sequence[Delivery]) -> None:
        self._waiting.extend(deliveries)
        self.pump()

    def answered(self, receiver: Receiver, sequence: int, status: int) -> None:
        entry = self._open.get(receiver, {}).pop(sequence, None)
        if entry is None:
            return
        if status == CommandStatus.ESME_ROK:
            self._counters.acknowledged += 1
        elif status == CommandStatus.ESME_RX_T_APPN:
            self._counters.put_off += 1
            self._loop.call_later(self.retry_s, self.put, (entry.delivery,))
        else:
            self._counters.refused += 1

    def pump(self) -> None:
        """Bring what waits to whoever has room."""
        batches: dict[Receiver, list[Delivery]] = {}
        while self._waiting and (receiver := self._choose(self._waiting[0], batches)):
            batches.setdefault(receiver, []).append(self._waiting.popleft())
        now = self._loop.time()
        for receiver, batch in batches.items():
            self._counters.brought += len(batch)
            sequences = receiver.deliver([delivery.pdu for delivery in batch])
            entries = self._open[receiver]
            for sequence, delivery in zip(sequences, batch, strict=True):
                entries[sequence] = _Open(delivery, now)
        if batches and self._sweeper is None:
            self._sweeper = self._loop.call_later(ANSWER_WITHIN_S, self._sweep)

    def close(self) -> None:
        if self._sweeper:
            self._sweeper.cancel()

    def _choose(self, delivery: Delivery, batches: dict[Receiver, list[Delivery]]) -> Receiver | None:
        def room(receiver: Receiver) -> int:
            return WINDOW - len(self._open[receiver]) - len(batches.get(receiver, ()))

        if delivery.preferred in self._open and room(delivery.preferred) > 0:
            return delivery.preferred
        receiver = next((receiver for receiver in self._open if room(receiver) > 0), None)
        if receiver:
            self._open[receiver] = self._open.pop(receiver)  # to the end: the next one gets the next delivery
        return receiver

    def _sweep(self) -> None:
        self._sweeper = None
        limit = self._loop.time() - ANSWER_WITHIN_S
        late: list[Delivery] = []
        for entries in self._open.values():
            overdue = [sequence for sequence, entry in entries.items() if entry.sent_at <= limit]
            late += [entries.pop(sequence).delivery for sequence in overdue]
        self._counters.unanswered += len(late)
        if self.open:
            self._sweeper = self._loop.call_later(ANSWER_WITHIN_S / 4, self._sweep)
        self.put(late)
