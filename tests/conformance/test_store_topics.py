"""What every store promises of topics: a newer text takes the place of an older one that has not left."""

from datetime import timedelta
from typing import Any

import pytest

from dispatcher.model import MessageClass, NewMessage, OnDoubt, State, SubmitOutcome, Verdict
from tests.campaign_scenes import feed, started
from tests.message_scenes import Stage, receipt, result, submitted
from tests.message_store import TERM

MINUTE = timedelta(minutes=1)


def estimate(stage: Stage, **changes: Any) -> NewMessage:
    return stage.message(**{"topic": "outage-17", **changes})


async def test_a_newer_text_takes_the_place_of_an_older_one_that_waits(stage: Stage) -> None:
    older, newer = estimate(stage), estimate(stage)
    await stage.accept(older)
    await stage.accept(newer)
    assert [claim.message_id for claim in await stage.claim()] == [newer.id]
    assert await stage.state(older.id) is State.CANCELED


async def test_the_older_ones_story_names_the_newer(stage: Stage) -> None:
    older, newer = estimate(stage), estimate(stage)
    await stage.accept(older)
    await stage.accept(newer)
    assert (await stage.view(older.id)).events[-1].detail == (
        f"Superseded by {newer.id}, a newer text of its topic."
    )


async def test_a_text_tells_its_topic_and_what_superseded_it(stage: Stage) -> None:
    at = stage.now() - MINUTE
    older, newer, other = estimate(stage, topic_at=at), estimate(stage), stage.message()
    await stage.accept(older, other)
    await stage.accept(newer)
    page = (await stage.store.find(TERM, stage.program.account_id)).messages
    for views in (page, [await stage.view(row.id) for row in (newer, other, older)]):
        told = {view.id: (view.topic, view.topic_at, view.superseded_by) for view in views}
        assert told == {
            older.id: ("outage-17", at, newer.id),
            newer.id: ("outage-17", None, None),
            other.id: (None, None, None),
        }
    canceled = await stage.store.cancel(TERM, stage.program.account_id, newer.id)
    assert canceled is not None
    assert (canceled.topic, canceled.superseded_by) == ("outage-17", None)


async def test_in_one_group_the_last_one_stays_and_the_answer_says_so(stage: Stage) -> None:
    rows = [estimate(stage) for _ in range(3)]
    group = await stage.store.accept(TERM, rows)
    assert [fate.state for fate in group.rows] == [State.CANCELED, State.CANCELED, State.QUEUED]
    assert [claim.message_id for claim in await stage.claim()] == [rows[-1].id]


@pytest.mark.parametrize(
    "changes",
    [{"topic": "outage-18"}, {"topic": None}, {"to": "+12025550199"}],
    ids=["topic", "none", "number"],
)
async def test_texts_of_other_topics_and_numbers_stay(stage: Stage, changes: dict[str, Any]) -> None:
    await stage.accept(estimate(stage), estimate(stage, **changes))
    await stage.accept(estimate(stage, to="+12025550111"))
    assert len(await stage.claim()) == 3


async def test_texts_of_other_accounts_stay(stage: Stage) -> None:
    ours = estimate(stage)
    await stage.accept(ours)
    await stage.accept(stage.message(stage.other, topic="outage-17"))
    assert await stage.state(ours.id) is State.QUEUED


async def test_a_text_for_later_is_superseded_too(stage: Stage) -> None:
    older = estimate(stage, send_at=stage.now() + MINUTE)
    await stage.accept(older)
    await stage.accept(estimate(stage))
    await stage.pass_time(2 * MINUTE)
    await stage.store.release_due(TERM, 10)
    assert await stage.state(older.id) is State.CANCELED


async def test_a_text_that_the_carrier_has_stays_as_it_is(stage: Stage) -> None:
    claim = await stage.sent(topic="outage-17")
    await stage.store.settle([submitted(claim)])
    await stage.accept(estimate(stage))
    assert await stage.state(claim.message_id) is State.SUBMITTED
    await stage.store.receipts([receipt()])
    assert await stage.state(claim.message_id) is State.DELIVERED


async def test_a_text_that_is_claimed_may_go_on(stage: Stage) -> None:
    claim = await stage.sent(topic="outage-17")
    await stage.accept(estimate(stage))
    assert await stage.state(claim.message_id) is State.SUBMITTING
    await stage.store.settle([submitted(claim)])
    assert await stage.state(claim.message_id) is State.SUBMITTED


@pytest.mark.parametrize("retry_after_s", [0.0, 5.0])
async def test_a_claimed_text_that_comes_back_unsent_is_let_go(stage: Stage, retry_after_s: float) -> None:
    claim = await stage.sent(topic="outage-17")
    newer = estimate(stage)
    await stage.accept(newer)
    await stage.store.settle([result(claim, SubmitOutcome.QUEUED, retry_after_s=retry_after_s)])
    assert [one.message_id for one in await stage.claim()] == [newer.id]
    await stage.pass_time(MINUTE)
    await stage.store.release_due(TERM, 10)
    view = await stage.view(claim.message_id)
    assert view.state is State.CANCELED
    assert str(newer.id) in view.events[-1].detail


async def test_a_text_in_doubt_is_not_sent_again_once_it_is_superseded(stage: Stage) -> None:
    claim = await stage.sent(topic="outage-17", on_doubt=OnDoubt.RESEND)
    await stage.store.settle([result(claim, SubmitOutcome.IN_DOUBT)])
    await stage.accept(estimate(stage))
    await stage.pass_time(MINUTE)
    assert await stage.store.resend_doubtful(TERM, 1.0, 10) == 0
    assert await stage.state(claim.message_id) is State.IN_DOUBT


async def test_a_text_that_waits_to_be_sent_again_is_in_doubt_again(stage: Stage) -> None:
    claim = await stage.sent(topic="outage-17", on_doubt=OnDoubt.RESEND)
    await stage.store.settle([result(claim, SubmitOutcome.IN_DOUBT)])
    await stage.pass_time(MINUTE)
    assert await stage.store.resend_doubtful(TERM, 1.0, 10) == 1
    newer = estimate(stage)
    await stage.accept(newer)
    assert await stage.state(claim.message_id) is State.IN_DOUBT
    assert [one.message_id for one in await stage.claim()] == [newer.id]


async def test_all_segments_of_a_longer_text_are_let_go(stage: Stage) -> None:
    older = estimate(stage, body="x" * 300, segments=2)
    await stage.accept(older)
    await stage.accept(estimate(stage))
    states = [segment.state for segment in (await stage.view(older.id)).segments]
    assert states == [State.CANCELED, State.CANCELED]


async def test_an_emergency_takes_the_place_of_a_text_of_another_class(stage: Stage) -> None:
    older = estimate(stage, message_class=MessageClass.MARKETING)
    await stage.accept(older)
    await stage.accept(estimate(stage, message_class=MessageClass.EMERGENCY))
    assert len(await stage.claim()) == 1
    assert await stage.state(older.id) is State.CANCELED


# -- what is newer


async def test_an_older_text_that_comes_late_is_superseded_at_once(stage: Stage) -> None:
    now = stage.now()
    newer, older = estimate(stage, topic_at=now), estimate(stage, topic_at=now - MINUTE)
    await stage.accept(newer)
    group = await stage.store.accept(TERM, [older])
    assert [(fate.verdict, fate.state) for fate in group.rows] == [(Verdict.NEW, State.CANCELED)]
    assert [claim.message_id for claim in await stage.claim()] == [newer.id]


async def test_it_is_so_when_the_newer_one_has_been_sent_already(stage: Stage) -> None:
    now = stage.now()
    claim = await stage.sent(topic="outage-17", topic_at=now)
    await stage.store.settle([submitted(claim)])
    await stage.accept(estimate(stage, topic_at=now - MINUTE))
    assert await stage.claim() == []


async def test_in_one_group_what_holds_as_of_later_is_newer(stage: Stage) -> None:
    now = stage.now()
    newer, older = estimate(stage, topic_at=now), estimate(stage, topic_at=now - MINUTE)
    await stage.accept(newer, older)
    assert [claim.message_id for claim in await stage.claim()] == [newer.id]


async def test_of_two_as_of_the_same_time_the_one_accepted_last_is_newer(stage: Stage) -> None:
    now = stage.now()
    first, second = estimate(stage, topic_at=now), estimate(stage, topic_at=now)
    await stage.accept(first)
    await stage.accept(second)
    assert [claim.message_id for claim in await stage.claim()] == [second.id]


async def test_a_text_that_does_not_say_as_of_when_is_newer_than_all_before_it(stage: Stage) -> None:
    newer = estimate(stage)
    await stage.accept(estimate(stage, topic_at=stage.now() + MINUTE))
    await stage.accept(newer)
    assert [claim.message_id for claim in await stage.claim()] == [newer.id]


async def test_a_repeat_of_an_older_reference_moves_nothing(stage: Stage) -> None:
    older, newer = estimate(stage, reference="e-1"), estimate(stage, reference="e-2")
    await stage.accept(older)
    await stage.accept(newer)
    group = await stage.store.accept(TERM, [estimate(stage, reference="e-1")])
    assert [(fate.id, fate.verdict) for fate in group.rows] == [(older.id, Verdict.DUPLICATE)]
    assert [claim.message_id for claim in await stage.claim()] == [newer.id]


async def test_a_group_that_is_stored_a_second_time_moves_nothing(stage: Stage) -> None:
    older, newer = estimate(stage), estimate(stage)
    await stage.accept(older)
    await stage.accept(newer)
    group = await stage.store.accept(TERM, [older])
    assert group.rows[0].state is State.CANCELED
    assert [claim.message_id for claim in await stage.claim()] == [newer.id]


# -- lists


async def test_rows_of_a_campaign_take_the_place_of_those_of_an_earlier_one(stage: Stage) -> None:
    await started(stage, 1, topic="outage-17")
    await stage.pass_time(MINUTE)
    second = await started(stage, 1, topic="outage-17")
    await feed(stage)
    await feed(stage)
    references = [(await stage.view(claim.message_id)).reference or "" for claim in await stage.claim()]
    assert [reference.split("/")[1] for reference in references] == [str(second.id)] * 2


async def test_a_campaign_holds_as_of_its_start_however_late_its_rows_come(stage: Stage) -> None:
    await started(stage, 1, topic="outage-17")
    await stage.pass_time(MINUTE)
    newer = estimate(stage, to="+16145550002")
    await stage.accept(newer)
    await feed(stage)
    numbers = sorted((claim.to, claim.message_id == newer.id) for claim in await stage.claim())
    assert numbers == [("+16145550002", True), ("+16145550003", False)]
