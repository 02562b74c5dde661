"""What the role of the dispatchers may do in the database, and what a server that does not lead refuses."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from dispatcher.postgres_store import PostgresStore
from dispatcher.store import NotLeader
from replication.session import Session, Target
from tests.message_scenes import CARRIER, receipt
from tests.message_store import TERM, admin, as_role

DISPATCH = "hotsite_dispatch"
GRANTED = {
    "accept",
    "accept_topical",
    "add_to_list",
    "api_keys",
    "begin_list",
    "campaign_rows",
    "campaigns",
    "cancel",
    "change_campaign",
    "change_webhook",
    "claim_in_turn",
    "claim_unexpired",
    "claim_webhooks",
    "claimed_by",
    "count_campaign",
    "counts",
    "create_campaign",
    "create_webhook",
    "dead_letters",
    "delete_template",
    "delete_webhook",
    "doubt_candidates",
    "doubts",
    "end_list",
    "feed_campaign",
    "feed_page",
    "find_page",
    "give_up_claims",
    "join_replies",
    "open_claims",
    "parts_to_join",
    "programs",
    "read",
    "receipts",
    "received_is_tidy",
    "release_due",
    "replay_letters",
    "replies",
    "reply_parts",
    "resend_doubtful",
    "return_claims",
    "rotate_webhook_secret",
    "save_template",
    "settle",
    "settle_doubts",
    "settle_webhook",
    "receipts_noted",
    "settle_noted",
    "unnamed_candidates",
    "settle_unnamed",
    "tidy_received",
    "whole_replies",
    "sweep_campaigns",
    "templates",
    "archive_piece",
    "begin_upkeep",
    "detach_partition",
    "detached_rows",
    "drop_partition",
    "forget_campaign",
    "forget_references",
    "forget_replies",
    "make_partition",
    "note_retired",
    "open_in",
    "partitions",
    "reattach_partition",
    "retired_periods",
    "test_webhook",
    "tidy_feed",
    "topic_of",
    "webhook_batch",
    "webhook_claims",
    "webhook_counts",
    "webhook_rounds",
    "webhooks",
}


@pytest.fixture
async def superuser(store_database: Target) -> AsyncIterator[Any]:
    connection = await admin(store_database)
    yield connection
    await connection.close()


@pytest.fixture
async def store(store_database: Target) -> AsyncIterator[PostgresStore]:
    found = PostgresStore(await Session.connect(as_role(store_database, DISPATCH), timeout=5))
    yield found
    await found.aclose()


async def test_dispatchers_have_no_right_on_any_table_or_sequence(superuser: Any) -> None:
    reachable = await superuser.fetch(
        "select relname from pg_class where relnamespace in ('hotsite'::regnamespace, 'control'::regnamespace)"
        " and case when relkind = 'S' then has_sequence_privilege($1, oid, 'usage, select, update')"
        " when relkind in ('r', 'p', 'v', 'm') then"
        " has_table_privilege($1, oid, 'select, insert, update, delete, truncate, references, trigger')"
        " else false end",
        DISPATCH,
    )
    assert reachable == []


async def test_selecting_from_a_table_is_refused(store_database: Target) -> None:
    connection = await admin(as_role(store_database, DISPATCH))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.fetch("select * from hotsite.message")
    await connection.close()


async def test_dispatchers_may_call_what_is_granted_and_nothing_else(superuser: Any) -> None:
    rows = await superuser.fetch(
        "select proname from pg_proc where pronamespace = 'hotsite'::regnamespace"
        " and has_function_privilege($1, oid, 'execute')",
        DISPATCH,
    )
    assert {row["proname"] for row in rows} == GRANTED


async def test_every_function_with_its_owners_rights_has_a_fixed_search_path(superuser: Any) -> None:
    loose = await superuser.fetch(
        "select proname from pg_proc where pronamespace = 'hotsite'::regnamespace and prosecdef"
        " and not coalesce('search_path=pg_catalog, pg_temp' = any (proconfig), false)"
    )
    assert loose == []


async def test_dispatchers_may_create_nothing(store_database: Target) -> None:
    connection = await admin(as_role(store_database, DISPATCH))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("create table hotsite.mine ()")
    await connection.close()


async def test_a_start_that_was_not_opened_takes_no_answers_receipts_or_replies(
    superuser: Any, store: PostgresStore
) -> None:
    await superuser.execute("update control.leadership set boot = 'an earlier start'")
    assert not await store.is_open(TERM)
    with pytest.raises(NotLeader):
        await store.receipts([receipt("77", carrier=CARRIER)])
    with pytest.raises(NotLeader):
        await store.claim(TERM, "columbus-1", 1, 5.0)


async def test_a_read_only_server_is_not_the_leader(store_database: Target) -> None:
    session = await Session.connect(as_role(store_database, DISPATCH), timeout=5)
    await session.read("select set_config('default_transaction_read_only', 'on', false)", timeout=5)
    with pytest.raises(NotLeader):
        await PostgresStore(session).receipts([receipt("77")])
    await session.aclose()
