"""PostgreSQL looks at the rows that a call is about, and at few others, whatever it believes of the tables' sizes.

Work lists run empty all the time. One that is vacuumed in that moment is believed to be empty until it is vacuumed
again, and a plan that is fine for no rows (all of them, for each row of the call) takes a minute for ten thousand.

Here: a store whose lists are long, and a session that counts what is read.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from dispatcher.accounts import add_account
from dispatcher.model import Claim, NewMessage, OnDoubt
from dispatcher.postgres_store import QUERIES, PostgresStore
from dispatcher.uuid7 import compose, stamp
from replication.session import Session, Target
from tests.message_scenes import Stage, receipt, submitted
from tests.message_store import TERM, admin, as_role
from tests.partitions import one_a_day

MANY, FEW = 3_000, 20
GROUP = 500
DAYS = 40
MOST_PER_ROW = 30  # entries of indexes and rows of tables that one row of a call may cost
EMPTIED = (
    "queue",
    "agenda",
    "claim",
    "submission",
    "doubt",
    "parked_receipt",
    "event",
    "tally",
    "reply_part",
    "unnamed",
    "campaign_batch",
    "topic",
    "topical",
)
SHARED = """
    with last as (
        select message_id, 1000 + row_number() over () as account_id
        from (select message_id from hotsite.queue order by message_id desc limit $1) as q
    ), a as (
        update hotsite.queue as q set account_id = l.account_id from last as l where q.message_id = l.message_id
    ), b as (
        update hotsite.message as m set account_id = l.account_id from last as l where m.message_id = l.message_id
    )
    update hotsite.delivery as d set account_id = l.account_id from last as l where d.message_id = l.message_id
"""
READ = """
    select sum(pg_stat_get_xact_tuples_returned(c.oid)) from pg_class as c
    where c.relnamespace = 'hotsite'::regnamespace and c.relkind in ('r', 'i')
    and c.relname <> 'transition' -- which never grows, and is read by the tests' own guard
"""
# How often an index of a partition was asked, and how often a partition was read from end to end.
ASKED = """
    select
        coalesce(sum(pg_stat_get_xact_numscans(c.oid)) filter (where c.relkind = 'i'), 0) as indexes,
        coalesce(sum(pg_stat_get_xact_numscans(c.oid)) filter (where c.relkind = 'r'), 0) as tables
    from pg_class as c where c.relnamespace = 'hotsite'::regnamespace and c.relispartition and c.relkind in ('r', 'i')
"""


class MeteredSession:
    """Runs each statement in a transaction of its own, and counts the rows and index entries that were read."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self.looked_at = 0
        self.indexes_asked = 0
        self.partitions_read = 0  # from end to end

    async def become(self, role: str) -> None:
        await self._connection.execute(f"set role {role}")

    async def commit(self, sql: str, *args: object, timeout: float) -> Any:
        async with self._connection.transaction():
            before, asked = await self._connection.fetchval(READ), await self._connection.fetchrow(ASKED)
            rows = await self._connection.fetch(sql, *args, timeout=timeout)
            self.looked_at += await self._connection.fetchval(READ) - before
            now_asked = await self._connection.fetchrow(ASKED)
            assert asked is not None
            assert now_asked is not None
            self.indexes_asked += now_asked["indexes"] - asked["indexes"]
            self.partitions_read += now_asked["tables"] - asked["tables"]
        return rows

    read = commit


class Scene:
    """A stage with many rows in every list, and a store whose reading is counted."""

    def __init__(
        self,
        stage: Stage,
        session: MeteredSession,
        superuser: "asyncpg.Connection[asyncpg.Record]",
        ready: Callable[[], Awaitable[None]],
        days: int,
    ) -> None:
        self.days = days
        self.stage = stage
        self.store = stage.store
        self.superuser = superuser
        self.ready = ready  # to be called when the lists are filled
        self.metered = PostgresStore(session)  # type: ignore[arg-type] # all that a store needs of one
        self._session = session
        self._numbers = itertools.count(2_000_000)

    async def asked(self, query: str, *arguments: object) -> Any:
        """A named query by the owner of the tables, as the commands ask it; counted."""
        await self._session.become("hotsite_migrate")
        return await self._session.read(QUERIES[query], *arguments, timeout=30)

    @property
    def looked_at(self) -> int:
        """Rows and entries, and how often an index of a partition was asked."""
        return self._session.looked_at + self._session.indexes_asked

    def message(self, **changes: Any) -> NewMessage:
        """Of one of the last DAYS days, where there is a partition for each."""
        if self.days:
            at = datetime.now(UTC) - timedelta(days=next(self._numbers) % self.days)
            changes["id"] = compose(stamp(at), next(self._numbers))
        return self.stage.message(**changes)

    def _number(self, prefix: str) -> str:
        self.last_number = f"+{prefix}{next(self._numbers)}"
        return self.last_number

    async def leave_empty_pages(self) -> None:
        """Each list has had rows, has none, and was vacuumed since."""
        await self.give_up(await self.claim(FEW))
        await self.settle(await self.claim(FEW))
        await self.park(FEW)
        await self.queue(FEW, topic="storm")
        await self.stage.accept(self.stage.message(expires_at=datetime.now(UTC) + timedelta(days=1)))
        await self.superuser.execute("delete from hotsite.tally")
        for table in EMPTIED:
            await self.superuser.execute(f"delete from hotsite.{table}")  # noqa: S608 # names from above
            await self.superuser.execute(f"vacuum (analyze, truncate false) hotsite.{table}")

    async def queue(self, number: int, **changes: Any) -> None:
        for some in groups(number):
            await self.stage.accept(
                *(self.message(to=self._number("1202"), on_doubt=OnDoubt.RESEND, **changes) for _ in some)
            )

    async def share(self, accounts: int) -> None:
        """Hand the newest of what is queued to so many other accounts, one text each."""
        await self.superuser.execute(SHARED, accounts)

    async def claim(self, number: int) -> list[Claim]:
        await self.queue(number)
        claims: list[Claim] = []
        while some := await self.store.claim(TERM, "columbus-1", 50, 5.0):
            claims += some
        return claims

    async def park(self, number: int) -> list[str]:
        """Receipts whose ids nobody knows; returns the ids."""
        ids = [f"{next(self._numbers):x}" for _ in range(number)]
        for some in groups(number):
            await self.store.receipts([receipt(ids[n], source=self._number("1303")) for n in some])
        return ids

    async def settle(self, claims: Sequence[Claim]) -> list[str]:
        """All of them submitted; returns the carrier's ids."""
        ids = [f"{next(self._numbers):x}" for _ in claims]
        for some in groups(len(claims)):
            await self.store.settle([submitted(claims[n], ids[n]) for n in some])
        return ids

    async def give_up(self, claims: Sequence[Claim]) -> None:
        await self.store.give_up_claims(TERM, sorted({claim.claim_id for claim in claims}))


def groups(number: int) -> list[range]:
    return [range(start, min(start + GROUP, number)) for start in range(0, number, GROUP)]


@pytest.fixture(
    params=[
        "believed to be empty",
        pytest.param("just analyzed", marks=pytest.mark.long),
        pytest.param("a partition a day", marks=pytest.mark.long),
    ]
)
async def scene(store_database: Target, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    session = await Session.connect(as_role(store_database, "hotsite_migrate"), timeout=5)
    await add_account(session, name="utility", program="outages", source="12345")
    await session.aclose()
    store = PostgresStore(await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5))
    [program] = await store.programs(TERM)
    superuser, metered = await admin(store_database), await admin(store_database)
    await superuser.execute("update control.canary set written_at = clock_timestamp()")
    await metered.execute("set role hotsite_dispatch")
    days = DAYS if request.param == "a partition a day" else 0
    if days:
        await one_a_day(superuser, back=days)

    async def pass_time(duration: timedelta) -> None:
        raise NotImplementedError(duration)

    async def ready() -> None:
        if request.param == "just analyzed":
            await superuser.execute("analyze")

    stage = Stage(store, TERM, program, program, pass_time, lambda: datetime.now(UTC))
    session_metered = MeteredSession(metered)
    made = Scene(stage, session_metered, superuser, ready, days)
    await made.leave_empty_pages()
    yield made
    assert session_metered.partitions_read == 0
    await store.aclose()
    await metered.close()
    await superuser.close()
