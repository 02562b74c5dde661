"""What carriers tell: receipts and replies, and the doubts that they settle."""

from collections.abc import Sequence

import asyncpg

from dispatcher.carrier_ids import carrier_id
from dispatcher.doubt import Candidate, digits, pair
from dispatcher.model import Encoding, Receipt, Reply, State
from dispatcher.postgres_store.statements import Statements

INTERMEDIATE = frozenset({State.ACCEPTED, State.SUBMITTED})  # receipts that settle nothing


class Receipts(Statements):
    async def receipts(self, rows: Sequence[Receipt]) -> None:
        final = [row for row in rows if row.state not in INTERMEDIATE]
        if not final:
            return
        ids = [carrier_id(r.carrier_message_id) for r in final]
        [[may_settle]] = await self._commit(
            "receipts",
            [r.carrier for r in final],
            [i.written for i in ids],
            [i.canonical for i in ids],
            [i.as_hex for i in ids],
            [i.as_decimal for i in ids],
            [digits(r.source) for r in final],
            [r.state for r in final],
            [r.error for r in final],
            [r.destination for r in final],
            [r.text for r in final],
            [r.done_at for r in final],
        )
        if may_settle:
            await self._settle_doubts()

    async def replies(self, rows: Sequence[Reply]) -> None:
        if not rows:
            return
        await self._commit(
            "replies",
            [r.carrier for r in rows],
            [r.source for r in rows],
            [r.destination for r in rows],
            [r.text for r in rows],
            [r.received_at for r in rows],
            [r.fingerprint for r in rows],
        )

    async def _settle_doubts(self) -> None:
        pairs = pair(_candidate(row) for row in await self._read("doubt_candidates"))
        if pairs:
            await self._commit(
                "settle_doubts",
                [p.parked_id for p in pairs],
                [p.message_id for p in pairs],
                [p.segment for p in pairs],
            )


def _candidate(row: asyncpg.Record) -> Candidate:
    return Candidate(**{**dict(row), "encoding": Encoding(row["encoding"])})
