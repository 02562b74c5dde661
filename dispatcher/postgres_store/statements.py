"""One warm session, and how the functions of schema `hotsite` are called on it."""

from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

import asyncpg

from dispatcher.sql import queries
from dispatcher.store import NotLeader
from replication.session import Session

T = TypeVar("T")

QUERIES = queries()
NOT_HERE = frozenset({"HS001", "25006"})  # our own "not the leader"; read_only_sql_transaction: a standby


class Statements:
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
            ("claim", (0, "", 1, 1.0, 0)),
        ):
            with suppress(asyncpg.PostgresError):
                await self._session.read(QUERIES[query], *arguments, timeout=self._timeout)

    async def aclose(self) -> None:
        await self._session.aclose()

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
