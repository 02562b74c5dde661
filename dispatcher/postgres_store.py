"""The store on PostgreSQL: one warm session, and one function call of schema `hotsite` for each operation.

Rules:

* Everything that changes or acknowledges something goes through `Session.commit`, which answers only when the
  commit is known. What is only looked at on the way (open claims, counts, keys) goes through `Session.read`.
* A group's durability is asked for in a second statement, after the commit (failover rule 7): two round trips.
* Arrays are sorted by (message, segment) where rows get locked, so that two sessions never wait for each other.
* Receipts without a known id are judged here (`dispatcher.doubt`) and settled in a second commit: when that is
  not reached, they are parked, and the next one to look finds them there.
"""

from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import orjson

from dispatcher.carrier_ids import carrier_id
from dispatcher.doubt import Candidate, digits, pair
from dispatcher.model import (
    Accepted,
    ApiKey,
    Claim,
    Encoding,
    Event,
    Group,
    MessageClass,
    MessageView,
    NewMessage,
    OnDoubt,
    OpenClaim,
    Page,
    Program,
    QueueCounts,
    Receipt,
    Reply,
    SegmentView,
    State,
    StoredDurability,
    SubmitResult,
    Verdict,
)
from dispatcher.sql import queries
from dispatcher.store import NotLeader
from dispatcher.story import SegmentTimes, tell
from dispatcher.uuid7 import least
from replication.session import Session

T = TypeVar("T")

QUERIES = queries()
NOT_HERE = frozenset({"HS001", "25006"})  # our own "not the leader"; read_only_sql_transaction: a standby
INTERMEDIATE = frozenset({State.ACCEPTED, State.SUBMITTED})  # receipts that settle nothing


class PostgresStore:
    """`timeout` (seconds) bounds each statement; past it the session is cut and the outcome is unknown.

    `stored_within_s` bounds how much later a message is stored than its id was made, clocks apart included:
    looking up by time goes back along the ids by so much.
    """

    def __init__(self, session: Session, *, timeout: float = 30.0, stored_within_s: float = 60.0) -> None:
        self._session = session
        self._timeout = timeout
        self._stored_within_s = stored_within_s

    async def warm_up(self) -> None:
        """Have the driver prepare what the first request after a swap would otherwise wait for, in round trips.

        Asked in term 0, which nobody ever leads: wherever this connection leads to, it is refused.
        """
        for query, arguments in (
            ("accept", (0, *([],) * 13)),
            ("durability", ("0/0",)),
            ("claim", (0, "", 1, 1.0)),
        ):
            with suppress(asyncpg.PostgresError):
                await self._session.read(QUERIES[query], *arguments, timeout=self._timeout)

    async def is_open(self, term: int, canary_max_age_s: float | None = None) -> bool:
        rows = await self._read("is_open", term, canary_max_age_s)
        return bool(rows and rows[0][0])

    # -- messages

    async def accept(self, term: int, rows: Sequence[NewMessage]) -> Group:
        """Raises asyncpg.PostgresError of class 22 or 23 when one of the rows cannot be stored: then none is."""
        if not rows:
            raise ValueError("a group has at least one row")
        [stored] = await self._commit(
            "accept",
            term,
            [r.id for r in rows],
            [r.account_id for r in rows],
            [r.program_id for r in rows],
            [r.to for r in rows],
            [r.body for r in rows],
            [r.encoding for r in rows],
            [r.segments for r in rows],
            [r.message_class for r in rows],
            [r.on_doubt for r in rows],
            [r.reference for r in rows],
            [r.fingerprint for r in rows],
            [r.send_at for r in rows],
            [r.expires_at for r in rows],
        )
        [[durability]] = await self._read("durability", stored["lsn"])
        return Group(
            rows=tuple(
                Accepted(id=id_, verdict=Verdict(verdict), state=State(state))
                for id_, verdict, state in zip(
                    stored["ids"], stored["verdicts"], stored["states"], strict=True
                )
            ),
            durability=StoredDurability(durability),
        )

    async def read(self, term: int, account_id: int, message_id: UUID) -> MessageView | None:
        rows = await self._commit("read", term, account_id, message_id)
        return _message(rows[0]) if rows else None

    async def find(
        self,
        term: int,
        account_id: int,
        *,
        reference: str | None = None,
        state: State | None = None,
        to: str | None = None,
        since: datetime | None = None,
        after: UUID | None = None,
        limit: int = 50,
    ) -> Page:
        oldest = None if since is None else least(since.timestamp() - self._stored_within_s)
        rows = await self._commit("find", term, account_id, reference, state, to, since, oldest, after, limit)
        found = (row for row in rows if row["message_id"] is not None)
        return Page(messages=tuple(map(_message, found)), reached=rows[0]["reached"])

    async def cancel(self, term: int, account_id: int, message_id: UUID) -> MessageView | None:
        rows = await self._commit("cancel", term, account_id, message_id)
        return _message(rows[0]) if rows else None

    # -- sending

    async def claim(self, term: int, dispatcher: str, limit: int, claim_for_s: float) -> Sequence[Claim]:
        rows = await self._commit("claim", term, dispatcher, limit, claim_for_s)
        return [
            Claim(
                claim_id=row["claim_id"],
                message_id=row["message_id"],
                segment=row["segment"],
                segments=row["segments"],
                attempt=row["attempt"],
                account_id=row["account_id"],
                program_id=row["program_id"],
                source=row["source"],
                to=row["recipient"],
                body=row["body"],
                encoding=Encoding(row["encoding"]),
                message_class=MessageClass(row["class"]),
                expires_in_s=row["expires_in_s"],
            )
            for row in rows
        ]

    async def settle(self, results: Sequence[SubmitResult]) -> None:
        if not results:
            return
        results = sorted(results, key=lambda r: (r.message_id, r.segment))
        ids = [carrier_id(r.carrier_message_id or "") for r in results]
        [[may_settle]] = await self._commit(
            "settle",
            [r.claim_id for r in results],
            [r.message_id for r in results],
            [r.segment for r in results],
            [r.attempt for r in results],
            [r.outcome for r in results],
            [r.carrier for r in results],
            [i.written for i in ids],
            [i.canonical for i in ids],
            [i.as_hex for i in ids],
            [i.as_decimal for i in ids],
            [r.command_status for r in results],
            [r.retry_after_s for r in results],
        )
        if may_settle:
            await self._settle_doubts()

    async def open_claims(self, term: int) -> Sequence[OpenClaim]:
        return [OpenClaim(**dict(row)) for row in await self._read("open_claims", term)]

    async def give_up_claims(self, term: int, claim_ids: Sequence[int]) -> int:
        [row] = await self._commit("give_up_claims", term, list(claim_ids))
        if row["may_settle"]:
            await self._settle_doubts()
        return int(row["given_up"])

    async def return_claims(self, term: int, dispatcher: str, claim_ids: Sequence[int]) -> int:
        return await self._count("return_claims", term, dispatcher, list(claim_ids))

    # -- what carriers tell

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

    # -- time, numbers, accounts

    async def resend_doubtful(self, term: int, grace_s: float, limit: int) -> int:
        return await self._count("resend_doubtful", term, grace_s, limit)

    async def release_due(self, term: int, limit: int, *, clock_agrees: bool = True) -> int:
        return await self._count("release_due", term, limit, clock_agrees)

    async def counts(self, term: int) -> QueueCounts:
        [row] = await self._read("counts", term)
        return QueueCounts(
            by_state={
                State(state): int(total)
                for state, total in zip(row["states"] or (), row["totals"] or (), strict=True)
            },
            oldest_queued_s={
                MessageClass(number).name.lower(): age
                for number, age in zip(row["classes"] or (), row["oldest_s"] or (), strict=True)
            },
        )

    async def programs(self, term: int) -> Sequence[Program]:
        return [
            Program(
                id=row["program_id"],
                account_id=row["account_id"],
                name=row["name"],
                source=row["source"],
                on_doubt=OnDoubt(row["on_doubt"]),
                message_class=MessageClass(row["class"]),
                enabled=row["enabled"],
            )
            for row in await self._read("programs", term)
        ]

    async def api_keys(self, term: int) -> Sequence[ApiKey]:
        return [
            ApiKey(
                id=row["api_key_id"],
                account_id=row["account_id"],
                prefix=row["prefix"],
                secret_hash=row["secret_hash"],
                expires_at=row["expires_at"],
                revoked=row["revoked"],
            )
            for row in await self._read("api_keys", term)
        ]

    async def aclose(self) -> None:
        await self._session.aclose()

    # -- statements

    async def _commit(self, query: str, *args: object) -> list[asyncpg.Record]:
        return await _at_leader(self._session.commit(QUERIES[query], *args, timeout=self._timeout))

    async def _count(self, query: str, *args: object) -> int:
        [[count]] = await self._commit(query, *args)
        return int(count)

    async def _read(self, query: str, *args: object) -> list[asyncpg.Record]:
        return await _at_leader(self._session.read(QUERIES[query], *args, timeout=self._timeout))


async def _at_leader(statement: Awaitable[T]) -> T:
    """Tell "not the leader" from every other error."""
    try:
        return await statement
    except asyncpg.PostgresError as error:
        if error.sqlstate in NOT_HERE:
            raise NotLeader(str(error)) from error
        raise


def _message(row: asyncpg.Record) -> MessageView:
    segments = [_segment(part) for part in orjson.loads(row["segments"])]
    return MessageView(
        id=row["message_id"],
        account_id=row["account_id"],
        program=row["program"],
        to=row["recipient"],
        body=row["body"],
        reference=row["reference"],
        encoding=Encoding(row["encoding"]),
        message_class=MessageClass(row["class"]),
        state=State(row["state"]),
        accepted_at=row["accepted_at"],
        send_at=row["send_at"],
        expires_at=row["expires_at"],
        on_doubt=OnDoubt(row["on_doubt"]),
        segments=tuple(part.view for part in segments),
        events=tell(row["accepted_at"], segments, _events(orjson.loads(row["events"]))),
    )


def _segment(part: dict[str, Any]) -> SegmentTimes:
    submitted_at = part.pop("submitted_at")
    updated_at = part.pop("updated_at")
    return SegmentTimes(
        view=SegmentView(**{**part, "state": State(part["state"])}),
        submitted_at=datetime.fromisoformat(submitted_at) if submitted_at else None,
        updated_at=datetime.fromisoformat(updated_at),
    )


def _events(lines: Iterable[dict[str, Any]]) -> Iterable[Event]:
    for line in lines:
        yield Event(
            at=datetime.fromisoformat(line["at"]),
            state=State(line["state"]),
            segment=line["segment"],
            detail=line["detail"],
        )


def _candidate(row: asyncpg.Record) -> Candidate:
    return Candidate(**{**dict(row), "encoding": Encoding(row["encoding"])})
