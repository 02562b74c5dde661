"""What every store says of a message's story, word for word; the same tests on PostgreSQL and in memory."""

from datetime import timedelta

from dispatcher.model import OnDoubt, State, SubmitOutcome
from dispatcher.states import BY_NAME, What
from tests.message_scenes import BODY, CARRIER, Stage, receipt, result, submitted
from tests.message_store import TERM

MINUTE = timedelta(minutes=1)
THROTTLED, NO_SUCH_NUMBER = 0x58, 0x0B


async def told(stage: Stage, message_id: object) -> list[str]:
    view = await stage.view(message_id)  # type: ignore[arg-type] # a claim's id
    return [line.detail for line in view.events]


def said(what: What) -> str:
    return BY_NAME[what].sentence


async def test_each_attempt_that_was_refused_is_told_with_the_carriers_answer(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([result(claim, SubmitOutcome.QUEUED, command_status=THROTTLED)])
    [again] = await stage.claim()
    await stage.store.settle([result(again, SubmitOutcome.FAILED, command_status=NO_SUCH_NUMBER)])
    assert await told(stage, claim.message_id) == [
        "Accepted.",
        f"{said(What.REFUSED_FOR_NOW)} Attempt 1 at {CARRIER}. We exceeded the carrier's rate. (ESME_RTHROTTLED)",
        f"{said(What.REFUSED)} Attempt 2 at {CARRIER}. The carrier refuses the recipient's number. (ESME_RINVDSTADR)",
    ]


async def test_an_attempt_that_was_never_written_is_told_without_a_carrier(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([result(claim, SubmitOutcome.QUEUED, carrier="")])
    [again] = await stage.claim()
    await stage.store.settle([result(again, SubmitOutcome.FAILED, carrier="")])
    assert await told(stage, claim.message_id) == [
        "Accepted.",
        f"{said(What.NOT_WRITTEN)} Attempt 1.",
        f"{said(What.CANNOT_BE_MADE)} Attempt 2.",
    ]


async def test_a_doubt_and_what_settled_it_are_told(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND)
    await stage.store.settle([result(claim, SubmitOutcome.IN_DOUBT)])
    await stage.pass_time(MINUTE)
    await stage.store.resend_doubtful(TERM, 30.0, 10)
    [again] = await stage.claim()
    await stage.store.give_up_claims(TERM, [again.claim_id])
    await stage.store.settle([submitted(claim, "0af3")])
    await stage.store.settle([submitted(again, "0af4")])
    assert await told(stage, claim.message_id) == [
        "Accepted.",
        f"{said(What.NOT_ANSWERED)} Attempt 1 at {CARRIER}.",
        f"{said(What.RESENT)} Attempt 1.",
        f"{said(What.GIVEN_UP)} Attempt 2.",
        f"{said(What.TAKEN_LATE)} Attempt 1 at {CARRIER}.",
        f"{said(What.TAKEN_TOO)} Attempt 2.",
    ]


async def test_a_receipt_that_settles_a_doubt_is_told(stage: Stage) -> None:
    named, fitting = await stage.sent(), await stage.sent(to="+12025550155")
    await stage.store.give_up_claims(TERM, [named.claim_id, fitting.claim_id])
    await stage.store.receipts([receipt("77", source="+12025550155", text=BODY[:20])])
    await stage.store.settle([submitted(named, "0af3")])
    assert (await told(stage, fitting.message_id))[-1] == f"{said(What.RECEIPT_FITS)} Attempt 1."
    assert (await told(stage, named.message_id))[-1] == f"{said(What.TAKEN_LATE)} Attempt 1 at {CARRIER}."


async def test_what_is_returned_canceled_or_too_late_is_told(stage: Stage) -> None:
    returned = await stage.sent()
    await stage.store.return_claims(TERM, "columbus-1", [returned.claim_id])
    view = await stage.store.cancel(TERM, returned.account_id, returned.message_id)
    assert view is not None
    assert [line.detail for line in view.events][1:] == [
        f"{said(What.RETURNED)} Attempt 1.",
        f"{said(What.CANCELED)} Attempt 1.",
    ]
    late = stage.message(expires_at=stage.now() + MINUTE, on_doubt=OnDoubt.RESEND)
    await stage.accept(late)
    [claim] = await stage.claim()
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.store.resend_doubtful(TERM, 0.0, 10)
    await stage.pass_time(2 * MINUTE)
    await stage.store.release_due(TERM, 10)
    assert (await told(stage, late.id))[-1] == f"{said(What.TOO_LATE_AGAIN)} Attempt 1."
    assert await stage.state(late.id) is State.IN_DOUBT


async def test_what_came_into_doubt_is_listed_by_term_and_account_with_what_became_of_it(
    stage: Stage,
) -> None:
    await stage.accept(
        *(stage.message(reference=f"r{n}") for n in (1, 2, 3)), stage.message(stage.other, reference="other")
    )
    claims = {claim.message_id: claim for claim in await stage.claim()}
    first, second, third, _other = claims.values()
    await stage.store.settle([result(first, SubmitOutcome.IN_DOUBT), submitted(third, "77")])
    await stage.store.give_up_claims(TERM, [first.claim_id])
    await stage.store.settle([submitted(second, "78")])
    account = stage.program.account_id
    page = await stage.store.doubts(TERM, account, of_term=TERM)
    assert [(d.reference, d.segment, d.attempt, d.carrier, d.state) for d in page.doubts] == [
        ("r1", 1, 1, CARRIER, State.IN_DOUBT),
        ("r2", 1, 1, None, State.SUBMITTED),
    ]
    assert page.reached is None
    begun = await stage.store.doubts(TERM, account, of_term=TERM, limit=1)
    assert begun.reached is not None
    rest = await stage.store.doubts(TERM, account, of_term=TERM, after=begun.reached, limit=1)
    assert ([d.reference for d in rest.doubts], rest.reached) == (["r2"], None)
    [other] = (await stage.store.doubts(TERM, stage.other.account_id, of_term=TERM)).doubts
    assert other.reference == "other"
    assert (await stage.store.doubts(TERM, account, of_term=TERM + 1)).doubts == ()
