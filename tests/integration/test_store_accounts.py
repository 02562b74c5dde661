"""Accounts and their keys, as the commands make them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from dispatcher.accounts import RevokedKeyError, add_account, key_hash
from dispatcher.keys import NoSuchKeyError, list_keys, revoke_key
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
    with pytest.raises(asyncpg.UniqueViolationError):
        await add_account(
            session, name="another", program="outages", source="12345", key=first.key, expires_at=LATER
        )
    [key] = await list_keys(session)
    assert (key.account, key.expires_at) == ("utility", None)
    assert [row["name"] for row in await session.read("select name from hotsite.account", timeout=5)] == [
        "utility"
    ]


LATER = datetime(2100, 1, 1, tzinfo=UTC)
GONE = datetime(2020, 1, 1, tzinfo=UTC)


async def test_a_key_ends_at_the_time_that_it_was_given_and_a_repeat_without_one_keeps_it(
    session: Session, store: PostgresStore
) -> None:
    ends = {"name": "utility", "program": "outages", "source": "12345"}
    first = await add_account(session, **ends, expires_at=LATER)
    await add_account(session, **ends, key=first.key)
    [key] = await store.api_keys(TERM)
    assert key.expires_at == LATER
    await add_account(session, **ends, key=first.key, expires_at=LATER + timedelta(days=1))
    [key] = await store.api_keys(TERM)
    assert key.expires_at == LATER + timedelta(days=1)


async def test_the_keys_are_listed_with_whose_they_are_and_whether_they_open(session: Session) -> None:
    lasting = await add_account(session, name="utility", program="outages", source="12345")
    past = await add_account(session, name="utility", program="outages", source="12345", expires_at=GONE)
    other = await add_account(session, name="another", program="outages", source="12345", expires_at=LATER)
    told = [key.as_json() for key in await list_keys(session)]
    assert [(key["key_id"], key["account"], key["expires_at"], key["usable"]) for key in told] == [
        (lasting.key_id, "utility", None, True),
        (past.key_id, "utility", "2020-01-01T00:00:00+00:00", False),
        (other.key_id, "another", "2100-01-01T00:00:00+00:00", True),
    ]
    assert all(lasting.key not in str(key) for key in told)
    assert [key.key_id for key in await list_keys(session, "another")] == [other.key_id]
    assert await list_keys(session, "nobody") == []


async def test_a_revoked_key_is_known_as_such_to_dispatchers_and_keeps_the_time_of_the_first_word(
    session: Session, store: PostgresStore
) -> None:
    kept = await add_account(session, name="utility", program="outages", source="12345")
    for name in ("number", "first characters", "whole key"):
        account = await add_account(session, name="utility", program="outages", source="12345")
        named = {
            "number": str(account.key_id),
            "first characters": account.key[:10],
            "whole key": account.key,
        }
        revoked = await revoke_key(session, named[name])
        assert (revoked.key_id, revoked.usable) == (account.key_id, False)
        assert await revoke_key(session, named[name]) == revoked
        assert {key.id: key.revoked for key in await store.api_keys(TERM)}[account.key_id]
    assert not {key.id: key.revoked for key in await store.api_keys(TERM)}[kept.key_id]


async def test_a_revoked_key_is_not_added_again(session: Session) -> None:
    account = await add_account(session, name="utility", program="outages", source="12345")
    await revoke_key(session, str(account.key_id))
    with pytest.raises(RevokedKeyError, match="remove its file"):
        await add_account(session, name="utility", program="outages", source="12345", key=account.key)
    [key] = await list_keys(session)
    assert key.revoked_at is not None


async def test_a_key_that_is_not_there_or_not_the_only_one_is_refused_without_telling_a_whole_key(
    session: Session,
) -> None:
    for named in ("17", "hs_nothing", "0", "", "-1", "hs_" + "x" * 40, "99999999999"):
        with pytest.raises(NoSuchKeyError, match="`account list`") as refusal:
            await revoke_key(session, named)
        assert "x" * 40 not in str(refusal.value)
    for end in ("one", "two"):
        await add_account(session, name="utility", program="outages", source="12345", key=f"hs_same-as-{end}")
    with pytest.raises(NoSuchKeyError, match="more than one key begins with hs_same-as"):
        await revoke_key(session, "hs_same-as")
    assert all(key.usable for key in await list_keys(session))
