"""Migrations on a real database: once, whole, in order, and never changed afterwards."""

import asyncio
from typing import Any

import pytest

from dispatcher import migrate
from dispatcher.migrate import Migration, MigrationError, Phase
from replication.session import Target
from tests.message_store import admin, as_role

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
