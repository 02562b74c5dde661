"""What every store promises to happen because time passes; the same tests on PostgreSQL and in memory."""

from datetime import timedelta

import pytest

from dispatcher.model import OnDoubt, State, SubmitOutcome
from tests.message_scenes import Stage, result, submitted
from tests.message_store import TERM

MINUTE = timedelta(minutes=1)


# -- time


async def test_a_scheduled_message_is_claimed_only_when_its_time_has_come(stage: Stage) -> None:
    message = stage.message(send_at=stage.now() + MINUTE)
    [row] = (await stage.store.accept(TERM, [message])).rows
    assert row.state is State.SCHEDULED
    assert await stage.store.release_due(TERM, 10) == 0
    assert await stage.claim() == []
    await stage.pass_time(2 * MINUTE)
    assert await stage.store.release_due(TERM, 10) == 1
    assert [c.message_id for c in await stage.claim()] == [message.id]


async def test_nothing_becomes_due_or_final_while_the_clock_is_not_believed(stage: Stage) -> None:
    message = stage.message(expires_at=stage.now() + MINUTE)
    await stage.accept(message)
    await stage.pass_time(2 * MINUTE)
    assert await stage.store.release_due(TERM, 10, clock_agrees=False) == 0
    assert await stage.state(message.id) is State.QUEUED
    assert await stage.store.release_due(TERM, 10) == 1


async def test_a_resending_that_never_left_and_ran_out_of_time_is_unknown_in_the_end(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND, expires_at=stage.now() + 5 * MINUTE)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(MINUTE)
    await stage.store.resend_doubtful(TERM, 30, 10)
    [again] = await stage.claim()
    await stage.store.settle([result(again, SubmitOutcome.QUEUED)])
    await stage.pass_time(5 * MINUTE)
    await stage.store.release_due(TERM, 10)
    assert await stage.state(claim.message_id) is State.IN_DOUBT
    await stage.pass_time(timedelta(hours=72))
    await stage.store.release_due(TERM, 10)
    assert await stage.state(claim.message_id) is State.UNKNOWN


async def test_a_queued_message_expires_and_is_never_claimed(stage: Stage) -> None:
    message = stage.message(expires_at=stage.now() + MINUTE)
    await stage.accept(message)
    await stage.pass_time(2 * MINUTE)
    assert await stage.store.release_due(TERM, 10) == 1
    assert await stage.state(message.id) is State.EXPIRED
    assert await stage.claim() == []


async def test_what_has_expired_is_not_claimed_though_nobody_looked_at_it_yet(stage: Stage) -> None:
    late, timely = stage.message(expires_at=stage.now() + MINUTE), stage.message()
    later = stage.message(expires_at=stage.now() + 5 * MINUTE)
    await stage.accept(late, timely, later)
    await stage.pass_time(2 * MINUTE)
    assert [c.message_id for c in await stage.claim()] == [timely.id, later.id]
    assert await stage.store.release_due(TERM, 10) == 1
    view = await stage.view(late.id)
    assert view.state is State.EXPIRED
    assert view.events[-1].detail == "Its time ran out."
    assert [part.attempts for part in view.segments] == [0]


async def test_a_text_behind_many_that_expired_is_claimed_at_once(stage: Stage) -> None:
    await stage.accept(*(stage.message(expires_at=stage.now() + MINUTE) for _ in range(12)), stage.message())
    await stage.pass_time(2 * MINUTE)
    assert len(await stage.claim(2)) == 1
    assert await stage.store.release_due(TERM, 100) == 12


async def test_of_what_expires_no_more_than_the_limit_is_looked_at_together(stage: Stage) -> None:
    await stage.accept(*(stage.message(expires_at=stage.now() + MINUTE) for _ in range(5)))
    await stage.pass_time(2 * MINUTE)
    assert [await stage.store.release_due(TERM, 2) for _ in range(4)] == [2, 2, 1, 0]


async def test_what_is_due_does_not_wait_behind_the_expiry_of_texts_long_delivered(stage: Stage) -> None:
    for number in range(4):
        claim = await stage.sent(expires_at=stage.now() + MINUTE)
        await stage.store.settle([submitted(claim, f"id{number}")])
    scheduled = stage.message(send_at=stage.now() + 2 * MINUTE)
    await stage.accept(scheduled)
    await stage.pass_time(3 * MINUTE)
    assert await stage.store.release_due(TERM, 2) == 1
    assert [c.message_id for c in await stage.claim()] == [scheduled.id]


async def test_a_claim_tells_how_long_its_text_may_still_be_sent(stage: Stage) -> None:
    claim = await stage.sent(expires_at=stage.now() + MINUTE)
    assert claim.expires_in_s == pytest.approx(60, abs=10)
    assert (await stage.sent()).expires_in_s is None


async def test_a_text_that_may_have_left_before_does_not_expire_but_is_in_doubt(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND, expires_at=stage.now() + 5 * MINUTE)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(MINUTE)
    assert await stage.store.resend_doubtful(TERM, 30, 10) == 1
    await stage.pass_time(5 * MINUTE)
    assert await stage.claim() == []
    assert await stage.store.release_due(TERM, 10) == 1
    assert await stage.state(claim.message_id) is State.IN_DOUBT


async def test_a_scheduled_message_expires_without_having_been_queued(stage: Stage) -> None:
    message = stage.message(send_at=stage.now() + MINUTE, expires_at=stage.now() + 2 * MINUTE)
    await stage.accept(message)
    await stage.pass_time(3 * MINUTE)
    assert await stage.store.release_due(TERM, 10) == 1
    assert await stage.state(message.id) is State.EXPIRED


async def test_a_text_that_returns_to_the_queue_still_expires(stage: Stage) -> None:
    claim = await stage.sent(expires_at=stage.now() + MINUTE)
    await stage.pass_time(2 * MINUTE)
    assert await stage.store.release_due(TERM, 10) == 0
    await stage.store.settle([result(claim, SubmitOutcome.QUEUED)])
    assert await stage.store.release_due(TERM, 10) == 1
    assert await stage.state(claim.message_id) is State.EXPIRED


async def test_an_expired_text_is_not_resent(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND, expires_at=stage.now() + MINUTE)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(2 * MINUTE)
    assert await stage.store.resend_doubtful(TERM, 30, 10) == 0
    assert await stage.state(claim.message_id) is State.IN_DOUBT
