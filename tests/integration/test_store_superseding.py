"""Texts that are superseded while something else happens to them; one of the two is held open in the middle by hand."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher.accounts import add_account
from dispatcher.model import State, SubmitOutcome
from dispatcher.postgres_store import PostgresStore
from replication.session import Session, Target
from tests.integration.test_store_together import another_store, held, until_somebody_waits
from tests.message_scenes import SHORT_CODE, Stage, result
from tests.message_store import TERM, as_role

DEADLINE_S = 10
TOPIC = "outage-17"


@pytest.fixture
async def stage(store_database: Target) -> AsyncIterator[Stage]:
    session = await Session.connect(as_role(store_database, "hotsite_migrate"), timeout=5)
    await add_account(session, name="utility", program="outages", source=SHORT_CODE)
    await session.aclose()
    store = await another_store(store_database)
    [program] = await store.programs(TERM)

    async def pass_time(duration: timedelta) -> None:
        raise NotImplementedError(duration)

    yield Stage(store, TERM, program, program, pass_time, lambda: datetime.now(UTC))
    await store.aclose()


async def test_a_text_that_is_being_claimed_meanwhile_may_go_on(stage: Stage, store_database: Target) -> None:
    older = stage.message(topic=TOPIC)
    await stage.accept(older)
    async with held(store_database) as other:
        await other.fetch("claim", TERM, "denver-1", 1, 5.0, 2)
        accepting = asyncio.create_task(stage.accept(stage.message(topic=TOPIC)))
        await until_somebody_waits(store_database)
    await accepting
    assert await stage.state(older.id) is State.SUBMITTING


async def test_a_claim_passes_over_what_is_being_superseded_and_does_not_wait(
    stage: Stage, store_database: Target
) -> None:
    older, another = stage.message(topic=TOPIC), stage.message()
    await stage.accept(older, another)
    async with held(store_database) as other:
        await other.accept(stage.message(topic=TOPIC))
        async with asyncio.timeout(DEADLINE_S):
            assert [claim.message_id for claim in await stage.claim()] == [another.id]
    assert await stage.state(older.id) is State.CANCELED


async def test_what_was_to_be_superseded_is_claimed_when_the_newer_one_was_not_stored(
    stage: Stage, store_database: Target
) -> None:
    older = stage.message(topic=TOPIC)
    await stage.accept(older)
    async with held(store_database, commit=False) as other:
        await other.accept(stage.message(topic=TOPIC))
    assert [claim.message_id for claim in await stage.claim()] == [older.id]


async def test_a_text_that_comes_back_unsent_at_that_very_moment_does_not_slip_through(
    stage: Stage, store_database: Target
) -> None:
    claim = await stage.sent(topic=TOPIC)
    newer = stage.message(topic=TOPIC)
    async with held(store_database) as other:
        await other.settle(result(claim, SubmitOutcome.QUEUED))
        accepting = asyncio.create_task(stage.accept(newer))
        await until_somebody_waits(store_database)
    await accepting
    assert await stage.state(claim.message_id) is State.CANCELED
    assert [one.message_id for one in await stage.claim()] == [newer.id]


async def test_a_text_that_comes_back_unsent_after_that_does_not_either(
    stage: Stage, store_database: Target
) -> None:
    claim = await stage.sent(topic=TOPIC)
    newer = stage.message(topic=TOPIC)
    async with held(store_database) as other:
        await other.accept(newer)
        settling = asyncio.create_task(stage.store.settle([result(claim, SubmitOutcome.QUEUED)]))
        await until_somebody_waits(store_database)
    await settling
    assert [one.message_id for one in await stage.claim()] == [newer.id]
    await stage.store.release_due(TERM, 10)
    assert await stage.state(claim.message_id) is State.CANCELED


async def test_of_two_that_are_accepted_at_the_same_time_one_stays(
    stage: Stage, store_database: Target
) -> None:
    first, second = stage.message(topic=TOPIC), stage.message(topic=TOPIC)
    async with held(store_database) as other:
        await other.accept(first)
        accepting = asyncio.create_task(stage.accept(second))
        await until_somebody_waits(store_database)
    await accepting
    assert [claim.message_id for claim in await stage.claim()] == [second.id]
    assert await stage.state(first.id) is State.CANCELED


async def test_a_group_that_is_stored_twice_at_the_same_time_moves_nothing_the_second_time(
    stage: Stage, store_database: Target
) -> None:
    older = stage.message(topic=TOPIC)
    async with held(store_database) as other:
        await other.accept(older)
        again = asyncio.create_task(stage.accept(older))
        await until_somebody_waits(store_database)
    await again
    assert [claim.message_id for claim in await stage.claim()] == [older.id]


async def test_whatever_comes_together_one_text_of_each_topic_is_sent_and_nobody_locks_another_out(
    stage: Stage, store_database: Target
) -> None:
    """Accepting, claiming and giving back from several sessions; in the end one of each waits."""
    topics = [f"outage-{n}" for n in range(20)]
    stores = [await another_store(store_database) for _ in range(5)]
    randomly = random.Random(17)

    async def accept(store: PostgresStore) -> None:
        for _ in range(15):
            chosen = randomly.sample(topics, 8)
            await store.accept(TERM, [stage.message(topic=topic) for topic in chosen])

    async def send(store: PostgresStore, name: str) -> None:
        for _ in range(30):
            claims = await store.claim(TERM, name, 5, 5.0)
            if claims:
                await store.settle([result(claim, SubmitOutcome.QUEUED) for claim in claims])

    await asyncio.gather(
        *(accept(store) for store in stores[:3]), *(send(s, f"d{n}") for n, s in enumerate(stores[3:]))
    )
    for store in stores:
        await store.aclose()
    while await stage.store.release_due(TERM, 1_000):
        pass
    assert len(await stage.claim(1_000)) == len(topics)
