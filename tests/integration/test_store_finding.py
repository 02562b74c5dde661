"""How PostgreSQL finds messages: by an index, whatever is asked."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from dispatcher.accounts import add_account
from dispatcher.model import State
from dispatcher.postgres_store import PostgresStore
from dispatcher.uuid7 import least
from replication.session import Session, Target
from tests.message_scenes import CUSTOMER
from tests.message_store import TERM, admin, as_role

COLUMNS = (
    "account_id", "message_id", "program_id", "class", "segments", "accepted_at", "recipient", "encoding",
    "on_doubt", "body",
)  # fmt: skip
MESSAGES = 20_000  # one in each second, up to now
CUSTOMERS = (CUSTOMER, "+12025550124")


@pytest.fixture
async def account(store_database: Target) -> int:
    session = await Session.connect(as_role(store_database, "hotsite_migrate"), timeout=5)
    added = await add_account(session, name="utility", program="outages", source="12345")
    await session.aclose()
    return added.account_id


async def fill(database: Target, account: int) -> None:
    """Many messages to two customers in turn."""
    now = datetime.now(UTC)
    times = [now - timedelta(seconds=MESSAGES - n) for n in range(MESSAGES)]
    rows = [
        (account, least(at.timestamp()), 1, 1, 1, at, CUSTOMERS[n % 2], "gsm", "hold", "Power is back.")
        for n, at in enumerate(times)
    ]
    superuser = await admin(database)
    await superuser.copy_records_to_table(
        "message",
        schema_name="hotsite",
        records=rows,
        columns=COLUMNS,
    )
    await superuser.execute(
        "insert into hotsite.delivery (message_id, account_id, segment, state)"
        " select message_id, account_id, 1, 'delivered' from hotsite.message"
    )
    await superuser.close()


class CountingSession:
    """Runs each statement in a transaction of its own, and counts the rows of messages that it looked at."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self.looked_at = 0
        self.scans = 0

    async def commit(self, sql: str, *args: object, timeout: float) -> Any:
        async with self._connection.transaction():
            rows = await self._connection.fetch(sql, *args, timeout=timeout)
            [looked_at, scans] = await self._connection.fetchrow(
                "select idx_tup_fetch, seq_scan from pg_stat_xact_user_tables"
                " where schemaname = 'hotsite' and relname = 'message'"
            )
        self.looked_at, self.scans = looked_at, scans
        return rows


@pytest.mark.parametrize("filled_first", [True, False], ids=["planned when full", "planned when empty"])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [({}, 100), ({"to": CUSTOMERS[1]}, 50), ({"reference": "o-1"}, 0), ({"state": State.QUEUED}, 0)],
    ids=["all", "number", "reference", "state"],
)
async def test_finding_since_a_time_looks_at_what_came_since_and_no_further(
    store_database: Target, account: int, asked: dict[str, Any], expected: int, *, filled_first: bool
) -> None:
    connection = await admin(store_database)
    session = CountingSession(connection)
    store = PostgresStore(session, stored_within_s=30.0)  # type: ignore[arg-type] # all that `find` needs of one
    if not filled_first:
        await store.find(TERM, account, since=datetime.now(UTC), **asked)
    await fill(store_database, account)
    since = datetime.now(UTC) - timedelta(seconds=100)
    found = (await store.find(TERM, account, since=since, limit=200, **asked)).messages
    await connection.close()
    assert len(found) == pytest.approx(expected, abs=20)
    assert all(view.accepted_at >= since for view in found)
    assert session.scans == 0
    # By the index, those of the last seconds before `since` too; then once more each, to be described.
    assert session.looked_at <= 2 * len(found) + (150 if "state" in asked else 40)


async def test_messages_to_one_number_are_found_without_a_look_at_those_to_others(
    store_database: Target, account: int
) -> None:
    connection = await admin(store_database)
    session = CountingSession(connection)
    store = PostgresStore(session)  # type: ignore[arg-type] # as above
    assert (await store.find(TERM, account, to="+12025559999")).messages == ()
    await fill(store_database, account)
    assert (await store.find(TERM, account, to="+12025559999")).messages == ()
    assert (session.looked_at, session.scans) == (0, 0)
    await connection.close()


async def test_the_one_message_in_a_state_is_found_among_many_by_going_on_from_page_to_page(
    store_database: Target, account: int
) -> None:
    await fill(store_database, account)
    superuser = await admin(store_database)
    oldest = await superuser.fetchval(
        "update hotsite.delivery set state = 'failed'"
        " where message_id = (select min(message_id::text)::uuid from hotsite.message) returning message_id"
    )
    await superuser.close()
    store = PostgresStore(await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5))
    pages = [await store.find(TERM, account, state=State.FAILED)]
    while pages[-1].reached is not None:
        pages.append(await store.find(TERM, account, state=State.FAILED, after=pages[-1].reached))
    await store.aclose()
    assert [view.id for page in pages for view in page.messages] == [oldest]
    assert len(pages) == MESSAGES // 10_000 + 1
    assert pages[0].messages == ()
