"""PDUs to frames, by the tables of SMPP v3.4 sections 4 and 5.

Encoding refuses (ValueError) what would be cut or misread at the other end, before a single octet is sent.
"""

import struct
from collections.abc import Callable
from typing import Any, Final

from dispatcher.smpp.pdu import (
    HEADER_SIZE,
    MAX_SHORT_MESSAGE,
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
    ShortMessage,
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


def encode(pdu: Pdu, sequence: int, status: int = CommandStatus.ESME_ROK) -> bytes:
    """The frame of a PDU. Raises ValueError that names the field which does not fit."""
    command, write = _WRITERS[type(pdu)]
    body = write(pdu) if write else b""
    return _HEADER.pack(HEADER_SIZE + len(body), command or _bind_command(pdu), status, sequence) + body


def command_of(pdu: Pdu) -> Command:
    """The command_id that the PDU is sent under."""
    return _WRITERS[type(pdu)][0] or _bind_command(pdu)


def _bind_command(pdu: Pdu) -> Command:
    assert isinstance(pdu, Bind | BindResp)  # noqa: S101 # for mypy: only these are listed without a command
    return Command(pdu.mode if isinstance(pdu, Bind) else pdu.mode | _RESPONSE_BIT)


def _text(text: str, size: int, name: str) -> bytes:
    if not text:
        return b"\0"
    octets = text.encode("latin-1")
    if len(octets) >= size:
        raise ValueError(f"{name} is longer than {size - 1} octets")
    if 0 in octets:
        raise ValueError(f"{name} holds a NUL")
    return octets + b"\0"


def _tlvs(tlvs: tuple[Tlv, ...]) -> bytes:
    if any(len(value) > 0xFFFF for _, value in tlvs):
        raise ValueError("an optional parameter is longer than 65535 octets")
    return b"".join(_TLV.pack(tag, len(value)) + value for tag, value in tlvs)


def _write_bind(pdu: Bind) -> bytes:
    return b"".join((
        _text(pdu.system_id, 16, "system_id"),
        _text(pdu.password, 9, "password"),
        _text(pdu.system_type, 13, "system_type"),
        bytes((pdu.interface_version, pdu.addr_ton, pdu.addr_npi)),
        _text(pdu.address_range, 41, "address_range"),
    ))  # fmt: skip


def _write_bind_resp(pdu: BindResp) -> bytes:
    return _text(pdu.system_id, 16, "system_id") + _tlvs(pdu.tlvs)


def _write_short_message(pdu: ShortMessage) -> bytes:
    text = pdu.short_message
    if len(text) > MAX_SHORT_MESSAGE:
        raise ValueError(f"short_message is longer than {MAX_SHORT_MESSAGE} octets; use MESSAGE_PAYLOAD")
    return b"".join((
        _text(pdu.service_type, 6, "service_type"),
        bytes((pdu.source_ton, pdu.source_npi)),
        _text(pdu.source, 21, "source_addr"),
        bytes((pdu.destination_ton, pdu.destination_npi)),
        _text(pdu.destination, 21, "destination_addr"),
        bytes((pdu.esm_class, pdu.protocol_id, pdu.priority)),
        _text(pdu.schedule_delivery_time, 17, "schedule_delivery_time"),
        _text(pdu.validity_period, 17, "validity_period"),
        bytes((
            pdu.registered_delivery,
            pdu.replace_if_present,
            pdu.data_coding,
            pdu.sm_default_msg_id,
            len(text),
        )),
        text,
        _tlvs(pdu.tlvs) if pdu.tlvs else b"",
    ))  # fmt: skip


def _write_data_sm(pdu: DataSm) -> bytes:
    return b"".join((
        _text(pdu.service_type, 6, "service_type"),
        bytes((pdu.source_ton, pdu.source_npi)),
        _text(pdu.source, 65, "source_addr"),
        bytes((pdu.destination_ton, pdu.destination_npi)),
        _text(pdu.destination, 65, "destination_addr"),
        bytes((pdu.esm_class, pdu.registered_delivery, pdu.data_coding)),
        _tlvs(pdu.tlvs),
    ))  # fmt: skip


def _write_message_id(pdu: SubmitSmResp | DeliverSmResp) -> bytes:
    return _text(pdu.message_id, 65, "message_id")


def _write_data_sm_resp(pdu: DataSmResp) -> bytes:
    return _text(pdu.message_id, 65, "message_id") + _tlvs(pdu.tlvs)


def _write_query_sm(pdu: QuerySm) -> bytes:
    return b"".join((
        _text(pdu.message_id, 65, "message_id"),
        bytes((pdu.source_ton, pdu.source_npi)),
        _text(pdu.source, 21, "source_addr"),
    ))  # fmt: skip


def _write_query_sm_resp(pdu: QuerySmResp) -> bytes:
    return b"".join((
        _text(pdu.message_id, 65, "message_id"),
        _text(pdu.final_date, 17, "final_date"),
        bytes((pdu.message_state, pdu.error_code)),
    ))  # fmt: skip


def _write_alert_notification(pdu: AlertNotification) -> bytes:
    return b"".join((
        bytes((pdu.source_ton, pdu.source_npi)),
        _text(pdu.source, 65, "source_addr"),
        bytes((pdu.esme_ton, pdu.esme_npi)),
        _text(pdu.esme, 65, "esme_addr"),
        _tlvs(pdu.tlvs),
    ))  # fmt: skip


def _write_outbind(pdu: Outbind) -> bytes:
    return _text(pdu.system_id, 16, "system_id") + _text(pdu.password, 9, "password")


# The command is None where the bind's mode decides it. Any: a writer takes the type it is listed under.
_WRITERS: Final[dict[type[Pdu], tuple[Command | None, Callable[[Any], bytes] | None]]] = {
    Bind: (None, _write_bind),
    BindResp: (None, _write_bind_resp),
    SubmitSm: (Command.SUBMIT_SM, _write_short_message),
    SubmitSmResp: (Command.SUBMIT_SM_RESP, _write_message_id),
    DeliverSm: (Command.DELIVER_SM, _write_short_message),
    DeliverSmResp: (Command.DELIVER_SM_RESP, _write_message_id),
    DataSm: (Command.DATA_SM, _write_data_sm),
    DataSmResp: (Command.DATA_SM_RESP, _write_data_sm_resp),
    QuerySm: (Command.QUERY_SM, _write_query_sm),
    QuerySmResp: (Command.QUERY_SM_RESP, _write_query_sm_resp),
    AlertNotification: (Command.ALERT_NOTIFICATION, _write_alert_notification),
    Outbind: (Command.OUTBIND, _write_outbind),
    EnquireLink: (Command.ENQUIRE_LINK, None),
    EnquireLinkResp: (Command.ENQUIRE_LINK_RESP, None),
    Unbind: (Command.UNBIND, None),
    UnbindResp: (Command.UNBIND_RESP, None),
    GenericNack: (Command.GENERIC_NACK, None),
}
