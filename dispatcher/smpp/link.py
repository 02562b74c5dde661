"""One connection to a carrier, kept bound, with a true window: what the engine sends texts through.

The promise that everything above relies on: for each submit the link knows whether it was *provably never
written* or *may have been written*, and it never calls the second the first.

- `write` hands octets to the socket only while the transport's buffer is empty, the link is bound, the window and
  the token bucket have room, and the deadline has not come. Whatever it did not hand over is `written=False`.
- What was handed over gets exactly one `Answer`: the carrier's, or doubt (no answer in time, connection lost).
  A time-out is doubt, never failure. An answer that comes after the doubt is passed to `on_late`.
- If octets still lie in the transport's buffer at the deadline the connection is aborted, not drained.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from dispatcher.model import Receipt, Reply
from dispatcher.smpp.pdu import BindMode, SubmitSm
from sitecontrol.clock import Clock
from sitecontrol.settings import Carrier

Deliver = Receipt | Reply

OnDeliver = Callable[[Sequence[Deliver]], Awaitable[bool]]
"""Called with what arrived together (one or more). True only when all of it is committed: then each is answered
ESME_ROK; False or an exception: ESME_RX_T_APPN, so the carrier brings them again. May run many times at once."""


class LinkState(StrEnum):
    DOWN = "down"  # not connected; the next attempt is timed
    BINDING = "binding"  # connecting, or waiting for bind_resp
    BOUND = "bound"  # may be written
    STALLED = "stalled"  # bound, but the carrier no longer answers submits: not written until it does
    UNBINDING = "unbinding"  # stopping: waits for the last answers
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What became of a submit that may have been written."""

    doubt: bool  # True: nobody knows whether the carrier took it; the fields below say nothing
    command_status: int = 0  # SMPP; 0 = ESME_ROK. Its class and sentence: `status.describe`
    message_id: str = ""  # as the carrier wrote it; may be empty even with ESME_ROK
    reason: str = ""  # why there is doubt, a sentence
    rtt_s: float = 0.0


@dataclass(eq=False, slots=True)
class Submission:
    """One submit handed to `Link.write`."""

    submit: SubmitSm
    written: bool  # False: provably not one octet left this process; `answer` is cancelled already
    answer: asyncio.Future[Answer]  # never raises; done exactly once
    tag: object = None  # the caller's own: it comes back with a late answer
    written_at: float = 0.0  # clock.now()


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
    deliveries_refused: int = 0  # answered ESME_RX_T_APPN
    malformed: int = 0  # PDUs with wrong lengths, unknown commands, garbage
    unexpected: int = 0  # answers to nothing that we asked
    binds: int = 0
    disconnects: int = 0


class Link:
    """A link to one carrier. One task may call `room` and `write` (or `submit`) at a time per link; use several links."""

    def __init__(
        self,
        carrier: Carrier,
        password: str,
        *,
        on_deliver: OnDeliver,
        clock: Clock,
        name: str = "",  # for logs and metrics; default: the carrier's name
        on_late: Callable[[Submission, Answer], None] | None = None,
        on_change: Callable[[LinkState], None] | None = None,  # after every change of `state`
        mode: BindMode = BindMode.TRANSCEIVER,
        tls: ssl.SSLContext | None = None,  # default: made from the carrier's settings
    ) -> None: ...

    @property
    def state(self) -> LinkState: ...

    @property
    def bound(self) -> bool:
        """May be written (state BOUND)."""
        ...

    @property
    def in_flight(self) -> int:
        """Submits written and not answered, doubtful ones not counted."""
        ...

    @property
    def rtt_s(self) -> float | None:
        """Round trip of the last enquire_link."""
        ...

    @property
    def rate(self) -> float:
        """Segments per second now allowed: the carrier's setting, or less while it throttles us."""
        ...

    @property
    def last_error(self) -> str:
        """Why the link is not bound, a sentence; empty while bound."""
        ...

    async def start(self) -> None:
        """Begin to connect, bind, and keep doing so until `stop`. Returns at once."""

    async def stop(self, *, drain: float = 0.5) -> None:
        """Write no more, wait up to `drain` seconds for the answers of the window, unbind, close. What is then
        unanswered is in doubt. Safe to repeat."""

    def abort(self, reason: str) -> None:
        """Cut the connection now, without draining; the link then reconnects (unless stopped)."""

    async def wait_bound(self, deadline: float) -> bool:
        """Whether the link is bound before clock.now() reaches `deadline`."""
        ...

    async def room(self, most: int, deadline: float) -> int:
        """How many submits (1..most) may be written right now; waits for window, rate and pauses until `deadline`.

        0 when the deadline came, or at once when the link is not bound: choose another link.
        """
        ...

    def write(self, submits: Sequence[SubmitSm], deadline: float) -> list[Submission]:
        """Write as many as there is room for, in order, in one piece; returns one Submission for each of `submits`.

        `deadline` (clock.now()) is the claim's, already less the caller's margin: nothing is handed over past it.
        Never raises for the link's sake. A submit that cannot be encoded raises ValueError before anything is written.
        """
        ...

    async def submit(self, submit: SubmitSm, deadline: float) -> Submission:
        """`room` and `write` for a single submit."""
        ...
