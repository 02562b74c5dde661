"""What carriers tell: receipts, the doubts that they settle, and replies."""

from collections.abc import Sequence
from datetime import timedelta

from dispatcher.carrier_ids import carrier_id
from dispatcher.doubt import pair
from dispatcher.memory_store.rows import Parked, Submission, candidates, named_by
from dispatcher.memory_store.tables import PartsKey, Tables
from dispatcher.model import Receipt, Reply, ReplyPart, State
from dispatcher.replies import join
from dispatcher.states import What

REPLY_WINDOW = timedelta(minutes=5)
INTERMEDIATE = frozenset({State.ACCEPTED, State.SUBMITTED})


class Receipts(Tables):
    async def receipts(self, rows: Sequence[Receipt]) -> None:
        self._check_open()
        now = self._clock.wall()
        parked = {(p.receipt.carrier, p.receipt.carrier_message_id, p.receipt.state) for p in self._parked}
        for row in rows:
            key = (row.carrier, row.carrier_message_id, row.state)
            if row.state not in INTERMEDIATE and not self._apply(row) and key not in parked:
                parked.add(key)
                self._parked.append(Parked(number=next(self._numbers), receipt=row, at=now))
        self._settle_doubts()

    def _apply(self, receipt: Receipt) -> bool:
        """Whether an answer named the receipt's id; then it is applied."""
        found = named_by(receipt, self._submissions)
        if found is None:
            return False
        segment = found.segment
        same_attempt = segment.attempt == found.attempt and segment.state in {State.SUBMITTED, State.IN_DOUBT}
        open_states = {State.SUBMITTED, State.IN_DOUBT, State.QUEUED, State.SUBMITTING}
        if same_attempt or (receipt.state is State.DELIVERED and segment.state in open_states):
            plain = segment.state is State.SUBMITTED
            segment.error = receipt.error
            segment.doubts.clear()
            what = What.RECEIPT if plain else What.RECEIPT_LATE
            self._move(segment, receipt.state, what, attempt=found.attempt)
        return True

    def _unpark(self) -> None:
        self._parked = [p for p in self._parked if not self._apply(p.receipt)]

    def _settle_doubts(self) -> None:
        parked = {p.number: p for p in self._parked}
        for found in pair(candidates(self._parked, self._segments.values(), self._claims, self._programs)):
            segment = self._segments[found.message_id, found.segment]
            receipt = parked[found.parked_id].receipt
            if segment.state is State.QUEUED and receipt.state is not State.DELIVERED:
                continue
            what = What.RECEIPT_UNNAMED if segment.unnamed else What.RECEIPT_FITS
            segment.carrier, segment.carrier_message_id = receipt.carrier, receipt.carrier_message_id
            segment.error = receipt.error
            segment.doubts.clear()
            self._move(segment, receipt.state, what)
            self._submissions.append(
                Submission(
                    segment=segment,
                    attempt=segment.attempt,
                    carrier=receipt.carrier,
                    id=carrier_id(receipt.carrier_message_id),
                    at=self._clock.wall(),
                )
            )
            self._parked.remove(parked[found.parked_id])

    async def replies(self, rows: Sequence[Reply]) -> None:
        self._check_open()
        now = self._clock.wall()
        for row in rows:
            recent = {r.fingerprint for at, r in self._replies if at > now - REPLY_WINDOW}
            if row.fingerprint not in recent:
                self._store_reply(row)

    async def reply_parts(self, rows: Sequence[ReplyPart]) -> None:
        self._check_open()
        now = self._clock.wall()
        self._seen_parts = {f: at for f, at in self._seen_parts.items() if at > now - REPLY_WINDOW}
        for row in rows:
            if row.fingerprint in self._seen_parts:
                continue
            self._seen_parts[row.fingerprint] = now
            key = (row.carrier, row.source, row.destination, row.reference, row.total)
            parts = self._parts.get(key, [])
            if any(part.number == row.number for part in parts):  # the next text under this reference
                self._join(key)
            self._parts.setdefault(key, []).append(row)
            self._parts_at[key] = now
            if len(self._parts[key]) == row.total:
                self._join(key)

    async def finish_received(self, wait_s: float, limit: int) -> int:
        self._check_open()
        before = self._clock.wall() - timedelta(seconds=wait_s)
        due = [key for key, at in self._parts_at.items() if at <= before][:limit]
        for key in due:
            self._join(key)
        return len(due)

    def _join(self, key: PartsKey) -> None:
        del self._parts_at[key]
        self._store_reply(join(self._parts.pop(key)))
