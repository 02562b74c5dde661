"""Migrations on a real database: once, whole, in order, and never changed afterwards."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher import migrate
from dispatcher.accounts import add_account
from dispatcher.migrate import Migration, MigrationError, Phase
from dispatcher.model import SubmitOutcome, SubmitResult
from dispatcher.postgres_store import PostgresStore
from replication.session import Session, Target
from tests.message_scenes import SHORT_CODE, Stage
from tests.message_store import TERM, admin, as_role

ROLE = "hotsite_migrate"


def file(number: int, sql: str, phase: Phase = Phase.PRE) -> Migration:
    return Migration(number=number, phase=phase, name=f"{number:04}_x.{phase.name.lower()}.sql", sql=sql)


FIRST = file(1, "create table hotsite.one ()")
SECOND = file(2, "create table hotsite.two ()")


async def tables(target: Target) -> set[Any]:
    connection = await admin(target)
    rows = await connection.fetch("select tablename from pg_tables where schemaname = 'hotsite'")
    await connection.close()
    return {row["tablename"] for row in rows} - {"migration"}


async def test_the_shipped_migrations_apply_and_a_second_run_finds_nothing_to_do(
    bare_database: Target,
) -> None:
    target = as_role(bare_database, ROLE)
    first = await migrate.apply(target)
    shipped = migrate.migrations()
    newest = max(m.number for m in shipped)
    assert first.applied == tuple(m.name for m in shipped if m.phase is Phase.PRE or m.number < newest)
    second = await migrate.apply(target)
    assert (second.applied, second.already) == ((), len(first.applied))


async def test_two_runs_at_once_apply_each_file_once(bare_database: Target) -> None:
    target = as_role(bare_database, ROLE)
    reports = await asyncio.gather(*(migrate.apply(target, known=[FIRST, SECOND]) for _ in range(3)))
    assert sorted(name for report in reports for name in report.applied) == [FIRST.name, SECOND.name]


async def test_a_changed_file_is_refused_and_nothing_after_it_is_applied(bare_database: Target) -> None:
    target = as_role(bare_database, ROLE)
    await migrate.apply(target, known=[FIRST])
    changed = file(1, "create table hotsite.other ()")
    with pytest.raises(MigrationError, match=r"0001_x\.pre\.sql was changed after it was applied"):
        await migrate.apply(target, known=[changed, SECOND])
    assert await tables(bare_database) == {"one"}


async def test_a_file_that_fails_leaves_nothing_of_itself(bare_database: Target) -> None:
    target = as_role(bare_database, ROLE)
    broken = file(2, "create table hotsite.half (); select 1 / 0")
    with pytest.raises(MigrationError, match=r"0002_x\.pre\.sql failed and changed nothing"):
        await migrate.apply(target, known=[FIRST, broken])
    assert await tables(bare_database) == {"one"}
    assert (await migrate.apply(target, known=[FIRST, SECOND])).applied == (SECOND.name,)


async def test_post_files_wait_for_their_own_run(bare_database: Target) -> None:
    target = as_role(bare_database, ROLE)
    post = file(1, "create table hotsite.later ()", Phase.POST)
    report = await migrate.apply(target, known=[FIRST, post])
    assert (report.applied, report.waiting) == ((FIRST.name,), (post.name,))
    assert (await migrate.apply(target, known=[FIRST, post], post=True)).applied == (post.name,)


async def test_the_version_before_goes_on_claiming_and_settling_while_the_order_of_the_queue_changes(
    bare_database: Target,
) -> None:
    """On sessions that keep their plans: before the change, with both orders, and with the new one alone."""
    target = as_role(bare_database, ROLE)

    async def up_to(number: int) -> tuple[str, ...]:
        known = [migration for migration in migrate.migrations() if migration.number <= number]
        return (await migrate.apply(target, known=known)).applied

    async def pass_time(duration: timedelta) -> None:
        raise NotImplementedError(duration)

    await up_to(20)
    migrating = await Session.connect(target, timeout=5)
    await add_account(migrating, name="utility", program="outages", source=SHORT_CODE)
    await migrating.aclose()
    session = await Session.connect(as_role(bare_database, "hotsite_dispatch"), timeout=5)
    store = PostgresStore(session)
    [program] = await store.programs(TERM)
    stage = Stage(store, TERM, program, program, pass_time, lambda: datetime.now(UTC))
    await stage.accept(*(stage.message() for _ in range(5)))

    async def there_and_back() -> int:
        claim = "select * from hotsite.claim_unexpired($1, $2, $3, $4)"
        rows = await session.commit(claim, TERM, "columbus-1", 10, 5.0, timeout=5)
        await store.settle(
            [
                SubmitResult(
                    claim_id=row["claim_id"],
                    message_id=row["message_id"],
                    segment=row["segment"],
                    attempt=row["attempt"],
                    outcome=SubmitOutcome.QUEUED,
                    carrier="acme",
                )
                for row in rows
            ]
        )
        return len(rows)

    assert await there_and_back() == 5
    assert await up_to(21) == ("0021_order_of_the_queue.pre.sql",)
    assert await there_and_back() == 5
    assert await up_to(22) == ("0021_order_of_the_queue.post.sql", "0022_attempts_and_retention.pre.sql")
    assert await there_and_back() == 5
    assert len(await stage.claim()) == 5
    await session.aclose()
