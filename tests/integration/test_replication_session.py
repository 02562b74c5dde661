"""What a commit's outcome is, as a session tells it, on a real PostgreSQL."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import uvloop

from replication import known_types
from replication.errors import ReplicationError
from replication.session import CommitUnknown, Session, SessionLost, Target

SOON = 20.0


@pytest.fixture
async def session(database: Target) -> AsyncIterator[Session]:
    session = await Session.connect(database, timeout=SOON)
    await session.commit("create table t (id int primary key, note text)", timeout=SOON)
    yield session
    await session.aclose()


async def test_a_commit_returns_the_rows_of_its_statement(session: Session) -> None:
    rows = await session.commit("insert into t values ($1, $2) returning id", 1, "a", timeout=SOON)
    assert [row["id"] for row in rows] == [1]


async def test_postgresqls_own_types_are_asked_about_once_and_others_on_each_connection(
    database: Target, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[frozenset[int]] = []
    ask = asyncpg.Connection._introspect_types

    async def count(self: Any, typeoids: Any, timeout: float | None) -> Any:
        asked.append(frozenset(typeoids))
        return await ask(self, typeoids, timeout)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", count)
    monkeypatch.setattr(known_types.Connection, "_known", {})
    await session.commit("create type colour as enum ('red')", timeout=SOON)
    number = uuid4()
    for _ in range(2):
        async with aclosing(await Session.connect(database, timeout=SOON)) as fresh:
            rows = await fresh.read(
                "select $1::uuid[] as ids, $2::integer[] as counts", [number], [1, 2], timeout=SOON
            )
            assert (rows[0]["ids"], rows[0]["counts"]) == ([number], [1, 2])
            rows = await fresh.read("select $1::colour[] as seen", ["red"], timeout=SOON)
            assert rows[0]["seen"] == ["red"]
    built_in = frozenset({1007, 2951})
    assert [types == built_in for types in asked] == [True, False, False]


async def test_an_error_of_the_server_is_a_definite_no_and_the_session_goes_on(session: Session) -> None:
    await session.commit("insert into t values (1, 'a')", timeout=SOON)
    with pytest.raises(asyncpg.UniqueViolationError):
        await session.commit("insert into t values (1, 'b')", timeout=SOON)
    assert [row["note"] for row in await session.read("select note from t", timeout=SOON)] == ["a"]


async def test_arguments_that_do_not_fit_are_a_definite_no(session: Session) -> None:
    with pytest.raises(asyncpg.DataError):
        await session.commit("insert into t values ($1, 'a')", "no number", timeout=SOON)
    with pytest.raises(asyncpg.InterfaceError):
        await session.commit("insert into t values ($1, 'a')", timeout=SOON)
    assert not session.closed


async def test_any_warning_makes_a_commit_unknown(session: Session) -> None:
    with pytest.raises(CommitUnknown, match="mind the gap"):
        await session.commit("do $$ begin raise warning 'mind the gap'; end $$", timeout=SOON)
    await session.commit("insert into t values (1, 'a')", timeout=SOON)


def test_a_warning_is_heard_before_the_commit_returns_on_uvloop_too(database: Target) -> None:
    """Both come in one packet; the event loop must hand them over in their order."""

    async def warn_often() -> None:
        async with aclosing(await Session.connect(database, timeout=SOON)) as session:
            for _ in range(100):
                with pytest.raises(CommitUnknown):
                    await session.commit("do $$ begin raise warning 'mind the gap'; end $$", timeout=SOON)

    uvloop.run(warn_often())


async def test_a_commit_past_its_time_is_unknown_and_cuts_the_session_without_a_cancel_request(
    session: Session, database: Target, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    with pytest.raises(CommitUnknown, match=r"0\.2 s"):
        await session.commit("insert into t select 1, pg_sleep(1)::text", timeout=0.2)
    assert session.closed
    async with asyncio.timeout(SOON):
        while not await connection.fetchval("select count(*) from t"):  # the server was not told to stop
            await connection.fetchval("select pg_sleep(0.05)")


async def test_a_cancelled_caller_cuts_the_session_without_a_cancel_request(
    session: Session, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    commit = asyncio.create_task(session.commit("insert into t select 1, pg_sleep(1)::text", timeout=SOON))
    await _until_active(connection, "%pg_sleep(1)%")
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    assert session.closed
    async with asyncio.timeout(SOON):
        while not await connection.fetchval("select count(*) from t"):
            await connection.fetchval("select pg_sleep(0.05)")


async def test_a_backend_that_is_terminated_makes_its_commit_unknown(
    session: Session, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    commit = asyncio.create_task(session.commit("insert into t select 1, pg_sleep(10)::text", timeout=SOON))
    pid = await _until_active(connection, "%pg_sleep(10)%")
    await connection.fetchval("select pg_terminate_backend($1)", pid)
    with pytest.raises(CommitUnknown):
        await commit


async def test_a_statement_that_somebody_cancelled_is_unknown(
    session: Session, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    commit = asyncio.create_task(session.commit("insert into t select 1, pg_sleep(10)::text", timeout=SOON))
    pid = await _until_active(connection, "%pg_sleep(10)%")
    await connection.fetchval("select pg_cancel_backend($1)", pid)
    with pytest.raises(CommitUnknown):
        await commit


async def test_a_session_that_was_closed_before_sends_nothing_and_says_so(session: Session) -> None:
    session.terminate()
    with pytest.raises(SessionLost):
        await session.commit("insert into t values (1, 'a')", timeout=SOON)
    with pytest.raises(SessionLost):
        await session.read("select 1", timeout=SOON)


async def test_a_read_past_its_time_cuts_the_session(session: Session) -> None:
    with pytest.raises(TimeoutError):
        await session.read("select pg_sleep(5)", timeout=0.1)
    assert session.closed


async def test_statements_of_one_session_run_one_after_the_other(session: Session) -> None:
    await asyncio.gather(
        *(session.commit("insert into t values ($1, 'a')", n, timeout=SOON) for n in range(20)),
        *(session.read("select 1", timeout=SOON) for _ in range(20)),
    )
    assert len(await session.read("select from t", timeout=SOON)) == 20


async def test_closing_does_not_wait_for_a_statement_under_way(session: Session) -> None:
    slow = asyncio.create_task(session.read("select pg_sleep(30)", timeout=60))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await session.aclose()
        with pytest.raises(SessionLost):
            await slow


async def test_a_server_that_does_not_answer_at_all_is_given_up_in_time() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # the kernel accepts; nobody reads
        port = listener.getsockname()[1]
        with pytest.raises(SessionLost, match="cannot be reached"):
            await Session.connect(Target(host="127.0.0.1", port=port, user="x"), timeout=0.2)


def test_a_password_is_not_shown() -> None:
    assert "hush" not in repr(Target(host="h", port=1, user="u", password="hush"))


# -- sessions that would not hear


class Pooler:
    """Stands in between, as poolers do: settings that a client asks for at the start never arrive."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._connect = asyncpg.connect
        self.connections: list[asyncpg.Connection[asyncpg.Record]] = []
        monkeypatch.setattr(asyncpg, "connect", self.connect)

    async def connect(self, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
        del options["server_settings"]
        connection = await self._connect(**options)
        self.connections.append(connection)
        return connection


@pytest.mark.parametrize(
    "setting",
    [
        "client_min_messages = error",
        "synchronous_commit = off",
        "synchronous_commit = local",
        "synchronous_commit = remote_write",
    ],
)
async def test_a_session_that_would_not_hear_of_a_cancelled_wait_or_would_not_wait_is_refused_and_closed(
    database: Target,
    connection: "asyncpg.Connection[asyncpg.Record]",
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
) -> None:
    await connection.execute(f'alter database "{database.database}" set {setting}')
    pooler = Pooler(monkeypatch)
    with pytest.raises(ReplicationError, match="would not hear of cancelled commits"):
        await Session.connect(database, timeout=SOON)
    assert [c.is_closed() for c in pooler.connections] == [True]


@pytest.mark.parametrize("setting", ["client_min_messages = notice", "synchronous_commit = remote_apply"])
async def test_a_session_with_settings_of_others_that_do_is_taken(
    database: Target,
    connection: "asyncpg.Connection[asyncpg.Record]",
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
) -> None:
    await connection.execute(f'alter database "{database.database}" set {setting}')
    Pooler(monkeypatch)
    async with aclosing(await Session.connect(database, timeout=SOON)) as session:
        with pytest.raises(CommitUnknown, match="mind the gap"):
            await session.commit("do $$ begin raise warning 'mind the gap'; end $$", timeout=SOON)


async def test_what_a_database_sets_for_everybody_does_not_reach_our_sessions(
    database: Target, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    for setting in ("client_min_messages = error", "synchronous_commit = off"):
        await connection.execute(f'alter database "{database.database}" set {setting}')
    async with aclosing(await Session.connect(database, timeout=SOON)) as session:
        rows = await session.read(
            "select current_setting('client_min_messages'), current_setting('synchronous_commit')",
            timeout=SOON,
        )
    assert tuple(rows[0]) == ("warning", "on")


async def _until_active(connection: "asyncpg.Connection[asyncpg.Record]", query: str) -> int:
    """The process that runs a statement like `query`, once it does."""
    async with asyncio.timeout(SOON):
        while True:
            pid = await connection.fetchval(
                "select pid from pg_stat_activity where query like $1 and state = 'active'"
                " and wait_event = 'PgSleep' and pid <> pg_backend_pid()",
                query,
            )
            if pid is not None:
                return int(pid)
