"""PostgreSQL with the schema of the message path, opened for a term, for tests of the store.

`store_database` is a fresh copy for each test; `as_role` says how to connect to it as somebody else.
"""

from collections.abc import Iterator
from dataclasses import replace
from importlib import resources

import asyncpg
import pytest

from dispatcher import migrate
from replication.session import Target
from tests.postgres import PostgresServer, running_server, short_folder

TERM = 7
NODE, BOOT = "columbus-a", "b1"
ROLES = ("hotsite_migrate", "hotsite_dispatch", "hotsite_monitor", "hotsite_rewind")


def as_role(target: Target, role: str) -> Target:
    return replace(target, user=role)


async def admin(target: Target) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(
        host=target.host, port=target.port, user=target.user, database=target.database
    )


async def prepare(target: Target) -> None:
    """Both schemas as the agent makes them, and a leadership that this server holds."""
    connection = await admin(target)
    try:
        await connection.execute("create schema hotsite authorization hotsite_migrate")
        control = (resources.files("sitecontrol") / "sql" / "control.sql").read_text()
        await connection.execute(control)
        await connection.execute(
            "insert into control.leadership (term, node, boot, opened_at) values ($1, $2, $3, now())",
            TERM,
            NODE,
            BOOT,
        )
    finally:
        await connection.close()


# Paid for each row: so it is the tests' alone. A superuser may set up what he likes.
GUARD = """
create function public.refuse_unlisted() returns trigger language plpgsql as $$
declare
    v_before constant hotsite.state := case when tg_op = 'UPDATE' then old.state end;
begin
    if current_user = 'hotsite_migrate' and not exists (
        select from hotsite.transition as t
        where new.state = any (t.after)
        and case when v_before is null then t.before = '{}' else v_before = any (t.before) end
    ) then
        raise exception 'dispatcher.states has no way from % to %', v_before, new.state;
    end if;
    return new;
end
$$;
create trigger new_segment before insert on hotsite.delivery for each row execute function public.refuse_unlisted();
create trigger segment_moves before update on hotsite.delivery for each row
    when (old.state <> new.state) execute function public.refuse_unlisted();
"""


async def build(target: Target) -> None:
    """The whole schema; it refuses a change of a segment's state that `dispatcher.states` does not know."""
    await prepare(target)
    await migrate.apply(as_role(target, "hotsite_migrate"))
    connection = await admin(target)
    try:
        await connection.execute(GUARD)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def store_server() -> Iterator[PostgresServer]:
    with (
        short_folder("hotsite-store-") as folder,
        running_server(folder, cluster_name=f"{NODE}/{BOOT}") as server,
    ):
        for role in ROLES:
            server.execute(f"create role {role} login")
        yield server


@pytest.fixture
def store_database(store_server: PostgresServer) -> Iterator[Target]:
    """Migrated, opened in `TERM`, without an account."""
    target = store_server.create_database(template=store_server.template("messages", build))
    yield target
    store_server.drop_database(target.database)


@pytest.fixture
def bare_database(store_server: PostgresServer) -> Iterator[Target]:
    """Opened in `TERM`, not migrated."""
    target = store_server.create_database(template=store_server.template("bare", prepare))
    yield target
    store_server.drop_database(target.database)
