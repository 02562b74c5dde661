"""Everything about one SMPP connection but the socket: framing, codec and session together, for either end.

Octets go in, PDUs that belong here come out; what the specification wants answered to the rest is collected
in `replies`, to be written by whoever owns the socket:

- unknown command: generic_nack ESME_RINVCMDID; the connection goes on;
- impossible length: generic_nack ESME_RINVCMDLEN, then `over`: nobody knows where the next PDU begins;
- a field that does not fit: the request's own response with the status for that field;
- after `MAX_MALFORMED` of these in a row the peer is taken for mad and the connection is `over`: one that says
  something odd now and then is only counted, however long the session lasts;
- a request that the session's state forbids: its response with ESME_RINVBNDSTS (or ESME_RALYBND).

Nothing is ever answered to a response, so two confused ends cannot nack each other for ever.
"""

from typing import Final

from dispatcher.smpp.framing import MAX_FRAME, Framer
from dispatcher.smpp.pdu import (
    BindMode,
    BindResp,
    Command,
    DataSmResp,
    DeliverSmResp,
    EnquireLinkResp,
    GenericNack,
    Pdu,
    QuerySmResp,
    SubmitSmResp,
    UnbindResp,
)
from dispatcher.smpp.reader import MalformedError, Received, decode
from dispatcher.smpp.session import NotInThisStateError, Role, Session, State
from dispatcher.smpp.status import CommandStatus
from dispatcher.smpp.writer import command_of, encode

MAX_MALFORMED: Final = 20

_RESPONSES: Final[dict[int, Pdu]] = {
    **{mode.value: BindResp(mode=mode) for mode in BindMode},
    Command.SUBMIT_SM: SubmitSmResp(),
    Command.DELIVER_SM: DeliverSmResp(),
    Command.DATA_SM: DataSmResp(),
    Command.QUERY_SM: QuerySmResp(),
    Command.ENQUIRE_LINK: EnquireLinkResp(),
    Command.UNBIND: UnbindResp(),
}


class Conversation:
    """One connection's protocol, from the point of view of `role`."""

    def __init__(self, role: Role, max_frame: int = MAX_FRAME) -> None:
        self._framer = Framer(max_frame)
        self._session = Session(role)
        self.replies: list[bytes] = []  # to be written, then cleared, by the owner of the socket
        self.malformed = 0  # wrong lengths, unknown commands, garbage
        self._malformed_in_a_row = 0
        self.misplaced = 0  # PDUs that the session's state forbids
        self.over = ""  # why the connection has to be closed once `replies` are written; a sentence
        self.unreadable: list[MalformedError] = []  # responses that could not be read; cleared by the owner

    @property
    def state(self) -> State:
        return self._session.state

    def feed(self, data: bytes) -> list[Received]:
        """The PDUs that are complete now and belong here, in order."""
        accepted = []
        for frame in self._framer.feed(data):
            if self.over:
                break
            try:
                received = decode(frame)
            except MalformedError as error:
                self._refuse_malformed(error)
                continue
            self._malformed_in_a_row = 0
            try:
                self._session.received(received.command, received.status)
            except NotInThisStateError as error:
                self.misplaced += 1
                self._answer(received.command, received.sequence, error.answer)
            else:
                accepted.append(received)
        if (broken := self._framer.broken) and not self.over:
            self.malformed += 1
            self._nack(broken.sequence, CommandStatus.ESME_RINVCMDLEN)
            self.over = f"a PDU claimed to have {broken.length} octets"
        return accepted

    def frame(self, pdu: Pdu, sequence: int, status: int = CommandStatus.ESME_ROK) -> bytes:
        """The octets to send. Raises NotInThisStateError or ValueError; then nothing is changed."""
        octets = encode(pdu, sequence, status)
        self._session.sending(command_of(pdu), status)
        return octets

    def reply(self, pdu: Pdu, sequence: int) -> None:
        """Answer, among `replies`, a request that `feed` gave.

        What came with it in one read may have ended the session already. Then nothing is said any more, but to a
        peer that said unbind: it may wait for its answer.
        """
        try:
            self.replies.append(self.frame(pdu, sequence))
        except NotInThisStateError:
            if isinstance(pdu, UnbindResp):
                self.replies.append(encode(pdu, sequence))

    def close(self) -> None:
        self._session.close()

    def _refuse_malformed(self, error: MalformedError) -> None:
        self.malformed += 1
        self._malformed_in_a_row += 1
        if error.is_response:
            self.unreadable.append(error)
        elif error.answer == CommandStatus.ESME_RINVCMDID or error.command_id not in _RESPONSES:
            self._nack(error.sequence, error.answer)
        else:
            self._answer(Command(error.command_id), error.sequence, error.answer)
        if self._malformed_in_a_row >= MAX_MALFORMED:
            self.over = f"{MAX_MALFORMED} malformed PDUs in a row"

    def _answer(self, request: Command, sequence: int, status: CommandStatus) -> None:
        if (response := _RESPONSES.get(request)) is not None:
            self.replies.append(encode(response, sequence, status))

    def _nack(self, sequence: int, status: CommandStatus) -> None:
        self.replies.append(encode(GenericNack(), sequence, status))
