"""Accounts and their keys, as the commands make them."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from dispatcher.accounts import add_account, key_hash
from dispatcher.model import MessageClass, OnDoubt
from dispatcher.postgres_store import PostgresStore
from replication.session import Session, Target
from tests.message_store import TERM, as_role


@pytest.fixture
async def session(store_database: Target) -> AsyncIterator[Session]:
    found = await Session.connect(as_role(store_database, "hotsite_migrate"), timeout=5)
    yield found
    await found.aclose()


@pytest.fixture
async def store(store_database: Target) -> AsyncIterator[PostgresStore]:
    found = PostgresStore(await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5))
    yield found
    await found.aclose()


async def test_the_database_keeps_a_hash_of_the_key_and_never_the_key(
    session: Session, store: PostgresStore
) -> None:
    account = await add_account(session, name="utility", program="outages", source="12345")
    [key] = await store.api_keys(TERM)
    assert account.key.startswith("hs_")
    assert (key.id, key.secret_hash) == (account.key_id, key_hash(account.key))
    assert account.key.startswith(key.prefix)
    assert len(key.prefix) < len(account.key) / 2


async def test_a_repeat_with_the_same_key_adds_nothing(session: Session, store: PostgresStore) -> None:
    first = await add_account(session, name="utility", program="outages", source="12345")
    again = await add_account(session, name="utility", program="outages", source="12345", key=first.key)
    assert again == first
    assert len(await store.api_keys(TERM)) == 1


async def test_a_program_takes_the_settings_of_the_last_run(session: Session, store: PostgresStore) -> None:
    await add_account(session, name="utility", program="outages", source="12345")
    await add_account(
        session,
        name="utility",
        program="outages",
        source="54321",
        on_doubt=OnDoubt.RESEND,
        message_class=MessageClass.EMERGENCY,
    )
    [program] = await store.programs(TERM)
    assert (program.source, program.on_doubt, program.message_class) == (
        "54321",
        OnDoubt.RESEND,
        MessageClass.EMERGENCY,
    )


async def test_a_key_of_another_account_is_refused(session: Session) -> None:
    first = await add_account(session, name="utility", program="outages", source="12345")
    with pytest.raises(asyncpg.UniqueViolationError):
        await add_account(session, name="another", program="outages", source="12345", key=first.key)
