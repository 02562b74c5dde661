"""What carriers tell: receipts and replies, and the doubts that they settle."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import groupby

import asyncpg

from dispatcher.carrier_ids import carrier_id
from dispatcher.doubt import Candidate, digits, pair
from dispatcher.model import Encoding, Receipt, Reply, ReplyPart, State
from dispatcher.postgres_store.statements import Statements
from dispatcher.replies import join
from dispatcher.store import MAX_PARTS

_PART_COLUMNS = tuple(field.name for field in fields(ReplyPart))
INTERMEDIATE = frozenset({State.ACCEPTED, State.SUBMITTED})  # receipts that settle nothing


class Receipts(Statements):
    async def receipts(self, rows: Sequence[Receipt]) -> None:
        final = [row for row in rows if row.state not in INTERMEDIATE]
        if not final:
            return
        ids = [carrier_id(r.carrier_message_id) for r in final]
        [[may_settle, tails]] = await self._commit(
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
        await self._settle_by_fit(tails, may_settle=may_settle)

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

    async def reply_parts(self, rows: Sequence[ReplyPart]) -> None:
        if not rows:
            return
        texts = (
            [r.carrier for r in rows],
            [r.source for r in rows],
            [r.destination for r in rows],
            [r.reference for r in rows],
            [r.total for r in rows],
        )
        [[some_whole]] = await self._commit(
            "reply_parts",
            *texts,
            [r.number for r in rows],
            [r.coding for r in rows],
            [r.octets for r in rows],
            [r.received_at for r in rows],
            [r.fingerprint for r in rows],
        )
        if some_whole:
            await self._join_replies(await self._read("whole_replies", *texts))

    async def finish_received(self, wait_s: float, limit: int) -> int:
        joined = await self._join_replies(await self._read("parts_to_join", wait_s, MAX_PARTS, limit))
        [[tidy]] = await self._read("received_is_tidy")
        if not tidy:
            await self._commit("tidy_received", limit)
        return joined

    async def _join_replies(self, rows: Sequence[asyncpg.Record]) -> int:
        """Parts are read in one transaction and joined in another: what somebody else joined meanwhile is left out."""
        texts = [[*parts] for _, parts in groupby(rows, key=lambda row: row["text_id"])]
        if not texts:
            return 0
        joined = [join([_part(row) for row in parts]) for parts in texts]
        return await self._count(
            "join_replies",
            [row["part_id"] for parts in texts for row in parts],
            [place for place, parts in enumerate(texts, 1) for _ in parts],
            [reply.carrier for reply in joined],
            [reply.source for reply in joined],
            [reply.destination for reply in joined],
            [reply.text for reply in joined],
            [reply.received_at for reply in joined],
            [reply.fingerprint for reply in joined],
        )

    async def _settle_by_fit(self, tails: Sequence[str], *, may_settle: bool) -> None:
        """Doubts if one may be settled, and texts without an id to numbers that end so."""
        if may_settle:
            await self._settle_doubts()
        if tails:
            rows = await self._read("unnamed_candidates", tails)
            await self._settle_pairs("settle_unnamed", rows)

    async def _settle_doubts(self) -> None:
        await self._settle_pairs("settle_doubts", await self._read("doubt_candidates"))

    async def _settle_pairs(self, query: str, candidates: Sequence[asyncpg.Record]) -> None:
        pairs = pair(_candidate(row) for row in candidates)
        if pairs:
            await self._commit(
                query,
                [p.parked_id for p in pairs],
                [p.message_id for p in pairs],
                [p.segment for p in pairs],
            )


def _candidate(row: asyncpg.Record) -> Candidate:
    return Candidate(**{**dict(row), "encoding": Encoding(row["encoding"])})


def _part(row: asyncpg.Record) -> ReplyPart:
    return ReplyPart(**{name: row[name] for name in _PART_COLUMNS})
