"""The session states of SMPP v3.4 (section 2.2 and table 2-1) as one table, without I/O.

Both ends keep one `Session` each and tell it of every PDU, before sending it and after reading it. A PDU
that the table does not allow raises `NotInThisStateError` and changes nothing; when it came from the peer,
the error says what the specification wants answered.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dispatcher.smpp.pdu import Command
from dispatcher.smpp.status import CommandStatus


class Role(StrEnum):
    ESME = "esme"  # the side that binds: us
    SMSC = "smsc"  # the carrier


class State(StrEnum):
    OPEN = "open"  # connected, not bound
    BOUND_TX = "bound_tx"
    BOUND_RX = "bound_rx"
    BOUND_TRX = "bound_trx"
    UNBINDING = "unbinding"  # one side said unbind: answers only
    CLOSED = "closed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """In any of `states`, `sender` may send any of `commands`; then the session is in `then`.

    None leaves it where it is. Responses move it only when their command_status is ESME_ROK.
    """

    states: frozenset[State]
    sender: frozenset[Role]
    commands: frozenset[Command]
    then: State | None
    sentence: str


_ESME, _SMSC = frozenset({Role.ESME}), frozenset({Role.SMSC})
_EITHER = _ESME | _SMSC
_SENDING = frozenset({State.BOUND_TX, State.BOUND_TRX})
_RECEIVING = frozenset({State.BOUND_RX, State.BOUND_TRX})
_BOUND = _SENDING | _RECEIVING
_LAST_ANSWERS = frozenset({State.UNBINDING})
_CONNECTED = frozenset(State) - {State.CLOSED}
_RESPONSES = frozenset(command for command in Command if command & 0x80000000)
_BINDS = frozenset({Command.BIND_RECEIVER, Command.BIND_TRANSMITTER, Command.BIND_TRANSCEIVER})


def _row(
    states: frozenset[State],
    sender: frozenset[Role],
    *commands: Command,
    then: State | None = None,
    says: str,
) -> Row:
    return Row(states=states, sender=sender, commands=frozenset(commands), then=then, sentence=says)


TABLE: Final = (
    _row(frozenset({State.OPEN}), _ESME, *_BINDS, says="The ESME asks to be bound."),
    _row(
        frozenset({State.OPEN}),
        _SMSC,
        Command.BIND_TRANSMITTER_RESP,
        then=State.BOUND_TX,
        says="The SMSC lets the ESME send.",
    ),
    _row(
        frozenset({State.OPEN}),
        _SMSC,
        Command.BIND_RECEIVER_RESP,
        then=State.BOUND_RX,
        says="The SMSC will bring receipts and replies.",
    ),
    _row(
        frozenset({State.OPEN}),
        _SMSC,
        Command.BIND_TRANSCEIVER_RESP,
        then=State.BOUND_TRX,
        says="The SMSC lets the ESME send, and will bring receipts and replies.",
    ),
    _row(frozenset({State.OPEN}), _SMSC, Command.OUTBIND, says="The SMSC asks the ESME to bind."),
    _row(_SENDING, _ESME, Command.SUBMIT_SM, Command.DATA_SM, says="The ESME sends a text."),
    _row(_SENDING, _ESME, Command.QUERY_SM, says="The ESME asks what became of a text."),
    _row(
        _SENDING | _LAST_ANSWERS,
        _SMSC,
        Command.SUBMIT_SM_RESP,
        Command.DATA_SM_RESP,
        says="The SMSC answers a text.",
    ),
    _row(
        _SENDING | _LAST_ANSWERS,
        _SMSC,
        Command.QUERY_SM_RESP,
        says="The SMSC tells what became of a text.",
    ),
    _row(_RECEIVING, _SMSC, Command.DELIVER_SM, Command.DATA_SM, says="The SMSC brings a receipt or reply."),
    _row(_RECEIVING, _SMSC, Command.ALERT_NOTIFICATION, says="The SMSC tells that a number is reachable."),
    _row(
        _RECEIVING | _LAST_ANSWERS,
        _ESME,
        Command.DELIVER_SM_RESP,
        Command.DATA_SM_RESP,
        says="The ESME has committed a receipt or reply, or refuses it.",
    ),
    _row(
        _CONNECTED,
        _EITHER,
        Command.ENQUIRE_LINK,
        Command.ENQUIRE_LINK_RESP,
        Command.GENERIC_NACK,
        says="A sign of life, or that something could not be understood.",
    ),
    _row(
        _BOUND | _LAST_ANSWERS,
        _EITHER,
        Command.UNBIND,
        then=State.UNBINDING,
        says="One side ends the session: only answers follow.",
    ),
    _row(_LAST_ANSWERS, _EITHER, Command.UNBIND_RESP, then=State.CLOSED, says="The session is over."),
)

_NEXT: Final[dict[tuple[State, Role, Command], State]] = {
    (state, sender, command): row.then or state
    for row in TABLE
    for state in row.states
    for sender in row.sender
    for command in row.commands
}


class NotInThisStateError(Exception):
    """The PDU does not belong into the session's state; nothing was changed."""

    def __init__(self, state: State, sender: Role, command: Command) -> None:
        super().__init__(f"{command.name.lower()} from the {sender.upper()} while {state}")
        self.state = state
        self.command = command

    @property
    def answer(self) -> CommandStatus:
        """The command_status for the peer's request."""
        if self.command in _BINDS and self.state in _BOUND:
            return CommandStatus.ESME_RALYBND
        return CommandStatus.ESME_RINVBNDSTS


class Session:
    """Where one side stands in one session."""

    __slots__ = ("_peer", "_role", "state")

    def __init__(self, role: Role) -> None:
        self._role = role
        self._peer = Role.SMSC if role is Role.ESME else Role.ESME
        self.state = State.OPEN

    def sending(self, command: Command, status: int = 0) -> None:
        """We are about to send this. Raises NotInThisStateError."""
        self._move(self._role, command, status)

    def received(self, command: Command, status: int = 0) -> None:
        """The peer sent this. Raises NotInThisStateError."""
        self._move(self._peer, command, status)

    def close(self) -> None:
        """The connection is gone; allowed in every state."""
        self.state = State.CLOSED

    def _move(self, sender: Role, command: Command, status: int) -> None:
        then = _NEXT.get((self.state, sender, command))
        if then is None:
            raise NotInThisStateError(self.state, sender, command)
        if status == 0 or command not in _RESPONSES:
            self.state = then
