"""The tables of messages become partitioned while the version before accepts, claims and settles."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher import migrate
from dispatcher.accounts import add_account
from dispatcher.migrate import MigrationError
from dispatcher.model import State
from dispatcher.postgres_store import PostgresStore
from replication.session import Session, Target
from tests.message_scenes import Stage
from tests.message_store import TERM, admin, as_role
from tests.message_traffic import Traffic, first_of

PARTITIONING = (17, 18, 19, 20)
BEFORE = [m for m in migrate.migrations() if m.number not in PARTITIONING]  # nothing else depends on them
UP_TO_PARTITIONS = migrate.migrations()


@asynccontextmanager
async def stage_of(database: Target) -> AsyncIterator[Stage]:
    session = await Session.connect(as_role(database, "hotsite_migrate"), timeout=5)
    await add_account(session, name="utility", program="outages", source="12345")
    await session.aclose()
    store = PostgresStore(await Session.connect(as_role(database, "hotsite_dispatch"), timeout=5))
    [program] = await store.programs(TERM)

    async def never(duration: timedelta) -> None:
        raise NotImplementedError(duration)

    yield Stage(store, TERM, program, program, never, lambda: datetime.now(UTC))
    await store.aclose()


async def before(database: Target) -> None:
    await migrate.apply(as_role(database, "hotsite_migrate"), known=BEFORE, post=True)


async def test_traffic_goes_on_while_the_tables_become_partitioned(bare_database: Target) -> None:
    await before(bare_database)
    async with stage_of(bare_database) as stage:
        traffic = Traffic(stage)
        running = asyncio.create_task(traffic.run())
        await first_of(traffic.more(20), running)
        report = await migrate.apply(as_role(bare_database, "hotsite_migrate"), known=UP_TO_PARTITIONS)
        assert [name for name in report.applied if name.startswith("0019")]
        await first_of(traffic.more(20), running)
        traffic.enough = True
        await running
        states = {await stage.state(message) for message in traffic.messages}
    assert states == {State.DELIVERED}


async def test_the_rows_of_before_are_where_they_were(bare_database: Target) -> None:
    """Nothing is rewritten: the first partition is the table of before, file and all."""
    await before(bare_database)
    superuser = await admin(bare_database)
    async with stage_of(bare_database) as stage:
        claim = await stage.sent()
        files = {
            table: await superuser.fetchval(f"select pg_relation_filenode('hotsite.{table}')")
            for table in ("message", "delivery", "event")
        }
        await migrate.apply(as_role(bare_database, "hotsite_migrate"), known=UP_TO_PARTITIONS)
        for table, file in files.items():
            assert await superuser.fetchval(f"select pg_relation_filenode('hotsite.{table}_first')") == file
        assert (await stage.view(claim.message_id)).state is State.SUBMITTING
    await superuser.close()


async def test_lines_of_a_story_are_numbered_on(bare_database: Target) -> None:
    await before(bare_database)
    superuser = await admin(bare_database)
    async with stage_of(bare_database) as stage:
        for _ in range(2):
            await stage.store.give_up_claims(TERM, [(await stage.sent()).claim_id])
        last = await superuser.fetchval("select max(event_id) from hotsite.event")
        await migrate.apply(as_role(bare_database, "hotsite_migrate"), known=UP_TO_PARTITIONS)
        await stage.store.give_up_claims(TERM, [(await stage.sent()).claim_id])
    assert await superuser.fetchval("select max(event_id) from hotsite.event") > last
    await superuser.close()


async def test_triggers_of_before_are_those_of_all_partitions(bare_database: Target) -> None:
    await before(bare_database)
    superuser = await admin(bare_database)
    await superuser.execute(
        "create table public.noted (message_id uuid);"
        " create function public.note() returns trigger language plpgsql security definer as"
        " $$ begin insert into public.noted values (new.message_id); return null; end $$;"
        " create trigger told_elsewhere after update on hotsite.delivery for each row execute function public.note()"
    )
    async with stage_of(bare_database) as stage:
        await migrate.apply(as_role(bare_database, "hotsite_migrate"), known=UP_TO_PARTITIONS)
        claim = await stage.sent()
    assert await superuser.fetchval("select message_id from public.noted") == claim.message_id
    await superuser.close()


async def test_an_id_that_is_a_month_ahead_is_told_of_and_nothing_is_changed(bare_database: Target) -> None:
    await before(bare_database)
    superuser = await admin(bare_database)
    await superuser.execute(
        "insert into hotsite.delivery (message_id, account_id, segment, state)"
        " values ('ffffffff-0000-7000-8000-000000000000', 1, 1, 'queued')"
    )
    with pytest.raises(MigrationError, match="more than a month ahead"):
        await migrate.apply(as_role(bare_database, "hotsite_migrate"), known=UP_TO_PARTITIONS)
    await superuser.execute("delete from hotsite.delivery")
    await migrate.apply(as_role(bare_database, "hotsite_migrate"), known=UP_TO_PARTITIONS)
    await superuser.close()


async def test_a_migration_waits_for_a_table_only_a_moment_and_comes_again(
    bare_database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    await before(bare_database)
    monkeypatch.setattr(migrate, "TRIES", 2)
    busy = await admin(bare_database)
    async with busy.transaction():
        await busy.execute("select from hotsite.message limit 1")
        with pytest.raises(MigrationError, match="lock timeout"):
            await migrate.apply(as_role(bare_database, "hotsite_migrate"), known=UP_TO_PARTITIONS)
    await busy.close()
    report = await migrate.apply(as_role(bare_database, "hotsite_migrate"), known=UP_TO_PARTITIONS)
    assert [m.name for m in UP_TO_PARTITIONS if m.number in PARTITIONING] == list(report.applied)
