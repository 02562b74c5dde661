"""A stage for each test of the store: in memory, and on PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from dispatcher.accounts import add_account
from dispatcher.memory_store import MemoryStore
from dispatcher.model import ApiKey, MessageClass, OnDoubt, Program
from dispatcher.postgres_store import PostgresStore
from replication.session import Session
from tests.message_scenes import SHORT_CODE, Stage
from tests.message_store import TERM, admin, as_role

# Every column that a clock is compared with.
TIMES = (
    ("message", "accepted_at"),
    ("agenda", "at"),
    ("message", "send_at"),
    ("message", "expires_at"),
    ("delivery", "submitted_at"),
    ("delivery", "updated_at"),
    ("submission", "submitted_at"),
    ("doubt", "since"),
    ("doubt", "claimed_at"),
    ("claim", "claimed_at"),
    ("parked_receipt", "parked_at"),
    ("reply", "stored_at"),
    ("reply_part", "stored_at"),
    ("reply_part", "joined_at"),
    ("unnamed", "claimed_at"),
    ("unnamed", "submitted_at"),
    ("campaign", "started_at"),
    ("campaign_batch", "fed_at"),
    ("campaign_batch", "counted_at"),
    ("topic", "at"),
    ("feed_event", "at"),
    ("feed_tick", "at"),
    ("webhook", "old_secret_until"),
    ("webhook", "failing_since"),
    ("webhook", "next_try_at"),
    ("webhook_letter", "at"),
    ("webhook_letter", "next_try_at"),
    ("webhook_letter", "dead_at"),
)


class HeldClock:
    """Wall-clock time that only a test moves."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def now(self) -> float:
        return self.time.timestamp()

    def wall(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


@pytest.fixture(params=["memory", "postgres"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "memory":
        yield in_memory()
        return
    database = request.getfixturevalue("store_database")
    session = await Session.connect(as_role(database, "hotsite_migrate"), timeout=5)
    programs = [
        await add_account(session, name=name, program="outages", source=SHORT_CODE)
        for name in ("utility", "another")
    ]
    await session.aclose()
    superuser = await admin(database)

    await superuser.execute("update control.canary set written_at = clock_timestamp()")

    async def pass_time(duration: timedelta) -> None:
        await superuser.execute("update control.canary set written_at = written_at - $1::interval", duration)
        for table, column in TIMES:
            earlier = f"update hotsite.{table} set {column} = {column} - $1::interval"  # noqa: S608 (names from above)
            await superuser.execute(earlier, duration)

    async def lead(term: int) -> None:
        await superuser.execute("update control.leadership set term = $1", term)

    async def tried(message_id: UUID, attempts: int) -> None:
        await superuser.execute(
            "update hotsite.delivery set attempt = $2 where message_id = $1", message_id, attempts
        )

    async def replies() -> list[tuple[str, str]]:
        rows = await superuser.fetch("select source, text from hotsite.reply order by reply_id")
        return [(row["source"], row["text"]) for row in rows]

    store = PostgresStore(await Session.connect(as_role(database, "hotsite_dispatch"), timeout=5))
    mine, other = [p for p in await store.programs(TERM) if p.id in {a.program_id for a in programs}]
    yield Stage(store, TERM, mine, other, pass_time, lambda: datetime.now(UTC), lead, tried, replies)
    await check_books(superuser)
    await superuser.close()
    await store.aclose()


def in_memory() -> Stage:
    clock = HeldClock()
    store = MemoryStore(clock, term=TERM)
    mine, other = (
        Program(
            id=number,
            account_id=number,
            name="outages",
            source=SHORT_CODE,
            on_doubt=OnDoubt.HOLD,
            message_class=MessageClass.SERVICE,
            enabled=True,
        )
        for number in (1, 2)
    )
    for program in (mine, other):
        store.add_program(program)
        store.add_key(
            ApiKey(
                id=program.id,
                account_id=program.account_id,
                prefix="hs_",
                secret_hash=bytes([program.id]) * 32,
                expires_at=None,
                revoked=False,
            )
        )

    async def pass_time(duration: timedelta) -> None:
        clock.time += duration

    async def lead(term: int) -> None:
        store.lead(term)

    async def tried(message_id: UUID, attempts: int) -> None:
        for segment in store._segments_of(message_id):
            segment.attempt = attempts

    async def replies() -> list[tuple[str, str]]:
        return [(reply.source, reply.text) for reply in store.stored_replies]

    return Stage(store, TERM, mine, other, pass_time, clock.wall, lead, tried, replies)


async def check_books(superuser: "asyncpg.Connection[asyncpg.Record]") -> None:
    """After every test: the tally counts what is there, and whatever waits is on a work list."""
    wrong = await superuser.fetch(
        "select state, counted, tallied from"
        " (select state, count(*) as counted from hotsite.delivery group by state) as c"
        " full join (select state, sum(delta) as tallied from hotsite.tally group by state) as t using (state)"
        " where coalesce(counted, 0) <> coalesce(tallied, 0)"
    )
    assert wrong == []
    forgotten = await superuser.fetch(
        "select d.* from hotsite.delivery as d where case d.state"
        " when 'queued' then not exists (select from hotsite.queue as q"
        "   where q.message_id = d.message_id and q.segment = d.segment)"
        "   and not exists (select from hotsite.agenda as a"
        "   where a.message_id = d.message_id and a.segment = d.segment)"
        " when 'scheduled' then not exists (select from hotsite.agenda as a"
        "   where a.message_id = d.message_id and a.segment = d.segment)"
        " when 'in_doubt' then not exists (select from hotsite.doubt as o"
        "   where o.message_id = d.message_id and o.segment = d.segment)"
        " when 'submitting' then not exists (select from hotsite.claim as c where c.claim_id = d.claim_id)"
        " else false end"
    )
    assert forgotten == []
