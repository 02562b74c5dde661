"""The calls by which partitions are kept: functions of schema `hotsite`, on a session of their own.

As the dispatchers' role, or as the owner for the command. Every call carries the term; one that has passed is refused.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from dispatcher.retention.model import Partition, Period, Picture, RetentionError, Retired, Wanted
from dispatcher.sql import queries
from dispatcher.store import NotLeader
from replication.session import Session
from sitecontrol.clock import Clock

T = TypeVar("T")

QUERIES = queries()
NOT_HERE = frozenset({"HS001", "25006"})
LOCK_NOT_AVAILABLE = "55P03"
CHANGED_BENEATH = frozenset({"40P01", "42P01", "55000"})  # deadlock; gone meanwhile; not in the needed state
TIMEOUT_S = 30.0
READS_ALL_S = 1_800.0  # what reads a whole period that is nobody's any more
LOCK_TRIES = 20
LOCK_AGAIN_S = 0.5
MOVED_AT_MOST = 10_000  # rows of the odd partition that are moved home under a lock


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some pages of a partition, a line of JSON for each row."""

    lines: str
    rows: int
    open: tuple[UUID, ...]  # some messages with segments that are not final
    blocks: int  # pages of the partition


class RetentionStore:
    def __init__(self, session: Session, term: int, clock: Clock) -> None:
        self._session = session
        self._term = term
        self._clock = clock

    async def begin(self) -> bool:
        """Whether nobody else does upkeep; nobody begins while this session stands."""
        return bool(await self._value("begin_upkeep"))

    async def picture(self) -> Picture:
        rows = await self._read("partitions")
        retired = await self._read("retired_periods")
        if not rows:
            raise RetentionError(
                "nothing is partitioned: `python -m dispatcher migrate` brings the schema up to date"
            )
        return Picture(
            now=rows[0]["now"],
            partitions=[
                Partition(**{name: value for name, value in row.items() if name != "now"}) for row in rows
            ],
            retired=[Retired(**row) for row in retired],
        )

    async def make(self, wanted: Wanted) -> bool:
        return bool(
            await self._locking("make_partition", wanted.in_table, wanted.since, wanted.until, MOVED_AT_MOST)
        )

    async def piece(self, table: str, period: str, block: int, blocks: int) -> Piece:
        [row] = await self._read("archive_piece", table, period, block, blocks)
        return Piece(lines=row["lines"], rows=row["row_count"], open=tuple(row["open"]), blocks=row["blocks"])

    async def open_in(self, period: str) -> list[UUID]:
        """Some messages of the period that are not final."""
        return list(await self._value("open_in", period, timeout=READS_ALL_S))

    async def note(self, period: Period, *, site: str, folder: str | None, manifest: str | None) -> None:
        await self._commit("note_retired", period.name, period.since, period.until, site, folder, manifest)

    async def detach(self, table: str, period: str) -> bool:
        return bool(await self._locking("detach_partition", table, period))

    async def reattach(self, table: str, period: str) -> None:
        while not await self._locking("reattach_partition", table, period, timeout=READS_ALL_S):
            pass

    async def detached_rows(self, table: str, period: str) -> int:
        return int(await self._value("detached_rows", table, period, timeout=READS_ALL_S))

    async def drop(self, table: str, period: str) -> bool:
        return bool(await self._locking("drop_partition", table, period))

    async def forget(
        self, before: datetime, after: tuple[int, str], limit: int
    ) -> tuple[int, tuple[int, str] | None]:
        """How many references were forgotten, and where it came to; none: it was the end."""
        [row] = await self._commit("forget_references", before, *after, limit)
        reached = None if row["account_id"] is None else (row["account_id"], row["reference"])
        return row["forgotten"], reached

    async def forget_replies(self, before: datetime, limit: int) -> int:
        [[forgotten]] = await self._commit("forget_replies", before, limit)
        return int(forgotten)

    async def forget_campaign(self, before: datetime) -> UUID | None:
        """One, whole; which, or None when there is none."""
        [[campaign]] = await self._commit("forget_campaign", before)
        return None if campaign is None else UUID(str(campaign))

    async def _locking(self, query: str, *args: object, timeout: float = TIMEOUT_S) -> object:
        """Again and again while somebody has what it needs: each wait is short, so that nobody queues for long."""
        for left in reversed(range(LOCK_TRIES)):
            try:
                [[value]] = await self._commit(query, *args, timeout=timeout)
            except asyncpg.PostgresError as error:
                if error.sqlstate != LOCK_NOT_AVAILABLE or not left:
                    raise
            else:
                return value
            await self._clock.sleep(LOCK_AGAIN_S)
        raise AssertionError  # the last try raises or returns

    async def _value(self, query: str, *args: object, timeout: float = TIMEOUT_S) -> Any:
        [[value]] = await self._read(query, *args, timeout=timeout)
        return value

    async def _commit(self, query: str, *args: object, timeout: float = TIMEOUT_S) -> list[asyncpg.Record]:
        return await _at_leader(self._session.commit(QUERIES[query], self._term, *args, timeout=timeout))

    async def _read(self, query: str, *args: object, timeout: float = TIMEOUT_S) -> list[asyncpg.Record]:
        return await _at_leader(self._session.read(QUERIES[query], self._term, *args, timeout=timeout))


async def term_of(session: Session) -> int:
    """The term in which this server leads. Raises NotLeader."""
    [row] = await session.read(QUERIES["retention_term"], timeout=TIMEOUT_S)
    if row["term"] is None:
        raise NotLeader("this server does not lead")
    return int(row["term"])


async def _at_leader(statement: Awaitable[T]) -> T:
    try:
        return await statement
    except asyncpg.PostgresError as error:
        if error.sqlstate in NOT_HERE:
            raise NotLeader(str(error)) from error
        raise
