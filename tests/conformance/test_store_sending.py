"""What every store promises of claims and answers; the same tests on PostgreSQL and in memory."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from dispatcher.model import MOST_ATTEMPTS, Claim, MessageClass, OnDoubt, State, SubmitOutcome
from dispatcher.store import NotLeader
from tests.message_scenes import BODY, CARRIER, CUSTOMER, SHORT_CODE, Stage, receipt, result, submitted
from tests.message_store import TERM

MINUTE = timedelta(minutes=1)


# -- claiming


async def test_a_claim_brings_all_that_sending_needs(stage: Stage) -> None:
    claim = await stage.sent(body=BODY, to=CUSTOMER)
    assert (claim.to, claim.body, claim.source) == (CUSTOMER, BODY, SHORT_CODE)
    assert (claim.segment, claim.segments, claim.attempt) == (1, 1, 1)


async def test_emergencies_go_first_then_the_oldest(stage: Stage) -> None:
    bill, notice, alarm = (
        stage.message(message_class=message_class)
        for message_class in (MessageClass.MARKETING, MessageClass.SERVICE, MessageClass.EMERGENCY)
    )
    later = stage.message(message_class=MessageClass.SERVICE)
    await stage.accept(bill, notice, alarm, later)
    assert [c.message_id for c in await stage.claim()] == [alarm.id, notice.id, later.id, bill.id]


async def queue(stage: Stage, mine: int, others: int) -> None:
    """So many texts of one account, and after them so many of another."""
    programs = [*[stage.program] * mine, *[stage.other] * others]
    await stage.accept(*(stage.message(program) for program in programs))


def by_account(stage: Stage, claims: list[Claim]) -> tuple[int, int]:
    accounts = [claim.account_id for claim in claims]
    return accounts.count(stage.program.account_id), accounts.count(stage.other.account_id)


async def test_accounts_take_turns_inside_a_class(stage: Stage) -> None:
    await queue(stage, 40, 40)
    assert by_account(stage, await stage.claim(20)) == (10, 10)


async def test_what_one_account_has_too_little_of_the_others_get(stage: Stage) -> None:
    await queue(stage, 40, 3)
    assert by_account(stage, await stage.claim(20)) == (17, 3)


async def test_an_account_alone_gets_all(stage: Stage) -> None:
    await queue(stage, 40, 0)
    assert by_account(stage, await stage.claim(20)) == (20, 0)


async def test_claims_of_odd_numbers_are_even_in_the_long_run(stage: Stage) -> None:
    await queue(stage, 40, 40)
    claimed = [claim for _ in range(6) for claim in await stage.claim(7)]
    assert by_account(stage, claimed) == (21, 21)


async def test_claims_of_one_segment_serve_one_account_after_the_other(stage: Stage) -> None:
    await queue(stage, 3, 3)
    accounts = [claim.account_id for _ in range(6) for claim in await stage.claim(1)]
    assert all(one != next_ for one, next_ in pairwise(accounts))


async def test_however_odd_the_claims_nobody_is_served_more_in_the_long_run(stage: Stage) -> None:
    await queue(stage, 60, 60)
    claimed = [claim for _ in range(6) for limit in (9, 2, 5) for claim in await stage.claim(limit)]
    mine, others = by_account(stage, claimed)
    assert abs(mine - others) <= 5


async def test_turns_do_not_mix_classes(stage: Stage) -> None:
    await stage.accept(*(stage.message(message_class=MessageClass.EMERGENCY) for _ in range(5)))
    await queue(stage, 0, 5)
    assert by_account(stage, await stage.claim(5)) == (5, 0)


async def test_each_account_is_served_oldest_first(stage: Stage) -> None:
    rows = [stage.message(stage.other if n % 3 else None) for n in range(12)]
    await stage.accept(*rows)
    claimed = [claim for _ in range(4) for claim in await stage.claim(3)]
    for program in (stage.program, stage.other):
        mine = [claim.message_id for claim in claimed if claim.account_id == program.account_id]
        assert mine == sorted(mine)


async def test_a_claim_of_emergencies_leaves_the_rest(stage: Stage) -> None:
    alarm = stage.message(message_class=MessageClass.EMERGENCY)
    await stage.accept(stage.message(), stage.message(message_class=MessageClass.MARKETING), alarm)
    urgent = await stage.store.claim(TERM, "columbus-1", 10, 5.0, down_to=MessageClass.EMERGENCY)
    assert [claim.message_id for claim in urgent] == [alarm.id]
    assert len(await stage.claim()) == 2


async def test_what_is_claimed_is_not_claimed_again(stage: Stage) -> None:
    await stage.accept(*(stage.message() for _ in range(5)))
    first, second = await stage.claim(3), await stage.claim(3)
    assert len(first) == 3
    assert len(second) == 2
    assert {c.message_id for c in first}.isdisjoint(c.message_id for c in second)
    assert first[0].claim_id != second[0].claim_id


async def test_each_segment_is_claimed_by_itself(stage: Stage) -> None:
    await stage.accept(stage.message(body="x" * 300, segments=2))
    assert [(c.segment, c.segments) for c in await stage.claim()] == [(1, 2), (2, 2)]


async def test_open_claims_tell_whose_and_how_many(stage: Stage) -> None:
    await stage.accept(stage.message(), stage.message())
    first, second = await stage.claim()
    [opened] = await stage.store.open_claims(TERM)
    assert (opened.dispatcher, opened.term, opened.segments) == ("columbus-1", TERM, 2)
    assert (opened.claim_id, opened.claim_for_s) == (first.claim_id, 5.0)
    await stage.store.settle([submitted(first), submitted(second, "0af4")])
    assert list(await stage.store.open_claims(TERM)) == []


async def test_what_a_dispatcher_still_holds_is_told_and_nothing_else(stage: Stage) -> None:
    await stage.accept(*(stage.message() for _ in range(3)))
    settled, held, _another = *(await stage.claim(2, "columbus-1.a")), *(await stage.claim(1, "columbus-1.b"))
    await stage.store.settle([submitted(settled)])
    [told] = await stage.store.claimed_by(TERM, "columbus-1.a")
    assert (told.claim_id, told.message_id, told.segment, told.attempt) == (
        held.claim_id,
        held.message_id,
        1,
        1,
    )
    assert list(await stage.store.claimed_by(TERM, "columbus-1")) == []


# -- settling


async def test_an_answer_makes_it_submitted_and_a_repeat_changes_nothing(stage: Stage) -> None:
    claim = await stage.sent()
    for _ in range(2):
        await stage.store.settle([submitted(claim)])
    view = await stage.view(claim.message_id)
    assert view.state is State.SUBMITTED
    assert (view.segments[0].carrier, view.segments[0].carrier_message_id) == (CARRIER, "0af3")
    assert [event.state for event in view.events] == [State.ACCEPTED, State.SUBMITTED]


async def test_refused_for_good_is_failed_with_the_carriers_code(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([result(claim, SubmitOutcome.FAILED, command_status=0x0B)])
    [segment] = (await stage.view(claim.message_id)).segments
    assert (segment.state, segment.command_status) == (State.FAILED, 0x0B)


async def test_refused_for_now_is_claimed_again_as_a_new_attempt(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([result(claim, SubmitOutcome.QUEUED)])
    [again] = await stage.claim()
    assert (again.message_id, again.attempt) == (claim.message_id, 2)


async def test_a_retry_waits_for_its_time(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([result(claim, SubmitOutcome.QUEUED, retry_after_s=30)])
    assert await stage.store.release_due(TERM, 10) == 0
    assert await stage.claim() == []
    await stage.pass_time(MINUTE)
    assert await stage.store.release_due(TERM, 10) == 1
    assert [c.attempt for c in await stage.claim()] == [2]


async def test_an_answer_for_an_older_attempt_does_not_touch_the_new_one(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([result(claim, SubmitOutcome.QUEUED)])
    await stage.claim()
    await stage.store.settle([result(claim, SubmitOutcome.FAILED)])
    assert await stage.state(claim.message_id) is State.SUBMITTING


async def waiting(stage: Stage, attempts: int, **changes: Any) -> None:
    """A text that was claimed so often already, and waits."""
    assert stage.tried is not None
    row = stage.message(**changes)
    await stage.accept(row)
    await stage.tried(row.id, attempts)


async def test_a_text_may_be_tried_more_often_than_attempts_are_counted(stage: Stage) -> None:
    await waiting(stage, MOST_ATTEMPTS - 3)
    attempts = []
    for _ in range(4):
        [claim] = await stage.claim()
        attempts.append(claim.attempt)
        await stage.store.settle([result(claim, SubmitOutcome.QUEUED, command_status=0x58)])
    assert attempts == [MOST_ATTEMPTS - 2, *[MOST_ATTEMPTS - 1] * 3]
    [claim] = await stage.claim()
    await stage.store.settle([submitted(claim)])
    await stage.store.receipts([receipt()])
    assert await stage.state(claim.message_id) is State.DELIVERED


async def test_that_an_attempt_was_never_written_frees_no_other_of_its_number(stage: Stage) -> None:
    await waiting(stage, MOST_ATTEMPTS)
    [first] = await stage.claim()
    await stage.store.settle([result(first, SubmitOutcome.QUEUED)])
    [second] = await stage.claim()
    assert second.attempt == first.attempt
    await stage.store.settle([result(second, SubmitOutcome.IN_DOUBT)])
    for outcome in (SubmitOutcome.QUEUED, SubmitOutcome.FAILED):
        await stage.store.settle([result(first, outcome)])
        assert await stage.state(second.message_id) is State.IN_DOUBT
    await stage.store.settle([result(second, SubmitOutcome.QUEUED)])
    assert await stage.state(second.message_id) is State.QUEUED


async def test_what_is_sent_again_never_has_the_number_of_what_may_have_left(stage: Stage) -> None:
    await waiting(stage, MOST_ATTEMPTS - 1, on_doubt=OnDoubt.RESEND)
    [first] = await stage.claim()
    await stage.store.settle([result(first, SubmitOutcome.IN_DOUBT)])
    assert await stage.store.resend_doubtful(TERM, 0.0, 10) == 1
    [again] = await stage.claim()
    assert (first.attempt, again.attempt) == (MOST_ATTEMPTS - 1, MOST_ATTEMPTS)
    await stage.store.settle([submitted(again, "77"), submitted(first, "78")])
    await stage.store.receipts([receipt("78", State.UNDELIVERED)])
    assert await stage.state(first.message_id) is State.SUBMITTED
    await stage.store.receipts([receipt("77")])
    assert await stage.state(first.message_id) is State.DELIVERED


async def test_a_message_is_delivered_when_all_its_segments_are(stage: Stage) -> None:
    await stage.accept(stage.message(body="x" * 300, segments=2))
    first, second = await stage.claim()
    await stage.store.settle([submitted(second, "0af4"), submitted(first, "0af3")])
    await stage.store.receipts([receipt("0af3")])
    assert await stage.state(first.message_id) is State.SUBMITTED
    await stage.store.receipts([receipt("0af4")])
    assert await stage.state(first.message_id) is State.DELIVERED


async def test_answers_and_receipts_of_an_older_terms_claims_pass_and_nothing_else_of_it_does(
    stage: Stage,
) -> None:
    """They are true whoever leads: what was sent was sent (failover rule 8)."""
    assert stage.lead is not None
    answered, receipted = await stage.sent(), await stage.sent()
    await stage.store.settle([submitted(receipted, "77")])
    queued = stage.message()
    await stage.accept(queued)
    await stage.lead(TERM + 1)
    await stage.store.settle([submitted(answered, "78")])
    await stage.store.receipts([receipt("77")])
    for refused in (
        stage.claim(),
        stage.accept(stage.message()),
        stage.store.give_up_claims(TERM, [answered.claim_id]),
        stage.store.return_claims(TERM, "columbus-1", [answered.claim_id]),
    ):
        with pytest.raises(NotLeader):
            await refused
    stage.term = TERM + 1
    assert await stage.state(answered.message_id) is State.SUBMITTED
    assert await stage.state(receipted.message_id) is State.DELIVERED
    assert [claim.message_id for claim in await stage.claim()] == [queued.id]
