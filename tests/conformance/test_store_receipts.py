"""What every store promises of receipts and of doubt; the same tests on PostgreSQL and in memory."""

from datetime import timedelta
from typing import Any

import pytest

from dispatcher.model import OnDoubt, State, SubmitOutcome
from tests.message_scenes import BODY, Stage, receipt, result, submitted
from tests.message_store import TERM

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


# -- receipts


@pytest.mark.parametrize(
    "written",
    ["0af3", "0AF3", "AF3", "00000af3", "2803"],
    ids=["as answered", "other case", "no leading zero", "more zeros", "in decimal"],
)
async def test_a_receipt_finds_its_text_however_the_id_is_written(stage: Stage, written: str) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim, "0af3")])
    await stage.store.receipts([receipt(written)])
    assert await stage.state(claim.message_id) is State.DELIVERED


async def test_a_receipt_in_hexadecimal_finds_an_answer_in_decimal(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim, "2803")])
    await stage.store.receipts([receipt("AF3")])
    assert await stage.state(claim.message_id) is State.DELIVERED


@pytest.mark.parametrize("longest", ["f" * 65, "9" * 65, "Z" * 65], ids=["hexadecimal", "decimal", "text"])
async def test_a_receipt_finds_its_text_by_the_longest_id_there_is(stage: Stage, longest: str) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim, longest)])
    await stage.store.receipts([receipt(longest[:64]), receipt(longest.lower())])
    assert await stage.state(claim.message_id) is State.DELIVERED


async def test_ten_thousand_receipts_of_unknown_ids_hide_none_that_is_known_or_will_be(stage: Stage) -> None:
    await stage.accept(stage.message(), stage.message())
    answered, unanswered = await stage.claim()
    await stage.store.settle([submitted(answered, "0af3")])
    unknown = [receipt(f"unknown-{n}") for n in range(10_000)]
    await stage.store.receipts([*unknown[:5_000], receipt("0af3"), receipt("77aa"), *unknown[5_000:]])
    assert await stage.state(answered.message_id) is State.DELIVERED
    assert await stage.state(unanswered.message_id) is State.SUBMITTING
    await stage.store.settle([submitted(unanswered, "77aa")])
    assert await stage.state(unanswered.message_id) is State.DELIVERED


async def test_an_id_as_written_wins_over_other_readings(stage: Stage) -> None:
    await stage.accept(stage.message(), stage.message())
    decimal, hexadecimal = await stage.claim()
    await stage.store.settle([submitted(decimal, "16"), submitted(hexadecimal, "10")])
    await stage.store.receipts([receipt("10")])
    assert await stage.state(decimal.message_id) is State.SUBMITTED
    assert await stage.state(hexadecimal.message_id) is State.DELIVERED


async def test_a_receipt_for_another_number_is_not_believed(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim)])
    await stage.store.receipts([receipt(source="+12025559999")])
    assert await stage.state(claim.message_id) is State.SUBMITTED


async def test_a_receipt_of_another_carrier_is_not_believed(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim)])
    await stage.store.receipts([receipt(carrier="carrier-b")])
    assert await stage.state(claim.message_id) is State.SUBMITTED


async def test_the_first_final_receipt_stands(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim)])
    await stage.store.receipts([receipt(state=State.SUBMITTED)])
    await stage.store.receipts([receipt(state=State.UNDELIVERED, error="042")])
    await stage.store.receipts([receipt(state=State.DELIVERED)])
    [segment] = (await stage.view(claim.message_id)).segments
    assert (segment.state, segment.error) == (State.UNDELIVERED, "042")


async def test_a_receipt_that_overtakes_its_answer_is_kept_for_it(stage: Stage) -> None:
    claim = await stage.sent()
    for _ in range(2):
        await stage.store.receipts([receipt("2803")])
    assert await stage.state(claim.message_id) is State.SUBMITTING
    await stage.store.settle([submitted(claim, "0AF3")])
    assert await stage.state(claim.message_id) is State.DELIVERED


# -- texts that a carrier took without telling an id


@pytest.mark.parametrize("written", ["", None], ids=["empty", "none"])
async def test_a_text_without_an_id_is_submitted_and_settled_by_the_receipt_that_fits(
    stage: Stage, written: str | None
) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim, written)])  # type: ignore[arg-type] # as `outcome` has it
    assert await stage.state(claim.message_id) is State.SUBMITTED
    for _ in range(2):
        await stage.store.receipts([receipt("c-1", text=BODY[:20])])
    view = await stage.view(claim.message_id)
    assert (view.state, view.segments[0].carrier_message_id) == (State.DELIVERED, "c-1")
    assert any("told no id" in event.detail for event in view.events)


async def test_a_receipt_that_overtakes_an_answer_without_an_id_is_kept_for_it(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.receipts([receipt("c-1", State.UNDELIVERED, error="042")])
    assert await stage.state(claim.message_id) is State.SUBMITTING
    await stage.store.settle([submitted(claim, "")])
    [segment] = (await stage.view(claim.message_id)).segments
    assert (segment.state, segment.error) == (State.UNDELIVERED, "042")


async def test_of_two_texts_without_an_id_a_receipt_settles_only_the_one_that_it_fits(stage: Stage) -> None:
    await stage.accept(stage.message(body="Power is back."), stage.message(body="Power is out."))
    claims = await stage.claim()
    await stage.store.settle([submitted(claim, "") for claim in claims])
    await stage.store.receipts([receipt("c-1", text="Power is")])
    assert {await stage.state(claim.message_id) for claim in claims} == {State.SUBMITTED}
    await stage.store.receipts([receipt("c-2", text="Power is out")])
    assert {claim.body: await stage.state(claim.message_id) for claim in claims} == {
        "Power is back.": State.SUBMITTED,
        "Power is out.": State.DELIVERED,
    }


@pytest.mark.parametrize(
    "changed",
    [{"carrier": "carrier-b"}, {"source": "+12025559999"}, {"destination": "99999"}, {"text": "other"}],
    ids=["carrier", "number", "short code", "text"],
)
async def test_a_receipt_that_does_not_fit_a_text_without_an_id_is_not_believed(
    stage: Stage, changed: dict[str, str]
) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim, "")])
    await stage.store.receipts([receipt("c-1", **changed)])
    assert await stage.state(claim.message_id) is State.SUBMITTED


async def test_a_text_without_an_id_is_unknown_when_no_receipt_came_in_72_hours(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim, "")])
    await stage.pass_time(3 * DAY + MINUTE)
    await stage.store.release_due(TERM, 10)
    await stage.store.finish_received(120.0, 10)
    assert await stage.state(claim.message_id) is State.UNKNOWN


# -- doubt


async def test_claims_given_up_are_in_doubt_and_not_queued(stage: Stage) -> None:
    claim = await stage.sent()
    assert await stage.store.give_up_claims(TERM, [claim.claim_id]) == 1
    assert await stage.store.give_up_claims(TERM, [claim.claim_id]) == 0
    view = await stage.view(claim.message_id)
    assert view.state is State.IN_DOUBT
    assert [event.state for event in view.events] == [State.ACCEPTED, State.IN_DOUBT]
    assert await stage.claim() == []


async def test_a_claim_whose_commit_was_unknown_is_returned_to_the_queue(stage: Stage) -> None:
    claim = await stage.sent()
    assert await stage.store.return_claims(TERM, "denver-1", [claim.claim_id]) == 0
    assert await stage.store.return_claims(TERM, "columbus-1", [claim.claim_id]) == 1
    assert [c.attempt for c in await stage.claim()] == [2]


async def test_a_late_answer_settles_the_doubt(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.store.settle([submitted(claim)])
    assert await stage.state(claim.message_id) is State.SUBMITTED
    await stage.store.receipts([receipt()])
    assert await stage.state(claim.message_id) is State.DELIVERED


async def test_a_late_refusal_settles_the_doubt(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([result(claim, SubmitOutcome.IN_DOUBT)])
    await stage.store.settle([result(claim, SubmitOutcome.FAILED)])
    assert await stage.state(claim.message_id) is State.FAILED


async def test_what_proves_to_be_never_sent_is_queued_again(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.store.settle([result(claim, SubmitOutcome.QUEUED)])
    assert [c.attempt for c in await stage.claim()] == [2]


async def test_doubt_is_never_resent_by_a_program_that_holds(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.HOLD)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(MINUTE)
    assert await stage.store.resend_doubtful(TERM, 30, 10) == 0
    assert await stage.claim() == []


async def test_doubt_is_resent_once_after_the_grace(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    assert await stage.store.resend_doubtful(TERM, 30, 10) == 0
    await stage.pass_time(MINUTE)
    assert await stage.store.resend_doubtful(TERM, 30, 10) == 1
    [again] = await stage.claim()
    assert (again.message_id, again.attempt) == (claim.message_id, 2)
    await stage.store.give_up_claims(TERM, [again.claim_id])
    await stage.pass_time(MINUTE)
    assert await stage.store.resend_doubtful(TERM, 30, 10) == 0
    assert await stage.state(claim.message_id) is State.IN_DOUBT


async def test_a_late_answer_stops_a_resending_that_has_not_left(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(MINUTE)
    await stage.store.resend_doubtful(TERM, 30, 10)
    await stage.store.settle([submitted(claim)])
    assert await stage.claim() == []
    assert await stage.state(claim.message_id) is State.SUBMITTED


async def test_both_attempts_taken_is_told_and_either_receipt_counts(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(MINUTE)
    await stage.store.resend_doubtful(TERM, 30, 10)
    [again] = await stage.claim()
    await stage.store.settle([submitted(again, "0af4")])
    await stage.store.settle([submitted(claim, "0af3")])
    view = await stage.view(claim.message_id)
    assert "that attempt was taken, too" in view.events[-1].detail
    await stage.store.receipts([receipt("0af3")])
    assert await stage.state(claim.message_id) is State.DELIVERED


async def test_that_the_first_attempt_failed_says_nothing_about_the_second(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(MINUTE)
    await stage.store.resend_doubtful(TERM, 30, 10)
    [again] = await stage.claim()
    await stage.store.settle([submitted(again, "0af4"), submitted(claim, "0af3")])
    await stage.store.receipts([receipt("0af3", State.UNDELIVERED)])
    assert await stage.state(claim.message_id) is State.SUBMITTED


async def test_a_canceled_resending_is_in_doubt_again(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(MINUTE)
    await stage.store.resend_doubtful(TERM, 30, 10)
    view = await stage.store.cancel(TERM, stage.program.account_id, claim.message_id)
    assert view is not None
    assert view.state is State.IN_DOUBT
    assert await stage.claim() == []


async def test_a_receipt_without_a_known_id_settles_the_only_doubt_that_fits(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    for _ in range(2):
        await stage.store.receipts([receipt("77", text=BODY[:20])])
    view = await stage.view(claim.message_id)
    assert view.state is State.DELIVERED
    assert view.segments[0].carrier_message_id == "77"


async def test_a_receipt_that_came_before_the_doubt_settles_it(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.receipts([receipt("77", text=BODY[:20])])
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    assert await stage.state(claim.message_id) is State.DELIVERED


@pytest.mark.parametrize(
    "changes",
    [{"text": "Something else"}, {"source": "+12025559999"}, {"destination": "54321"}],
    ids=["text", "number", "short code"],
)
async def test_a_receipt_that_does_not_fit_settles_no_doubt(stage: Stage, changes: dict[str, Any]) -> None:
    claim = await stage.sent()
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.store.receipts([receipt("77", **changes)])
    assert await stage.state(claim.message_id) is State.IN_DOUBT


async def test_a_receipt_from_before_the_claim_settles_no_doubt(stage: Stage) -> None:
    await stage.store.receipts([receipt("77", text=BODY[:20])])
    await stage.pass_time(SECOND)
    claim = await stage.sent()
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    assert await stage.state(claim.message_id) is State.IN_DOUBT


async def test_a_receipt_that_fits_two_doubts_settles_neither(stage: Stage) -> None:
    await stage.accept(stage.message(), stage.message())
    claims = await stage.claim()
    await stage.store.give_up_claims(TERM, [claims[0].claim_id])
    await stage.store.receipts([receipt("77", text=BODY[:20])])
    assert {await stage.state(c.message_id) for c in claims} == {State.IN_DOUBT}


async def test_a_receipt_that_may_be_for_a_text_still_unanswered_settles_no_doubt(stage: Stage) -> None:
    doubtful = await stage.sent()
    await stage.store.give_up_claims(TERM, [doubtful.claim_id])
    unanswered = await stage.sent()
    await stage.store.receipts([receipt("77", text=BODY[:20])])
    assert await stage.state(doubtful.message_id) is State.IN_DOUBT
    await stage.store.settle([submitted(unanswered, "77")])
    assert await stage.state(unanswered.message_id) is State.DELIVERED


async def test_a_repeated_receipt_of_a_settled_text_settles_no_doubt(stage: Stage) -> None:
    settled = await stage.sent()
    await stage.store.settle([submitted(settled, "77")])
    doubtful = await stage.sent()
    await stage.store.give_up_claims(TERM, [doubtful.claim_id])
    for _ in range(2):
        await stage.store.receipts([receipt("77", text=BODY[:20])])
    assert await stage.state(doubtful.message_id) is State.IN_DOUBT


async def test_no_receipt_in_72_hours_is_unknown(stage: Stage) -> None:
    answered = await stage.sent()
    await stage.store.settle([submitted(answered)])
    doubtful = await stage.sent()
    await stage.store.give_up_claims(TERM, [doubtful.claim_id])
    await stage.pass_time(2 * DAY)
    assert await stage.store.release_due(TERM, 10) == 0
    await stage.pass_time(DAY + MINUTE)
    assert await stage.store.release_due(TERM, 10) == 2
    assert await stage.state(answered.message_id) is State.UNKNOWN
    assert await stage.state(doubtful.message_id) is State.UNKNOWN
