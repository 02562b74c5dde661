"""Sessions that work on the same rows at the same time. One of the two is held open in the middle by hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from dispatcher.accounts import add_account
from dispatcher.carrier_ids import carrier_id
from dispatcher.model import NewMessage, Reply, ReplyPart, State, SubmitResult, Verdict
from dispatcher.postgres_store import QUERIES, PostgresStore
from replication.session import CommitUnknown, Session, Target
from tests.message_scenes import BODY, CARRIER, CUSTOMER, SHORT_CODE, Stage, new_id, receipt, submitted
from tests.message_store import TERM, admin, as_role

DEADLINE_S = 10
DAY = timedelta(days=1)
EXPIRE = "update hotsite.message set expires_at = now() - interval '1 second' where message_id = $1"


@pytest.fixture
async def stage(store_database: Target) -> AsyncIterator[Stage]:
    session = await Session.connect(as_role(store_database, "hotsite_migrate"), timeout=5)
    for name in ("utility", "another"):
        await add_account(session, name=name, program="outages", source=SHORT_CODE)
    await session.aclose()
    store = await another_store(store_database)
    mine, other = await store.programs(TERM)

    async def pass_time(duration: timedelta) -> None:
        raise NotImplementedError(duration)

    yield Stage(store, TERM, mine, other, pass_time, lambda: datetime.now(UTC))
    await store.aclose()


async def another_store(database: Target) -> PostgresStore:
    return PostgresStore(await Session.connect(as_role(database, "hotsite_dispatch"), timeout=5))


class Held:
    """A dispatcher's connection in the middle of a transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        return list(await self._connection.fetch(QUERIES[query], *args))

    async def wrote(self) -> bool:
        """Whether the transaction has something to commit that standbys are waited for."""
        return bool(await self._connection.fetchval("select pg_current_xact_id_if_assigned() is not null"))

    async def accept(self, row: NewMessage) -> None:
        columns: tuple[list[object], ...] = (
            [row.id],
            [row.account_id],
            [row.program_id],
            [row.to],
            [row.body],
            [row.encoding],
            [row.segments],
            [row.message_class],
            [row.on_doubt],
            [row.reference],
            [row.fingerprint],
            [row.send_at],
            [row.expires_at],
        )
        topics = ([row.topic], [row.topic_at]) if row.topic is not None else ()
        await self.fetch("accept_topical" if topics else "accept", TERM, *columns, *topics)

    async def settle(self, row: SubmitResult) -> None:
        known = carrier_id(row.carrier_message_id or "")
        columns: tuple[list[object], ...] = (
            [row.claim_id],
            [row.message_id],
            [row.segment],
            [row.attempt],
            [row.outcome],
            [row.carrier],
            [known.written],
            [known.canonical],
            [known.as_hex],
            [known.as_decimal],
            [row.command_status],
            [row.retry_after_s],
        )
        await self.fetch("settle", *columns)


@asynccontextmanager
async def held(database: Target, *, commit: bool = True) -> AsyncIterator[Held]:
    connection = await admin(as_role(database, "hotsite_dispatch"))
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield Held(connection)
        await (transaction.commit() if commit else transaction.rollback())
    finally:
        await connection.close()


async def until_somebody_waits(database: Target) -> None:
    """Until a session waits for another's lock."""
    connection = await admin(database)
    async with asyncio.timeout(DEADLINE_S):
        while not await connection.fetchval("select exists (select from pg_locks where not granted)"):
            pass  # each look is a round trip
    await connection.close()


async def test_claims_at_the_same_time_never_overlap_and_never_wait(
    stage: Stage, store_database: Target
) -> None:
    await stage.accept(*(stage.message() for _ in range(6)))
    async with held(store_database) as other:
        theirs = {row["message_id"] for row in await other.fetch("claim", TERM, "denver-1", 3, 5.0, 2)}
        async with asyncio.timeout(DEADLINE_S):
            ours = {claim.message_id for claim in await stage.claim(6)}
    assert len(theirs) == len(ours) == 3
    assert theirs.isdisjoint(ours)


async def test_giving_up_does_not_wait_behind_an_answer_that_is_being_stored(
    stage: Stage, store_database: Target
) -> None:
    claim = await stage.sent()
    async with held(store_database) as other:
        await other.settle(submitted(claim))
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(asyncpg.LockNotAvailableError):
                await stage.store.give_up_claims(TERM, [claim.claim_id])
    assert await stage.store.give_up_claims(TERM, [claim.claim_id]) == 0
    assert await stage.state(claim.message_id) is State.SUBMITTED


async def test_a_text_that_a_wrong_clock_set_aside_is_sent_once_the_clock_is_right(
    stage: Stage, store_database: Target
) -> None:
    message = stage.message(expires_at=stage.now() + DAY)
    await stage.accept(message)
    superuser = await admin(store_database)
    await superuser.execute(EXPIRE, message.id)  # as seen by a clock that is days ahead
    assert await stage.claim() == []
    await superuser.execute(
        "update hotsite.message set expires_at = $2 where message_id = $1", message.id, message.expires_at
    )
    assert await stage.claim() == []
    assert await stage.store.release_due(TERM, 10) == 1
    assert [claim.message_id for claim in await stage.claim()] == [message.id]
    await superuser.close()


async def test_many_claimers_share_the_queue_without_a_gap_or_an_overlap(
    stage: Stage, store_database: Target
) -> None:
    rows = [stage.message() for _ in range(400)]
    await stage.accept(*rows)
    stores = [await another_store(store_database) for _ in range(4)]

    async def claim_all(store: PostgresStore, name: str) -> list[object]:
        mine: list[object] = []
        while batch := await store.claim(TERM, name, 7, 5.0):
            mine += [claim.message_id for claim in batch]
        return mine

    claimed = await asyncio.gather(*(claim_all(store, f"d{n}") for n, store in enumerate(stores)))
    assert sorted(str(i) for mine in claimed for i in mine) == sorted(str(row.id) for row in rows)
    for store in stores:
        await store.aclose()


@pytest.mark.parametrize(
    ("commit", "verdict"), [(True, Verdict.DUPLICATE), (False, Verdict.NEW)], ids=["commits", "fails"]
)
async def test_the_same_reference_at_once_waits_for_the_first_and_answers_by_it(
    stage: Stage, store_database: Target, *, commit: bool, verdict: Verdict
) -> None:
    first, second = stage.message(reference="r1"), stage.message(reference="r1")
    async with held(store_database, commit=commit) as other:
        await other.accept(first)
        accepting = asyncio.create_task(stage.store.accept(TERM, [second]))
        await until_somebody_waits(store_database)
    [row] = (await accepting).rows
    assert row.verdict is verdict
    assert row.id == (first.id if commit else second.id)
    assert len(await stage.claim()) == 1


async def test_a_receipt_and_its_answer_committed_side_by_side_meet_later(
    stage: Stage, store_database: Target
) -> None:
    claim = await stage.sent()
    async with held(store_database) as other:
        await other.settle(submitted(claim))
        await stage.store.receipts([receipt()])
    assert await stage.state(claim.message_id) is State.SUBMITTED
    await stage.store.release_due(TERM, 10)
    assert await stage.state(claim.message_id) is State.DELIVERED


async def test_a_receipt_committed_beside_its_answer_settles_no_doubt_at_the_same_number(
    stage: Stage, store_database: Target
) -> None:
    doubtful = await stage.sent()
    await stage.store.give_up_claims(TERM, [doubtful.claim_id])
    answered = await stage.sent()
    async with held(store_database) as other:
        await other.settle(submitted(answered, "77"))
        await stage.store.receipts([receipt("77", text=BODY[:20])])
    another = await stage.sent()
    await stage.store.give_up_claims(
        TERM, [another.claim_id]
    )  # looks for doubts that a parked receipt may settle
    assert await stage.state(doubtful.message_id) is State.IN_DOUBT
    await stage.store.release_due(TERM, 10)
    assert await stage.state(answered.message_id) is State.DELIVERED
    assert await stage.state(doubtful.message_id) is State.IN_DOUBT


async def test_a_receipt_is_not_kept_from_its_doubt_by_the_id_of_a_text_to_another_number(
    stage: Stage,
) -> None:
    answered = await stage.sent(to="+12025550199")
    await stage.store.settle([submitted(answered, "4096")])
    doubtful = await stage.sent()
    await stage.store.give_up_claims(TERM, [doubtful.claim_id])
    await stage.store.receipts([receipt("1000", text=BODY[:20])])  # in hexadecimal, that is 4096
    assert await stage.state(doubtful.message_id) is State.DELIVERED
    assert await stage.state(answered.message_id) is State.SUBMITTED


async def test_a_text_canceled_while_it_is_being_claimed_has_left(
    stage: Stage, store_database: Target
) -> None:
    message = stage.message()
    await stage.accept(message)
    async with held(store_database) as other:
        await other.fetch("claim", TERM, "denver-1", 1, 5.0, 2)
        canceling = asyncio.create_task(stage.store.cancel(TERM, stage.program.account_id, message.id))
        await until_somebody_waits(store_database)
    view = await canceling
    assert view is not None
    assert view.state is State.SUBMITTING


async def test_a_text_claimed_while_it_is_being_canceled_is_not_sent(
    stage: Stage, store_database: Target
) -> None:
    message = stage.message()
    await stage.accept(message)
    async with held(store_database) as other:
        await other.fetch("cancel", TERM, stage.program.account_id, message.id)
        claiming = asyncio.create_task(stage.claim())
        await until_somebody_waits(store_database)
    assert await claiming == []
    assert await stage.state(message.id) is State.CANCELED


async def test_a_claim_settled_while_it_is_given_up_is_not_in_doubt(
    stage: Stage, store_database: Target
) -> None:
    claim = await stage.sent()
    async with held(store_database) as other:
        await other.settle(submitted(claim))
        giving_up = asyncio.create_task(stage.store.give_up_claims(TERM, [claim.claim_id]))
        await until_somebody_waits(store_database)
    assert await giving_up == 0
    assert await stage.state(claim.message_id) is State.SUBMITTED


async def test_the_same_reply_through_two_sites_at_once_is_stored_once(
    stage: Stage, store_database: Target
) -> None:
    reply = Reply(
        carrier=CARRIER,
        source=CUSTOMER,
        destination=SHORT_CODE,
        text="STOP",
        received_at=datetime.now(UTC),
        fingerprint=b"f" * 32,
    )
    async with held(store_database) as other:
        await other.fetch(
            "replies",
            [reply.carrier],
            [reply.source],
            [reply.destination],
            [reply.text],
            [reply.received_at],
            [reply.fingerprint],
        )
        storing = asyncio.create_task(stage.store.replies([reply]))
        await until_somebody_waits(store_database)
    await storing
    connection = await admin(store_database)
    assert await connection.fetchval("select count(*) from hotsite.reply") == 1
    await connection.close()


async def test_the_same_part_of_a_reply_through_two_sites_at_once_is_stored_once(
    stage: Stage, store_database: Target
) -> None:
    first, second = (
        ReplyPart(
            carrier=CARRIER,
            source=CUSTOMER,
            destination=SHORT_CODE,
            reference=7,
            total=2,
            number=number,
            coding=0,
            octets=b"STOP",
            received_at=datetime.now(UTC),
            fingerprint=bytes((number,)) * 32,
        )
        for number in (1, 2)
    )
    async with held(store_database) as other:
        await other.fetch("reply_parts", *([getattr(first, field.name)] for field in fields(first)))
        storing = asyncio.create_task(stage.store.reply_parts([first, second]))
        await until_somebody_waits(store_database)
    await storing
    connection = await admin(store_database)
    assert await connection.fetchval("select array_agg(text) from hotsite.reply") == ["STOPSTOP"]
    await connection.close()


async def test_an_answer_about_rows_that_were_there_before_ends_in_a_commit_that_is_waited_for(
    stage: Stage, store_database: Target
) -> None:
    claim = await stage.sent(reference="r1")
    row = stage.message(reference="r1")
    await stage.store.settle([submitted(claim)])
    async with held(store_database) as other:
        await other.accept(row)
        assert await other.wrote()
    for query, args in (
        ("read", (TERM, row.account_id, claim.message_id)),
        ("find", (TERM, row.account_id, "r1", None, None, None, None, None, 10)),
        ("cancel", (TERM, row.account_id, claim.message_id)),
    ):
        async with held(store_database) as other:
            await other.fetch(query, *args)
            assert await other.wrote()
    async with held(store_database) as other:
        await other.settle(submitted(claim))
        assert await other.wrote()


@asynccontextmanager
async def waiting_for_nobody(database: Target) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Every commit waits for a standby that does not exist, and has really begun to."""
    superuser = await admin(database)
    await superuser.execute("alter system set synchronous_standby_names = 'nobody'")
    await superuser.execute("select pg_reload_conf()")
    try:
        await until_true(superuser, "select current_setting('synchronous_standby_names') = 'nobody'")
        # Failover rule 3: the checkpointer switches waiting on, and has surely been told once a connection is accepted.
        fresh = await admin(database)
        await fresh.execute("checkpoint")
        await fresh.close()
        yield superuser
    finally:
        await superuser.execute("alter system reset synchronous_standby_names")
        await superuser.execute("select pg_reload_conf()")
        await until_true(superuser, "select current_setting('synchronous_standby_names') = ''")
        await superuser.execute("checkpoint")
        await superuser.close()


async def until_true(connection: "asyncpg.Connection[asyncpg.Record]", sql: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await connection.fetchval(sql):
            pass  # each look is a round trip


TELLING: dict[str, Callable[[PostgresStore, NewMessage], Awaitable[object]]] = {
    "a look-up by id": lambda store, row: store.read(TERM, row.account_id, row.id),
    "a look-up by reference": lambda store, row: store.find(TERM, row.account_id, reference="r1"),
    "a duplicate": lambda store, row: store.accept(TERM, [replace(row, id=new_id())]),
    "a repeat of the same group": lambda store, row: store.accept(TERM, [row]),
    "a cancelling that comes twice": lambda store, row: store.cancel(TERM, row.account_id, row.id),
}


@pytest.mark.parametrize("tell", TELLING.values(), ids=TELLING.keys())
async def test_telling_of_a_row_that_was_there_before_waits_for_the_standbys_itself(
    stage: Stage,
    store_database: Target,
    tell: Callable[[PostgresStore, NewMessage], Awaitable[object]],
) -> None:
    """The row may be nowhere else: its own commit's wait may have been cut off (failover rule 5)."""
    row = stage.message(reference="r1")
    await stage.accept(row)
    await stage.store.cancel(TERM, row.account_id, row.id)
    store = await another_store(store_database)
    async with waiting_for_nobody(store_database) as superuser:
        telling = asyncio.create_task(asyncio.wait_for(tell(store, row), DEADLINE_S))
        waits = (
            "select pid from pg_stat_activity where wait_event = 'SyncRep' and usename = 'hotsite_dispatch'"
        )
        async with asyncio.timeout(DEADLINE_S):
            while (pid := await superuser.fetchval(waits)) is None:
                assert not telling.done(), f"it answered without waiting: {telling.result()}"
        await superuser.execute("select pg_cancel_backend($1)", pid)
        with pytest.raises(CommitUnknown, match="canceling wait for synchronous replication"):
            await telling
    await store.aclose()


async def test_a_look_up_that_nobody_waits_out_is_unknown_and_cut(
    stage: Stage, store_database: Target
) -> None:
    row = stage.message()
    await stage.accept(row)
    session = await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5)
    async with waiting_for_nobody(store_database):
        with pytest.raises(CommitUnknown, match="may be waiting for a standby"):
            await PostgresStore(session, timeout=0.5).read(TERM, row.account_id, row.id)
    assert session.closed


async def test_looking_for_work_in_vain_writes_nothing(stage: Stage, store_database: Target) -> None:
    async with held(store_database) as other:
        await other.fetch("claim", TERM, "columbus-1", 100, 5.0, 2)
        await other.fetch("release_due", TERM, 100, True)  # noqa: FBT003 # as SQL has it
        await other.fetch("resend_doubtful", TERM, 60.0, 100)
        await other.fetch("open_claims", TERM)
        assert not await other.wrote()


@pytest.mark.parametrize("body", ["a\x00b", "\ud83d"], ids=["a zero character", "half a surrogate pair"])
async def test_a_text_that_no_database_can_hold_is_refused_for_its_rows_sake(stage: Stage, body: str) -> None:
    good = stage.message()
    with pytest.raises(asyncpg.PostgresError) as refusal:
        await stage.store.accept(TERM, [good, stage.message(body=body)])
    assert refusal.value.sqlstate[:2] in {"22", "23"}
    await stage.accept(good)
    assert len(await stage.claim()) == 1
