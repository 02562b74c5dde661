"""What a carrier's answer, or the lack of one, makes of a claimed segment. Pure."""

from dispatcher.model import Claim, SubmitOutcome, SubmitResult
from dispatcher.smpp.link import Answer
from dispatcher.smpp.status import StatusClass, describe

THROTTLED_RETRY_S = 0.5  # the link slows down by itself; the text only has to come round again
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0

_OUTCOMES = {
    StatusClass.OK: SubmitOutcome.SUBMITTED,
    StatusClass.THROTTLED: SubmitOutcome.QUEUED,
    StatusClass.TEMPORARY: SubmitOutcome.QUEUED,
    StatusClass.PERMANENT: SubmitOutcome.FAILED,
}


def of_answer(claim: Claim, carrier: str, answer: Answer) -> SubmitResult:
    """The result of a segment that was, or may have been, written. No answer is doubt, never failure."""
    if answer.doubt:
        return _result(claim, SubmitOutcome.IN_DOUBT, carrier)
    status = describe(answer.command_status)
    return SubmitResult(
        claim_id=claim.claim_id,
        message_id=claim.message_id,
        segment=claim.segment,
        attempt=claim.attempt,
        outcome=_OUTCOMES[status.status_class],
        carrier=carrier,
        carrier_message_id=answer.message_id or None,
        command_status=answer.command_status,
        retry_after_s=retry_after(status.status_class, claim.attempt),
    )


def never_written(claim: Claim) -> SubmitResult:
    """The result of a segment of which provably not one octet left this process."""
    return _result(claim, SubmitOutcome.QUEUED, "")


def cannot_be_made(claim: Claim) -> SubmitResult:
    """The result of a segment whose text or addresses SMPP cannot carry: it would never go."""
    return _result(claim, SubmitOutcome.FAILED, "")


def retry_after(status_class: StatusClass, attempt: int) -> float:
    """Seconds until a refused segment may be claimed again: doubled with each attempt, up to a minute."""
    if status_class is StatusClass.THROTTLED:
        return THROTTLED_RETRY_S
    if status_class is StatusClass.TEMPORARY:
        return min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempt - 1, 10))
    return 0.0


def _result(claim: Claim, outcome: SubmitOutcome, carrier: str) -> SubmitResult:
    return SubmitResult(
        claim_id=claim.claim_id,
        message_id=claim.message_id,
        segment=claim.segment,
        attempt=claim.attempt,
        outcome=outcome,
        carrier=carrier,
    )
