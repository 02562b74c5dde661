"""A link to a carrier that keeps itself bound, with a true window: what the engine sends texts through.

The promise that everything above relies on: for each submit the link knows whether it was *provably never
written* or *may have been written*, and it never calls the second the first.

- `write` hands octets to the socket only while the transport's buffer is empty, the link is bound, the window
  and the token bucket have room, and the deadline has not come. What it did not hand over is `written=False`.
- What was handed over gets exactly one `Answer`: the carrier's, or doubt (no answer in time, connection
  lost). A time-out is doubt, never failure. An answer that comes after the doubt is passed to `on_late`.
- Octets that still lie in the transport's buffer at the deadline are not drained: the connection is aborted.

The parts: `connection` is one TCP connection, `deliveries` what the carrier brings, `pace` how fast we may
write, `reconnect` when to try again. This module keeps a connection alive and waits for room on it.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from random import Random

import structlog

from dispatcher.smpp.connection import Connection, open_connection
from dispatcher.smpp.deliveries import Deliver, Deliveries, OnDeliver
from dispatcher.smpp.pace import Pace
from dispatcher.smpp.pdu import Bind, BindMode, QuerySm, QuerySmResp
from dispatcher.smpp.reader import Received
from dispatcher.smpp.reconnect import delay
from dispatcher.smpp.session import NotInThisStateError
from dispatcher.smpp.status import CommandStatus, StatusClass, describe
from dispatcher.smpp.submission import Answer, LinkCounters, Submission, Submit, unwritten
from dispatcher.smpp.writer import encode
from sitecontrol.clock import Clock
from sitecontrol.settings_carriers import Carrier

__all__ = ["Answer", "Deliver", "Link", "LinkCounters", "LinkState", "OnDeliver", "Submission"]

log = structlog.get_logger()


class LinkState(StrEnum):
    DOWN = "down"  # not connected; the next attempt is timed
    BINDING = "binding"  # connecting, or waiting for the answer to bind
    BOUND = "bound"  # may be written
    STALLED = "stalled"  # bound, but the carrier no longer answers submits: not written until it does
    UNBINDING = "unbinding"  # stopping: waits for the last answers
    STOPPED = "stopped"


class BindRefusedError(Exception):
    """The carrier answered, and refused to bind us."""


class QueryRefusedError(Exception):
    """The carrier did not tell what became of a text."""


class Link:
    """One link to one carrier. Safe for several tasks; the order of texts is kept only for one."""

    def __init__(
        self,
        carrier: Carrier,
        password: str,
        *,
        on_deliver: OnDeliver,
        clock: Clock,
        name: str = "",  # for logs and metrics; the carrier's name if empty
        on_late: Callable[[Submission, Answer], None] | None = None,
        on_answer: Callable[[Submission, Answer], None] | None = None,  # after each, late or not
        on_change: Callable[[LinkState], None] | None = None,  # after every change of `state`
        mode: BindMode = BindMode.TRANSCEIVER,
        tls: ssl.SSLContext | None = None,  # with `carrier.tls`, the system's certificate authorities if None
    ) -> None:
        """Raises ValueError when a name or the password does not fit into a bind (a password: 8 octets)."""
        self.name = name or carrier.name
        self.counters = LinkCounters()
        self.last_error = ""  # why the link is not bound, a sentence; empty while it is
        self.mode = mode
        self._carrier = carrier
        self._clock = clock
        self._bind = Bind(
            mode=mode, system_id=carrier.system_id, password=password, system_type=carrier.system_type
        )
        encode(self._bind, 1)
        self._tls = (tls or ssl.create_default_context()) if carrier.tls else None
        self._on_late = on_late
        self._on_answer = on_answer
        self._on_change = on_change
        self._deliveries = Deliveries(carrier.name, on_deliver, clock, self.counters)
        self._pace = Pace(carrier.rate, clock.now())
        self._random = Random()  # noqa: S311 # spreads reconnects; nothing secret hangs on it
        self._state = LinkState.DOWN
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake: asyncio.Future[None] | None = None  # there only while somebody waits

    @property
    def state(self) -> LinkState:
        return self._state

    @property
    def bound(self) -> bool:
        """Whether it may be used for what it is bound as."""
        return self._state is LinkState.BOUND

    @property
    def sends(self) -> bool:
        """Whether texts go out over it: a receiver only brings."""
        return self.mode is not BindMode.RECEIVER

    @property
    def free(self) -> bool:
        """Whether a submit may be written right now."""
        return self.bound and self._allowed(1, self._clock.now()) > 0

    @property
    def throttled(self) -> bool:
        """Whether the carrier asked for a pause, and it is not over."""
        return self._pace.paused(self._clock.now())

    @property
    def in_flight(self) -> int:
        """Submits written and not answered, those in doubt not counted."""
        return self._connection.in_flight if self._connection else 0

    @property
    def rtt_s(self) -> float | None:
        """Round trip of the last enquire_link."""
        return self._connection.rtt_s if self._connection else None

    @property
    def rate(self) -> float:
        """Segments per second now allowed: the carrier's setting, or less while it throttles us."""
        return self._pace.rate

    @property
    def paused_for(self) -> float:
        """Seconds until the pace allows the next segment: when a throttled text may be tried again."""
        return max(0.0, self._pace.wait(self._clock.now()))

    def retune(self, rate: float) -> None:
        """Segments per second by the carrier's setting, from now on."""
        self._pace.change(rate, self._clock.now())
        self._wake_up()

    async def start(self) -> None:
        """Begin to connect and bind, and keep doing so until `stop`. Returns at once."""
        if self._task is None and self._state is not LinkState.STOPPED:
            self._task = asyncio.create_task(self._keep_bound(), name=f"link {self.name}")

    async def stop(self, *, drain: float = 0.5) -> None:
        """Write no more, wait for the last answers and commits, unbind, close; each at most `drain` seconds.

        What is then unanswered is in doubt. Safe to repeat.
        """
        if self._state in {LinkState.UNBINDING, LinkState.STOPPED}:
            return
        connection = self._connection if self._state in {LinkState.BOUND, LinkState.STALLED} else None
        self._enter(LinkState.UNBINDING)
        if connection:
            await self._drained(connection, self._clock.now() + drain)
            await self._deliveries.wait(drain)
            with suppress(TimeoutError):
                async with asyncio.timeout(drain):
                    await connection.unbind()
            connection.abort("we ended the session")
            await connection.closed
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._deliveries.aclose()
        self._enter(LinkState.STOPPED)

    async def ended(self) -> None:
        """Return when what keeps the link bound has ended: after `stop`, or by a defect, which is raised."""
        if self._task:
            await asyncio.shield(self._task)

    def abort(self, reason: str) -> None:
        """Cut the connection now, without draining; unless stopped, the link then binds again."""
        if self._connection:
            self._connection.abort(reason)

    async def wait_bound(self, deadline: float) -> bool:
        """Whether the link is bound before clock.now() reaches `deadline`."""
        while not self.bound and (left := deadline - self._clock.now()) > 0:
            if self._state is LinkState.STOPPED:
                return False
            await self._changed_within(left)
        return self.bound

    async def room(self, most: int, deadline: float) -> int:
        """How many submits (1..`most`) may be written right now; waits for window, rate and pauses.

        0 when clock.now() reaches `deadline`, or at once when the link is not bound: choose another link.
        """
        while self.bound and (left := deadline - (now := self._clock.now())) > 0:
            if allowed := self._allowed(most, now):
                return allowed
            blocked = self._connection is None or self._connection.room <= 0
            await self._changed_within(left if blocked else min(left, self._pace.wait(now)))
        return 0

    def write(self, submits: Sequence[Submit], deadline: float) -> list[Submission]:
        """Write, in order and in one piece, as many as there is room for; a Submission for each of `submits`.

        `deadline` (clock.now()) is the claim's, already less the caller's margin; nothing is handed over past
        it. Raises ValueError, with nothing written, when a submit cannot be encoded.
        """
        count = self._allowed(len(submits), self._clock.now()) if self.bound else 0
        submissions: list[Submission] = []
        if count and self._connection:
            submissions = self._connection.write(submits[:count], deadline)
            self._pace.take(sum(submission.written for submission in submissions))
        return submissions + [unwritten(submit) for submit in submits[len(submissions) :]]

    async def submit(self, submit: Submit, deadline: float) -> Submission:
        """`room` and `write` for a single submit."""
        while await self.room(1, deadline):
            (submission,) = self.write((submit,), deadline)
            if submission.written:
                return submission
        return unwritten(submit)

    async def query(self, query: QuerySm) -> QuerySmResp:
        """What the carrier knows of a text; outside window and rate. Raises QueryRefusedError, told why."""
        if self._connection is None or not self.bound:
            raise QueryRefusedError("the link is not bound")
        try:
            async with asyncio.timeout(self._carrier.response_timeout):
                received = await self._connection.query(query)
        except (ConnectionError, NotInThisStateError) as error:
            raise QueryRefusedError(str(error)) from error
        except TimeoutError as error:
            raise QueryRefusedError(f"no answer within {self._carrier.response_timeout:g} s") from error
        if received.status or not isinstance(received.pdu, QuerySmResp):
            refusal = describe(received.status or CommandStatus.ESME_RUNKNOWNERR)
            raise QueryRefusedError(f"query refused with {refusal.name}: {refusal.sentence}")
        return received.pdu

    # -- what the connection tells (see connection.Owner) ------------------------------------------------

    def answered(self, command_status: int) -> None:
        now = self._clock.now()
        if describe(command_status).status_class is StatusClass.THROTTLED:
            self.counters.throttled += 1
            self._pace.throttled(now)
        else:
            self._pace.accepted(now)

    def late(self, submission: Submission, answer: Answer) -> None:
        if self._on_late:
            self._on_late(submission, answer)

    def taken(self, submission: Submission, answer: Answer) -> None:
        if self._on_answer:
            self._on_answer(submission, answer)

    def brought(self, arrived: Sequence[Received], connection: Connection) -> None:
        self._deliveries.take(arrived, connection.acknowledge)

    def changed(self) -> None:
        if self._connection and self._state in {LinkState.BOUND, LinkState.STALLED}:
            if self._connection.closed.done():
                self.last_error = self._connection.why
                self._enter(LinkState.DOWN)
            else:
                self._enter(LinkState.STALLED if self._connection.stalled else LinkState.BOUND)
        self._wake_up()

    # -- keeping it bound ------------------------------------------------------------------------------

    async def _keep_bound(self) -> None:
        failures, told = 0, ""
        while True:
            try:
                connection = await self._connect_and_bind()
            except (OSError, TimeoutError, BindRefusedError) as error:
                failures += 1
                self.last_error = str(error) or "no answer to connect or bind in time"
            else:
                bound_at, told = self._clock.now(), ""
                await asyncio.shield(connection.closed)
                lasted = self._clock.now() - bound_at
                failures = 1 if connection.proved or lasted > self._carrier.reconnect_max else failures + 1
                self.last_error = connection.why
            self._connection = None
            if self._state is LinkState.UNBINDING:
                return
            wait = delay(
                failures,
                shortest=self._carrier.reconnect_min,
                longest=self._carrier.reconnect_max,
                random=self._random,
            )
            self._enter(LinkState.DOWN)
            tell = log.warning if self.last_error != told else log.debug  # an outage is told once
            tell("link_down", link=self.name, reason=self.last_error, retry_in_s=round(wait, 3))
            told = self.last_error
            await self._clock.sleep(wait)

    async def _connect_and_bind(self) -> Connection:
        """A bound connection. Raises OSError, TimeoutError or BindRefusedError, and leaves none behind."""
        self._enter(LinkState.BINDING)
        connection = Connection(self._carrier, self, self._clock, self.counters)
        try:
            async with asyncio.timeout(self._carrier.response_timeout):
                await open_connection(connection, self._carrier.address, self._tls)
                status = await connection.bind(self._bind)
        except BaseException:
            connection.abort("the link was not bound")
            raise
        if status:
            connection.abort("the carrier refused to bind us")
            refusal = describe(status)
            raise BindRefusedError(f"bind refused with {refusal.name}: {refusal.sentence}")
        self.counters.binds += 1
        self.last_error = ""
        self._connection = connection
        if not connection.closed.done():
            self._enter(LinkState.BOUND)
            log.info("link_bound", link=self.name, carrier=self._carrier.name)
        return connection

    async def _drained(self, connection: Connection, deadline: float) -> None:
        while connection.in_flight and (left := deadline - self._clock.now()) > 0:
            await self._changed_within(left)

    # -- room ------------------------------------------------------------------------------------------

    def _allowed(self, most: int, now: float) -> int:
        if self._connection is None:
            return 0
        return max(0, min(most, self._connection.room, self._pace.available(now)))

    async def _changed_within(self, seconds: float) -> None:
        """Return when something changed, or after `seconds`."""
        if self._wake is None:
            self._wake = asyncio.get_running_loop().create_future()
        await asyncio.wait((self._wake,), timeout=max(0.001, seconds))

    def _wake_up(self) -> None:
        if self._wake:
            self._wake.set_result(None)
            self._wake = None

    def _enter(self, state: LinkState) -> None:
        if state is self._state:
            return
        self._state = state
        self._wake_up()
        if self._on_change:
            self._on_change(state)
