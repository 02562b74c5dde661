"""What passes between a link and the engine about one submit."""

import asyncio
from dataclasses import dataclass

from dispatcher.smpp.pdu import DataSm, SubmitSm

Submit = SubmitSm | DataSm
"""What carries a text to a carrier; which of the two is the carrier's setting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What became of a submit that may have been written."""

    doubt: bool  # True: nobody knows whether the carrier took it; only `reason` means something
    command_status: int = 0  # SMPP; 0 = ESME_ROK. Its class and sentence: `status.describe`
    message_id: str = ""  # as the carrier wrote it; may be empty even with ESME_ROK
    reason: str = ""  # why there is doubt, a sentence
    rtt_s: float = 0.0


@dataclass(eq=False, slots=True, kw_only=True)
class Submission:
    """One submit handed to `Link.write`."""

    submit: Submit
    written: bool  # False: provably not one octet left this process; `answer` is cancelled
    answer: asyncio.Future[Answer]  # never raises; done exactly once
    tag: object = None  # the caller's own: it comes back with a late answer
    written_at: float = 0.0  # clock.now()


def unwritten(submit: Submit) -> Submission:
    """A submit of which provably nothing left this process."""
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    answer.cancel()
    return Submission(submit=submit, written=False, answer=answer)


@dataclass(kw_only=True, slots=True)
class LinkCounters:
    """Since the link was made; only ever growing."""

    submits: int = 0  # written
    answers: int = 0
    throttled: int = 0  # answers ESME_RTHROTTLED and ESME_RMSGQFUL
    doubts: int = 0
    late_answers: int = 0  # came after the doubt
    receipts: int = 0
    replies: int = 0
    deliveries_refused: int = 0  # answered ESME_RX_T_APPN: the carrier brings them again
    alerts: int = 0  # alert_notification and outbind: nobody asked for them, and they are passed over
    queries: int = 0  # query_sm asked
    malformed: int = 0  # wrong lengths, unknown commands, garbage, receipts that tell nothing
    unexpected: int = 0  # answers to nothing that we asked, requests out of place
    binds: int = 0
    disconnects: int = 0
