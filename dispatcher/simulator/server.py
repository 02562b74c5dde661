"""The simulator's side of one connection: SMPP in, the carrier's decisions out."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Final, cast

import structlog

from dispatcher.simulator.smsc import Smsc
from dispatcher.smpp.conversation import Conversation
from dispatcher.smpp.pdu import (
    AlertNotification,
    Bind,
    BindMode,
    BindResp,
    DataSm,
    DataSmResp,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    QuerySm,
    SubmitSm,
    SubmitSmResp,
    Tag,
    Unbind,
    UnbindResp,
)
from dispatcher.smpp.reader import Received
from dispatcher.smpp.session import NotInThisStateError, Role
from dispatcher.smpp.status import CommandStatus
from dispatcher.smpp.submission import Submit
from dispatcher.smpp.window import Window

BIND_WITHIN_S: Final = 10.0  # a connection that does not bind is closed
MAX_BUFFERED: Final = 4 * 1024 * 1024  # an ESME that does not read is cut off

_numbers = count(1)
log = structlog.get_logger()


class Esme(asyncio.Protocol):
    """One connection of an ESME; see `smsc.Link`."""

    def __init__(self, smsc: Smsc) -> None:
        self.number = next(_numbers)
        self.system_id = ""
        self._smsc = smsc
        self._conversation = Conversation(Role.SMSC)
        self._sequences: Window[None] = Window(1)
        self._transport: asyncio.Transport | None = None
        self._answers: list[bytes] = []
        self._unbound: asyncio.TimerHandle | None = None

    # -- what the carrier asks for ---------------------------------------------------------------------

    def deliver(self, pdus: Sequence[DeliverSm | DataSm]) -> Sequence[int]:
        sequences = [self._sequences.next_sequence() for _ in pdus]
        frames = [self._conversation.frame(p, n) for p, n in zip(pdus, sequences, strict=True)]
        self._write(b"".join(frames))
        return sequences

    def tell(self, pdu: AlertNotification) -> bool:
        try:
            self._write(self._conversation.frame(pdu, self._sequences.next_sequence()))
        except NotInThisStateError:
            return False
        return True

    def cut(self) -> None:
        if self._transport:
            self._transport.abort()

    def end(self) -> None:
        """Say goodbye and close."""
        with suppress(NotInThisStateError):
            self._write(self._conversation.frame(Unbind(), self._sequences.next_sequence()))
        if self._transport:
            self._transport.close()

    # -- what asyncio tells ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._unbound = asyncio.get_running_loop().call_later(BIND_WITHIN_S, self.cut)

    def connection_lost(self, exc: Exception | None) -> None:
        self._conversation.close()
        if self._unbound:
            self._unbound.cancel()
        if self.system_id:
            self._smsc.detach(self)
            log.info("esme_gone", system_id=self.system_id, link=self.number, error=str(exc or ""))

    def data_received(self, data: bytes) -> None:
        before = self._conversation.malformed
        acknowledged = False
        for received in self._conversation.feed(data):
            if self._transport is None or self._transport.is_closing():
                break  # the carrier cut the connection meanwhile: what follows never arrived
            match received.pdu:
                case SubmitSm() | DataSm() as submit:
                    self._submitted(submit, received.sequence)
                case DeliverSmResp() | DataSmResp():
                    self._smsc.acknowledged(self, received.sequence, received.status)
                    acknowledged = True
                case GenericNack() if self.system_id:
                    refused = received.status or CommandStatus.ESME_RUNKNOWNERR
                    self._smsc.acknowledged(self, received.sequence, refused)
                case _:
                    self._handle_control(received)
        self._smsc.malformed += self._conversation.malformed - before
        self._conversation.unreadable.clear()
        self._answers += self._conversation.replies
        self._conversation.replies.clear()
        self._write(b"".join(self._answers))
        self._answers.clear()
        if self._conversation.over and self._transport:
            self._transport.close()
        elif acknowledged:
            self._smsc.pump(self.system_id)

    # -- PDUs ------------------------------------------------------------------------------------------

    def _handle_control(self, received: Received) -> None:
        match received.pdu:
            case Bind() as bind:
                self._bind(bind, received.sequence)
            case EnquireLink() if not self._smsc.faults.ignore_enquiries:
                self._conversation.reply(EnquireLinkResp(), received.sequence)
            case QuerySm() as query:
                status, answer = self._smsc.query(query)
                self._answers.append(self._conversation.frame(answer, received.sequence, status))
            case Unbind():
                self._conversation.reply(UnbindResp(), received.sequence)
                self._conversation.over = "the ESME ended the session"
            case UnbindResp():
                self._conversation.over = "we ended the session"
            case _:
                pass  # answers to nothing: a carrier that does not care

    def _bind(self, bind: Bind, sequence: int) -> None:
        status = self._smsc.bind(bind.system_id, bind.password)
        answer = BindResp(
            mode=bind.mode, system_id="hotsite-sim", tlvs=((Tag.SC_INTERFACE_VERSION, b"\x34"),)
        )
        self._write(self._conversation.frame(answer, sequence, status))
        log.info("bind", system_id=bind.system_id, mode=bind.mode.name, link=self.number, status=status.name)
        if status == CommandStatus.ESME_ROK:
            if self._unbound:
                self._unbound.cancel()
            self.system_id = bind.system_id
            self._smsc.attach(self, receives=bind.mode is not BindMode.TRANSMITTER)

    def _submitted(self, submit: Submit, sequence: int) -> None:
        judgement = self._smsc.submit(self, submit, sequence)
        if not judgement.answered:
            return
        kind = SubmitSmResp if isinstance(submit, SubmitSm) else DataSmResp
        response = kind(message_id=judgement.message_id)
        frame = self._conversation.frame(response, sequence, judgement.status)
        if delay := self._smsc.answer_delay_s():
            asyncio.get_running_loop().call_later(delay, self._write, frame)
        else:
            self._answers.append(frame)

    def _write(self, octets: bytes) -> None:
        if not octets or self._transport is None or self._transport.is_closing():
            return
        self._transport.write(octets)
        if self._transport.get_write_buffer_size() > MAX_BUFFERED:
            log.warning("esme_does_not_read", system_id=self.system_id, link=self.number)
            self._transport.abort()
