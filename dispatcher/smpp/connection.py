"""One connection to a carrier, from connect to close: the effects behind `link`.

It owns the socket, the window of this connection and its timers:

- `enquire_link` every `enquire_every` seconds; a carrier from which nothing at all was heard for
  `response_timeout` after one is gone, and the connection is aborted.
- A submit without an answer for `response_timeout` is in doubt. If others were answered meanwhile it was lost
  alone and the link goes on; if none was, the link is *stalled*: not written any more, kept for another
  `response_timeout` because late answers settle doubt, and then aborted.

The transport's buffer limit is zero: a write goes to the socket at once (asyncio, and uvloop's fast path),
and what did not fit stays in the buffer, which leaves late. So while anything lies there no submit is written,
and if it still does when the deadline of its claim comes, the connection is aborted. Under TLS the same is asked
of the TCP transport beneath, which is why TLS is started on a connection of our own (`open_connection`).
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, cast

from dispatcher.smpp.conversation import Conversation
from dispatcher.smpp.pdu import (
    AlertNotification,
    Bind,
    BindResp,
    Command,
    DataSm,
    DataSmResp,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    Outbind,
    Pdu,
    QuerySm,
    QuerySmResp,
    SubmitSmResp,
    Unbind,
    UnbindResp,
)
from dispatcher.smpp.reader import Received
from dispatcher.smpp.session import NotInThisStateError, Role
from dispatcher.smpp.status import CommandStatus
from dispatcher.smpp.submission import Answer, LinkCounters, Submission, Submit, unwritten
from dispatcher.smpp.timers import Timers
from dispatcher.smpp.window import Window
from sitecontrol.clock import Clock
from sitecontrol.settings_carriers import Carrier

CLOSE_WITHIN_S: Final = 1.0
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s
ORDERLY: Final = struct.pack("ii", 0, 0)
ASK_BUFFER_EVERY_S: Final = 0.005


class Owner(Protocol):
    """What a connection tells its link."""

    def answered(self, command_status: int) -> None:
        """The carrier answered a submit (the pace depends on it)."""

    def late(self, submission: Submission, answer: Answer) -> None:
        """The carrier answered a submit that was in doubt."""

    def taken(self, submission: Submission, answer: Answer) -> None:
        """The carrier answered a submit, late or not."""

    def brought(self, arrived: Sequence[Received], connection: "Connection") -> None:
        """Receipts and replies; `connection.acknowledge` answers them."""

    def changed(self) -> None:
        """There may be room now, or the connection stalled, recovered or closed."""


class Connection(asyncio.Protocol):
    """See above. Opened by `open_connection`; `closed` is done when it is over."""

    def __init__(self, carrier: Carrier, owner: Owner, clock: Clock, counters: LinkCounters) -> None:
        self._carrier = carrier
        self._owner = owner
        self._clock = clock
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._conversation = Conversation(Role.ESME)
        self._window: Window[Submission] = Window(carrier.window)
        self._transport: asyncio.Transport | None = None
        self._beneath: asyncio.Transport | None = None  # the TCP transport under TLS
        self._timers = Timers(self._loop)
        self._control: dict[int, asyncio.Future[Received]] = {}  # bind, unbind and queries
        self._enquiries: dict[int, float] = {}  # sequence number → when it was sent
        self._heard_at = self._answer_at = clock.now()
        self.stalled = False
        self.proved = False  # the carrier has answered a submit: worth coming back to soon
        self.rtt_s: float | None = None
        self.why = ""  # why it is closed, a sentence
        self.closed: asyncio.Future[None] = self._loop.create_future()

    @property
    def in_flight(self) -> int:
        return self._window.waiting

    @property
    def room(self) -> int:
        """How many submits may be written now, as far as the connection is concerned."""
        if self._transport is None or self._transport.is_closing() or self.stalled or self._buffered:
            return 0
        return self._window.free

    @property
    def _buffered(self) -> int:
        """How many octets we wrote have not reached the socket."""
        layers = (self._transport, self._beneath)
        return sum(layer.get_write_buffer_size() for layer in layers if layer)

    # -- what the link asks for ------------------------------------------------------------------------

    async def bind(self, bind: Bind) -> int:
        """Ask to be bound; the answer's command_status. Raises ConnectionError when it closes instead."""
        received = await self._ask(bind)
        if received.status == CommandStatus.ESME_ROK and isinstance(received.pdu, BindResp):
            self._enquire_later()
        return received.status

    async def unbind(self) -> None:
        """End the session; returns when the carrier has answered, or the connection is gone."""
        try:
            await self._ask(Unbind())
        except (ConnectionError, NotInThisStateError):
            return

    async def query(self, query: QuerySm) -> Received:
        """The carrier's answer, which may be a generic_nack. Raises ConnectionError or NotInThisStateError."""
        self._counters.queries += 1
        return await self._ask(query)

    def write(self, submits: Sequence[Submit], deadline: float) -> list[Submission]:
        """Hand all of `submits` (at most `room`) to the socket in one piece; none if the deadline has come.

        Raises ValueError, with nothing written, when one cannot be encoded.
        """
        sequences = [self._window.next_sequence() for _ in submits]
        frames = [self._conversation.frame(s, n) for s, n in zip(submits, sequences, strict=True)]
        now = self._clock.now()
        if now >= deadline or self._transport is None:
            return [unwritten(submit) for submit in submits]
        written = []
        for submit, sequence in zip(submits, sequences, strict=True):
            submission = Submission(
                submit=submit, written=True, answer=self._loop.create_future(), written_at=now
            )
            self._window.add(sequence, submission)
            written.append(submission)
        self._counters.submits += len(written)
        self._transport.write(b"".join(frames))
        if self._buffered:
            self._timers.after("buffer", deadline - now, self._buffer_too_late)
            self._watch_buffer()
        self._watch_answers()
        return written

    def acknowledge(self, arrived: Sequence[Received], status: CommandStatus) -> None:
        """Answer receipts and replies, if the connection is still there."""
        frames = []
        for received in arrived:
            response: Pdu = DeliverSmResp() if received.command is Command.DELIVER_SM else DataSmResp()
            try:
                frames.append(self._conversation.frame(response, received.sequence, status))
            except NotInThisStateError:
                return
        self._send(b"".join(frames))

    def abort(self, reason: str) -> None:
        """Cut it now; what lies in buffers is thrown away, the kernel's too."""
        self.why = self.why or reason
        if self._transport:
            self._end_by(RESET)
            self._transport.abort()

    def close(self, reason: str) -> None:
        """Close after what is in the buffer; after `CLOSE_WITHIN_S` in any case."""
        self.why = self.why or reason
        if self._transport:
            self._end_by(ORDERLY)
            self._transport.close()
            self._timers.after("close", CLOSE_WITHIN_S, partial(self.abort, "it would not close"))

    def _end_by(self, linger: bytes) -> None:
        """What the kernel does when the socket goes, whoever lets it go.

        In order means that it goes on repeating what the carrier has not confirmed: a text could reach it minutes
        after its claim has ended and it was sent again, also when this very process was killed. So a connection ends
        by a reset, unless it is closed on purpose.
        """
        sock: socket.socket | None = self._transport.get_extra_info("socket") if self._transport else None
        if sock is not None:
            with suppress(OSError, ValueError):  # it is gone already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    # -- what asyncio tells ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._end_by(RESET)
        if self._beneath is None:
            self._transport.set_write_buffer_limits(high=0)

    def secured(self, transport: asyncio.Transport, beneath: asyncio.Transport) -> None:
        """TLS has been started on `beneath`."""
        self._beneath = beneath
        beneath.set_write_buffer_limits(high=0)
        self.connection_made(transport)

    def resume_writing(self) -> None:
        self._buffer_empty()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._clock.now()
        brought = []
        malformed, misplaced = self._conversation.malformed, self._conversation.misplaced
        for received in self._conversation.feed(data):
            if isinstance(received.pdu, DeliverSm | DataSm):
                brought.append(received)
            else:
                self._handle(received)
        self._counters.malformed += self._conversation.malformed - malformed
        self._counters.unexpected += self._conversation.misplaced - misplaced
        self._handle_unreadable()
        if brought:
            self._owner.brought(brought, self)
        self._send(b"".join(self._conversation.replies))
        self._conversation.replies.clear()
        if self._conversation.over:
            self.close(self._conversation.over)
        self._owner.changed()

    def connection_lost(self, exc: Exception | None) -> None:
        self.why = self.why or (
            f"the connection broke: {exc}" if exc else "the carrier closed the connection"
        )
        self._conversation.close()
        self._timers.forget_all()
        for control in self._control.values():
            if not control.done():
                control.set_exception(ConnectionError(self.why))
        for submission in self._window.drain():
            self._doubt(submission, self.why)
        self._counters.disconnects += 1
        self.closed.set_result(None)
        self._owner.changed()

    # -- PDUs ------------------------------------------------------------------------------------------

    def _handle(self, received: Received) -> None:
        match received.pdu:
            case SubmitSmResp(message_id=message_id) | DataSmResp(message_id=message_id):
                self._answered(received.sequence, received.status, message_id)
            case EnquireLink():
                self._conversation.reply(EnquireLinkResp(), received.sequence)
            case EnquireLinkResp():
                self._enquiry_answered(received.sequence)
            case Unbind():
                self._conversation.reply(UnbindResp(), received.sequence)
                self._conversation.over = "the carrier ended the session"
            case GenericNack() if received.sequence not in self._control:
                self._answered(received.sequence, received.status or CommandStatus.ESME_RUNKNOWNERR, "")
            case AlertNotification() | Outbind():
                self._counters.alerts += 1
            case BindResp() | UnbindResp() | QuerySmResp() | GenericNack():
                control = self._control.pop(received.sequence, None)
                if control and not control.done():
                    control.set_result(received)
            case _:
                self._counters.unexpected += 1

    def _handle_unreadable(self) -> None:
        """Responses whose body is garbage: the header still says whether the carrier took the text."""
        for error in self._conversation.unreadable:
            if error.command_id in {Command.SUBMIT_SM_RESP, Command.DATA_SM_RESP}:
                self._answered(error.sequence, error.status, "")
        self._conversation.unreadable.clear()

    def _answered(self, sequence: int, status: int, message_id: str) -> None:
        now = self._clock.now()
        submission = self._window.answer(sequence)
        late = None if submission else self._window.answer_late(sequence)
        if found := submission or late:
            self._answer_at = now
            self.stalled, self.proved = False, True
            answer = Answer(
                doubt=False, command_status=status, message_id=message_id, rtt_s=now - found.written_at
            )
            self._owner.answered(status)
            self._owner.taken(found, answer)
            if late:
                self._counters.late_answers += 1
                self._owner.late(late, answer)
            elif not found.answer.done():  # the caller may have cancelled it
                found.answer.set_result(answer)
            self._counters.answers += 1
        else:
            self._counters.unexpected += 1

    def _doubt(self, submission: Submission, reason: str) -> None:
        self._counters.doubts += 1
        if not submission.answer.done():
            submission.answer.set_result(Answer(doubt=True, reason=reason))

    async def _ask(self, pdu: Bind | Unbind | QuerySm) -> Received:
        sequence = self._window.next_sequence()
        frame = self._conversation.frame(pdu, sequence)
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError(self.why)
        future: asyncio.Future[Received] = self._loop.create_future()
        self._control[sequence] = future
        self._send(frame)
        try:
            return await future
        finally:
            self._control.pop(sequence, None)

    def _send(self, octets: bytes) -> None:
        if octets and self._transport and not self._transport.is_closing():
            self._transport.write(octets)

    # -- timers ----------------------------------------------------------------------------------------

    def _watch_answers(self) -> None:
        oldest = self._window.oldest()
        if oldest and "answers" not in self._timers:
            due = oldest[1].written_at + self._carrier.response_timeout
            self._timers.after("answers", due - self._clock.now(), self._answers_overdue)

    def _answers_overdue(self) -> None:
        limit = self._carrier.response_timeout
        silent = False
        while (oldest := self._window.oldest()) and oldest[1].written_at + limit <= self._clock.now():
            sequence, submission = oldest
            self._window.give_up(sequence)
            self._doubt(submission, f"no answer within {limit:g} s")
            silent = silent or self._answer_at < submission.written_at
        if silent and not self.stalled:
            self.stalled = True
            self._timers.after("stall", limit, self._stalled_too_long)
        self._watch_answers()
        self._owner.changed()

    def _stalled_too_long(self) -> None:
        if self.stalled:
            self.abort(f"the carrier answered no submit for {2 * self._carrier.response_timeout:g} s")

    def _enquire_later(self) -> None:
        self._timers.after("enquire", self._carrier.enquire_every, self._enquire)

    def _enquire(self) -> None:
        sequence = self._window.next_sequence()
        try:
            self._send(self._conversation.frame(EnquireLink(), sequence))
        except NotInThisStateError:
            return
        sent_at = self._enquiries[sequence] = self._clock.now()
        if "silence" not in self._timers:
            self._timers.after("silence", self._carrier.response_timeout, lambda: self._silent_since(sent_at))
        self._enquire_later()

    def _enquiry_answered(self, sequence: int) -> None:
        sent_at = self._enquiries.pop(sequence, None)
        if sent_at is None:
            self._counters.unexpected += 1
            return
        self.rtt_s = self._heard_at - sent_at
        self._enquiries = {n: at for n, at in self._enquiries.items() if at > sent_at}

    def _silent_since(self, sent_at: float) -> None:
        if self._heard_at < sent_at:
            self.abort(f"the carrier was silent for {self._carrier.response_timeout:g} s")

    def _watch_buffer(self) -> None:
        """TCP beneath TLS tells nobody when it is empty, so it is asked."""
        if self._beneath and self._buffered:
            self._timers.after("drain", ASK_BUFFER_EVERY_S, self._watch_buffer)
        elif self._beneath:
            self._buffer_empty()

    def _buffer_empty(self) -> None:
        self._timers.forget("buffer")
        self._owner.changed()

    def _buffer_too_late(self) -> None:
        self.abort("octets of a claim that has ended still lay in the buffer")


async def open_connection(connection: Connection, address: str, tls: ssl.SSLContext | None) -> None:
    """Connect to HOST:PORT, with TLS if a context is given. Raises OSError."""
    loop = asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if tls is None:
        await loop.create_connection(lambda: connection, host, int(port))
        return
    beneath, _ = await loop.create_connection(asyncio.Protocol, host, int(port))
    try:
        secure = await loop.start_tls(beneath, connection, tls, server_hostname=host)
    except BaseException:
        beneath.abort()
        raise
    if secure is None:
        raise ConnectionError("the carrier closed the connection during the TLS handshake")
    connection.secured(secure, beneath)
