"""Frames to PDUs, by the tables of SMPP v3.4 sections 4 and 5.

- Nothing is read past the frame, and no C-octet string past its size (the sizes count the closing NUL).
  What does not fit raises `MalformedError` with the command_status that the specification wants answered.
- A response without a body is accepted: most SMSCs leave it out when the command_status is an error.
- Optional parameters are kept as they came, unknown tags too. A garbled stream of them is an error in a
  request, and dropped in a response: the essential stands in its header and its mandatory part.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dispatcher.smpp.pdu import (
    HEADER_SIZE,
    MAX_SHORT_MESSAGE,
    AlertNotification,
    Bind,
    BindMode,
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
    SubmitSm,
    SubmitSmResp,
    Tlv,
    Unbind,
    UnbindResp,
)
from dispatcher.smpp.status import CommandStatus

_HEADER: Final = struct.Struct(">IIII")
_TLV: Final = struct.Struct(">HH")
_RESPONSE_BIT: Final = 0x80000000
_COMMANDS: Final = {int(command): command for command in Command}
# Section 5.2.23 says 65 with the NUL. Who counts it beside them is read as well: receipts will name that id.
_ID_SIZE: Final = 66


class MalformedError(Exception):
    """A PDU that cannot be read; `answer` is the command_status to answer with."""

    def __init__(
        self, reason: str, *, command_id: int, sequence: int, status: int, answer: CommandStatus
    ) -> None:
        super().__init__(reason)
        self.command_id = command_id
        self.sequence = sequence
        self.status = status  # the command_status of the header: a response says the essential there
        self.answer = answer

    @property
    def is_response(self) -> bool:
        return bool(self.command_id & _RESPONSE_BIT)


@dataclass(frozen=True, slots=True)
class Received:
    """A PDU as it came, with what its header said."""

    command: Command
    sequence: int
    status: int
    pdu: Pdu


def decode(frame: bytes) -> Received:
    """Read one whole frame (see `framing`). Raises MalformedError, and nothing else."""
    _, command_id, status, sequence = _HEADER.unpack_from(frame)
    try:
        command = _COMMANDS[command_id]
        return Received(command, sequence, status, _READERS[command](_Body(frame), command))
    except KeyError:
        reason, answer = f"unknown command_id {command_id:#010x}", CommandStatus.ESME_RINVCMDID
    except _FieldError as error:
        reason, answer = error.reason, error.answer
    raise MalformedError(reason, command_id=command_id, sequence=sequence, status=status, answer=answer)


class _FieldError(Exception):
    """A field does not fit the frame or its own size."""

    def __init__(self, reason: str, answer: CommandStatus) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


class _Body:
    """Reads the fields of a frame in order."""

    __slots__ = ("_at", "_frame")

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._at = HEADER_SIZE

    @property
    def is_empty(self) -> bool:
        return self._at >= len(self._frame)

    def octets(self, count: int) -> bytes:
        """Exactly `count` octets; as integers of one octet they unpack by iteration."""
        end = self._at + count
        if end > len(self._frame):
            raise _FieldError("the PDU ends inside a field", CommandStatus.ESME_RINVCMDLEN)
        found = self._frame[self._at : end]
        self._at = end
        return found

    def text(self, size: int, name: str, answer: CommandStatus) -> str:
        """A C-octet string of at most `size` octets with its NUL."""
        end = self._frame.find(0, self._at, self._at + size)
        if end < 0:
            raise _FieldError(f"{name} has no end within {size} octets", answer)
        found = self._frame[self._at : end]
        self._at = end + 1
        return found.decode("latin-1")

    def tlvs(self) -> tuple[Tlv, ...]:
        frame, at, end = self._frame, self._at, len(self._frame)
        if at == end:
            return ()
        found = []
        while at < end:
            if at + _TLV.size > end:
                raise _FieldError("half an optional parameter", CommandStatus.ESME_RINVOPTPARSTREAM)
            tag, length = _TLV.unpack_from(frame, at)
            at += _TLV.size
            if at + length > end:
                raise _FieldError(
                    f"optional parameter {tag:#06x} runs past the end", CommandStatus.ESME_RINVOPTPARSTREAM
                )
            found.append((tag, frame[at : at + length]))
            at += length
        self._at = end
        return tuple(found)

    def tlvs_of_response(self) -> tuple[Tlv, ...]:
        try:
            return self.tlvs()
        except _FieldError:
            return ()

    def nothing_more(self) -> None:
        if not self.is_empty:
            raise _FieldError("the PDU has no body, and brings one", CommandStatus.ESME_RINVCMDLEN)


def _read_bind(body: _Body, command: Command) -> Bind:
    system_id = body.text(16, "system_id", CommandStatus.ESME_RINVSYSID)
    password = body.text(9, "password", CommandStatus.ESME_RINVPASWD)
    system_type = body.text(13, "system_type", CommandStatus.ESME_RINVSYSTYP)
    interface_version, addr_ton, addr_npi = body.octets(3)
    address_range = body.text(41, "address_range", CommandStatus.ESME_RBINDFAIL)
    body.tlvs_of_response()
    return Bind(
        mode=BindMode(command),
        system_id=system_id,
        password=password,
        system_type=system_type,
        interface_version=interface_version,
        addr_ton=addr_ton,
        addr_npi=addr_npi,
        address_range=address_range,
    )


def _read_bind_resp(body: _Body, command: Command) -> BindResp:
    mode = BindMode(command & ~_RESPONSE_BIT)
    if body.is_empty:
        return BindResp(mode=mode)
    system_id = body.text(16, "system_id", CommandStatus.ESME_RINVSYSID)
    return BindResp(mode=mode, system_id=system_id, tlvs=body.tlvs_of_response())


def _read_short_message(body: _Body, command: Command) -> SubmitSm | DeliverSm:
    service_type = body.text(6, "service_type", CommandStatus.ESME_RINVSERTYP)
    source_ton, source_npi = body.octets(2)
    source = body.text(21, "source_addr", CommandStatus.ESME_RINVSRCADR)
    destination_ton, destination_npi = body.octets(2)
    destination = body.text(21, "destination_addr", CommandStatus.ESME_RINVDSTADR)
    esm_class, protocol_id, priority = body.octets(3)
    schedule = body.text(17, "schedule_delivery_time", CommandStatus.ESME_RINVSCHED)
    validity = body.text(17, "validity_period", CommandStatus.ESME_RINVEXPIRY)
    registered, replace, data_coding, default_id, length = body.octets(5)
    if length > MAX_SHORT_MESSAGE:
        raise _FieldError(f"sm_length {length} is over {MAX_SHORT_MESSAGE}", CommandStatus.ESME_RINVMSGLEN)
    kind = SubmitSm if command is Command.SUBMIT_SM else DeliverSm
    return kind(
        service_type=service_type,
        source_ton=source_ton,
        source_npi=source_npi,
        source=source,
        destination_ton=destination_ton,
        destination_npi=destination_npi,
        destination=destination,
        esm_class=esm_class,
        protocol_id=protocol_id,
        priority=priority,
        schedule_delivery_time=schedule,
        validity_period=validity,
        registered_delivery=registered,
        replace_if_present=replace,
        data_coding=data_coding,
        sm_default_msg_id=default_id,
        short_message=body.octets(length),
        tlvs=body.tlvs(),
    )


def _read_data_sm(body: _Body, _command: Command) -> DataSm:
    service_type = body.text(6, "service_type", CommandStatus.ESME_RINVSERTYP)
    source_ton, source_npi = body.octets(2)
    source = body.text(65, "source_addr", CommandStatus.ESME_RINVSRCADR)
    destination_ton, destination_npi = body.octets(2)
    destination = body.text(65, "destination_addr", CommandStatus.ESME_RINVDSTADR)
    esm_class, registered, data_coding = body.octets(3)
    return DataSm(
        service_type=service_type,
        source_ton=source_ton,
        source_npi=source_npi,
        source=source,
        destination_ton=destination_ton,
        destination_npi=destination_npi,
        destination=destination,
        esm_class=esm_class,
        registered_delivery=registered,
        data_coding=data_coding,
        tlvs=body.tlvs(),
    )


def _message_id(body: _Body) -> str:
    return "" if body.is_empty else body.text(_ID_SIZE, "message_id", CommandStatus.ESME_RINVMSGID)


def _read_data_sm_resp(body: _Body, _command: Command) -> DataSmResp:
    message_id = _message_id(body)
    return DataSmResp(message_id=message_id, tlvs=body.tlvs_of_response())


def _read_query_sm(body: _Body, _command: Command) -> QuerySm:
    message_id = body.text(_ID_SIZE, "message_id", CommandStatus.ESME_RINVMSGID)
    source_ton, source_npi = body.octets(2)
    source = body.text(21, "source_addr", CommandStatus.ESME_RINVSRCADR)
    body.tlvs_of_response()
    return QuerySm(message_id=message_id, source_ton=source_ton, source_npi=source_npi, source=source)


def _read_query_sm_resp(body: _Body, _command: Command) -> QuerySmResp:
    message_id = _message_id(body)
    if body.is_empty:
        return QuerySmResp(message_id=message_id)
    final_date = body.text(17, "final_date", CommandStatus.ESME_RINVCMDLEN)
    message_state, error_code = body.octets(2)
    return QuerySmResp(
        message_id=message_id, final_date=final_date, message_state=message_state, error_code=error_code
    )


def _read_alert_notification(body: _Body, _command: Command) -> AlertNotification:
    source_ton, source_npi = body.octets(2)
    source = body.text(65, "source_addr", CommandStatus.ESME_RINVSRCADR)
    esme_ton, esme_npi = body.octets(2)
    esme = body.text(65, "esme_addr", CommandStatus.ESME_RINVDSTADR)
    return AlertNotification(
        source_ton=source_ton,
        source_npi=source_npi,
        source=source,
        esme_ton=esme_ton,
        esme_npi=esme_npi,
        esme=esme,
        tlvs=body.tlvs_of_response(),
    )


def _read_outbind(body: _Body, _command: Command) -> Outbind:
    return Outbind(
        system_id=body.text(16, "system_id", CommandStatus.ESME_RINVSYSID),
        password=body.text(9, "password", CommandStatus.ESME_RINVPASWD),
    )


def _header_only(pdu: Pdu) -> Callable[[_Body, Command], Pdu]:
    def read(body: _Body, _command: Command) -> Pdu:
        body.nothing_more()
        return pdu

    return read


_READERS: Final[dict[Command, Callable[[_Body, Command], Pdu]]] = {
    Command.BIND_RECEIVER: _read_bind,
    Command.BIND_TRANSMITTER: _read_bind,
    Command.BIND_TRANSCEIVER: _read_bind,
    Command.BIND_RECEIVER_RESP: _read_bind_resp,
    Command.BIND_TRANSMITTER_RESP: _read_bind_resp,
    Command.BIND_TRANSCEIVER_RESP: _read_bind_resp,
    Command.SUBMIT_SM: _read_short_message,
    Command.DELIVER_SM: _read_short_message,
    Command.SUBMIT_SM_RESP: lambda body, _: SubmitSmResp(message_id=_message_id(body)),
    Command.DELIVER_SM_RESP: lambda body, _: DeliverSmResp(message_id=_message_id(body)),
    Command.DATA_SM: _read_data_sm,
    Command.DATA_SM_RESP: _read_data_sm_resp,
    Command.QUERY_SM: _read_query_sm,
    Command.QUERY_SM_RESP: _read_query_sm_resp,
    Command.ALERT_NOTIFICATION: _read_alert_notification,
    Command.OUTBIND: _read_outbind,
    Command.ENQUIRE_LINK: _header_only(EnquireLink()),
    Command.ENQUIRE_LINK_RESP: _header_only(EnquireLinkResp()),
    Command.UNBIND: _header_only(Unbind()),
    Command.UNBIND_RESP: _header_only(UnbindResp()),
    Command.GENERIC_NACK: _header_only(GenericNack()),
}
