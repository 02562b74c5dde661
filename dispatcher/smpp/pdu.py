"""The PDUs of SMPP v3.4 that an ESME and our simulated SMSC exchange, as plain values.

Bodies only: the sequence number and the command_status belong to the header and are given to
`writer.encode` and come back in `reader.Received`, so that a submit_sm can be made long before it is sent.
Text fields are C-octet strings on the wire: Latin-1 without NUL here (the specification says ASCII; Latin-1
keeps every octet that a careless carrier sends). Reader and writer judge the sizes of fields, nobody their
values.
"""

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final

HEADER_SIZE: Final = 16
MAX_SEQUENCE: Final = 0x7FFFFFFF
MAX_SHORT_MESSAGE: Final = 254  # longer text goes into the MESSAGE_PAYLOAD parameter

Tlv = tuple[int, bytes]  # tag and value; unknown tags are kept and passed over


class Command(IntEnum):
    """command_id of section 5.1.2.1 that we speak; any other is answered with generic_nack."""

    GENERIC_NACK = 0x80000000
    BIND_RECEIVER = 0x00000001
    BIND_RECEIVER_RESP = 0x80000001
    BIND_TRANSMITTER = 0x00000002
    BIND_TRANSMITTER_RESP = 0x80000002
    QUERY_SM = 0x00000003
    QUERY_SM_RESP = 0x80000003
    SUBMIT_SM = 0x00000004
    SUBMIT_SM_RESP = 0x80000004
    DELIVER_SM = 0x00000005
    DELIVER_SM_RESP = 0x80000005
    UNBIND = 0x00000006
    UNBIND_RESP = 0x80000006
    BIND_TRANSCEIVER = 0x00000009
    BIND_TRANSCEIVER_RESP = 0x80000009
    OUTBIND = 0x0000000B
    ENQUIRE_LINK = 0x00000015
    ENQUIRE_LINK_RESP = 0x80000015
    ALERT_NOTIFICATION = 0x00000102  # has no response
    DATA_SM = 0x00000103
    DATA_SM_RESP = 0x80000103


class BindMode(IntEnum):
    """How an ESME binds; the values are the command_ids of the three requests."""

    RECEIVER = Command.BIND_RECEIVER
    TRANSMITTER = Command.BIND_TRANSMITTER
    TRANSCEIVER = Command.BIND_TRANSCEIVER


class Ton(IntEnum):
    """Type of number, section 5.2.5."""

    UNKNOWN = 0
    INTERNATIONAL = 1
    NATIONAL = 2
    NETWORK_SPECIFIC = 3
    SUBSCRIBER = 4
    ALPHANUMERIC = 5
    ABBREVIATED = 6  # a short code


class Npi(IntEnum):
    """Numbering plan indicator, section 5.2.6."""

    UNKNOWN = 0
    ISDN = 1  # E.163/E.164


class EsmClass(IntFlag):
    """esm_class, section 5.2.12 (the bits that we use)."""

    DEFAULT = 0x00
    RECEIPT = 0x04  # bits 5-2 = 0001: an SMSC delivery receipt
    INTERMEDIATE = 0x20  # an intermediate delivery notification
    TYPE_MASK = 0x3C
    UDHI = 0x40  # the user data begins with a header


class Tag(IntEnum):
    """Optional parameters that we read or write, section 5.3.2."""

    QOS_TIME_TO_LIVE = 0x0017
    SC_INTERFACE_VERSION = 0x0210
    USER_MESSAGE_REFERENCE = 0x0204
    SAR_MSG_REF_NUM = 0x020C
    SAR_TOTAL_SEGMENTS = 0x020E
    SAR_SEGMENT_SEQNUM = 0x020F
    RECEIPTED_MESSAGE_ID = 0x001E
    MS_AVAILABILITY_STATUS = 0x0422
    NETWORK_ERROR_CODE = 0x0423
    MESSAGE_PAYLOAD = 0x0424
    MESSAGE_STATE = 0x0427


@dataclass(frozen=True, kw_only=True, slots=True)
class Bind:
    """bind_receiver, bind_transmitter or bind_transceiver."""

    mode: BindMode
    system_id: str
    password: str = field(repr=False)
    system_type: str = ""
    interface_version: int = 0x34
    addr_ton: int = 0
    addr_npi: int = 0
    address_range: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class BindResp:
    mode: BindMode
    system_id: str = ""
    tlvs: tuple[Tlv, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ShortMessage:
    """The body that submit_sm and deliver_sm share (tables 4-10 and 4-12)."""

    source: str
    destination: str
    short_message: bytes = b""  # at most 254 octets; longer text goes into the MESSAGE_PAYLOAD parameter
    source_ton: int = Ton.UNKNOWN
    source_npi: int = Npi.UNKNOWN
    destination_ton: int = Ton.UNKNOWN
    destination_npi: int = Npi.UNKNOWN
    esm_class: int = EsmClass.DEFAULT
    data_coding: int = 0
    registered_delivery: int = 0  # 1: a receipt for success and failure
    service_type: str = ""
    protocol_id: int = 0
    priority: int = 0
    schedule_delivery_time: str = ""
    validity_period: str = ""
    replace_if_present: int = 0
    sm_default_msg_id: int = 0
    tlvs: tuple[Tlv, ...] = ()

    @property
    def user_data(self) -> bytes:
        """The text with its header, from wherever it is carried."""
        return self.short_message or tlv(self.tlvs, Tag.MESSAGE_PAYLOAD) or b""


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitSm(ShortMessage):
    """A text to a customer (MT)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliverSm(ShortMessage):
    """A receipt, or a text from a customer (MO)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitSmResp:
    message_id: str = ""  # absent on the wire when the command_status is an error


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliverSmResp:
    message_id: str = ""  # unused by the specification, always empty


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSm:
    """data_sm (table 4-14): like deliver_sm, but the text is always in MESSAGE_PAYLOAD."""

    source: str
    destination: str
    source_ton: int = Ton.UNKNOWN
    source_npi: int = Npi.UNKNOWN
    destination_ton: int = Ton.UNKNOWN
    destination_npi: int = Npi.UNKNOWN
    esm_class: int = EsmClass.DEFAULT
    data_coding: int = 0
    registered_delivery: int = 0
    service_type: str = ""
    tlvs: tuple[Tlv, ...] = ()

    @property
    def user_data(self) -> bytes:
        return tlv(self.tlvs, Tag.MESSAGE_PAYLOAD) or b""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSmResp:
    message_id: str = ""
    tlvs: tuple[Tlv, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class QuerySm:
    """query_sm (table 4-20): what became of a text; `source` as it was in the submit."""

    message_id: str
    source: str
    source_ton: int = Ton.UNKNOWN
    source_npi: int = Npi.UNKNOWN


@dataclass(frozen=True, kw_only=True, slots=True)
class QuerySmResp:
    """The state as in table 5-6; meaningful only with ESME_ROK, and absent on the wire with most errors."""

    message_id: str = ""
    final_date: str = ""  # empty while the text is under way
    message_state: int = 0
    error_code: int = 0  # the network's


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertNotification:
    """A number can be reached again (table 4-24). Nobody asked for it here; it is passed over."""

    source: str
    esme: str
    source_ton: int = Ton.UNKNOWN
    source_npi: int = Npi.UNKNOWN
    esme_ton: int = Ton.UNKNOWN
    esme_npi: int = Npi.UNKNOWN
    tlvs: tuple[Tlv, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Outbind:
    """A carrier asks to be bound to (table 4-4). We bind by ourselves; it is passed over."""

    system_id: str
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class EnquireLink:
    pass


@dataclass(frozen=True, slots=True)
class EnquireLinkResp:
    pass


@dataclass(frozen=True, slots=True)
class Unbind:
    pass


@dataclass(frozen=True, slots=True)
class UnbindResp:
    pass


@dataclass(frozen=True, slots=True)
class GenericNack:
    """The answer to what could not be understood; its command_status says why."""


Pdu = (
    Bind
    | BindResp
    | SubmitSm
    | SubmitSmResp
    | DeliverSm
    | DeliverSmResp
    | DataSm
    | DataSmResp
    | QuerySm
    | QuerySmResp
    | AlertNotification
    | Outbind
    | EnquireLink
    | EnquireLinkResp
    | Unbind
    | UnbindResp
    | GenericNack
)


def tlv(tlvs: tuple[Tlv, ...], tag: int) -> bytes | None:
    """The first value of `tag`, or None."""
    return next((value for found, value in tlvs if found == tag), None)
