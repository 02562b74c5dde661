"""What octets from a carrier, or from whoever reached the port, may do to us: nothing but what is promised here.

`one` takes any octets and raises AssertionError, or whatever escaped, where a promise is broken:

- a frame is read, or refused with `MalformedError`; what was read can be written, and is then read again as the same;
- a stream ends or goes on, at either end and in whatever pieces it comes; each answer to it is a frame that can be
  read, and there is at most one for each frame that came, with one more for a frame that never ends;
- what a carrier brings is a receipt, a reply, a part of one, or unusable; its text can be stored.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from dispatcher.carrier_ids import carrier_id
from dispatcher.model import Receipt, ReplyPart
from dispatcher.replies import join
from dispatcher.smpp.conversation import Conversation
from dispatcher.smpp.pdu import (
    HEADER_SIZE,
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
    Outbind,
    Pdu,
    QuerySm,
    QuerySmResp,
    SubmitSm,
    SubmitSmResp,
    Tag,
    Unbind,
    UnbindResp,
)
from dispatcher.smpp.reader import MalformedError, decode
from dispatcher.smpp.receipts import UnusableError, read
from dispatcher.smpp.session import Role, State
from dispatcher.smpp.writer import encode

NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BIND: Final = Bind(mode=BindMode.TRANSCEIVER, system_id="hotsite", password="secret")
BOTH: Final = {"source": "15550001111", "destination": "12345"}
RECEIPT: Final = (
    b"id:0af3 sub:001 dlvrd:001 submit date:2601020304 done date:2601020305 stat:DELIVRD err:000 text:Power"
)
EXAMPLES: Final[tuple[Pdu, ...]] = (
    BIND,
    BindResp(mode=BindMode.TRANSCEIVER, system_id="smsc", tlvs=((Tag.SC_INTERFACE_VERSION, b"\x34"),)),
    SubmitSm(**BOTH, short_message=b"hello", validity_period="000001020304000R"),
    SubmitSmResp(message_id="0af3"),
    DeliverSm(
        **BOTH, esm_class=4, short_message=RECEIPT, tlvs=((Tag.MESSAGE_STATE, b"\x02"), (0x1400, b"x"))
    ),
    DeliverSm(
        **BOTH, esm_class=0x40, data_coding=8, short_message=b"\x05\x00\x03\x07\x02\x01\x04\x31\xd8\x3d"
    ),
    DeliverSm(
        **BOTH,
        short_message=b"a part",
        tlvs=(
            (Tag.SAR_MSG_REF_NUM, b"\0\x07"),
            (Tag.SAR_TOTAL_SEGMENTS, b"\2"),
            (Tag.SAR_SEGMENT_SEQNUM, b"\2"),
        ),
    ),
    DeliverSmResp(),
    DataSm(**BOTH, esm_class=4, tlvs=((Tag.RECEIPTED_MESSAGE_ID, b"0af3\0"), (Tag.MESSAGE_STATE, b"\x05"))),
    DataSm(**BOTH, tlvs=((Tag.MESSAGE_PAYLOAD, b"STOP"), (Tag.NETWORK_ERROR_CODE, b"\3\0\1"))),
    DataSmResp(message_id="7"),
    QuerySm(message_id="0af3", source="12345"),
    QuerySmResp(message_id="0af3", final_date="261127083000000+", message_state=2),
    AlertNotification(source="15550001111", esme="12345"),
    Outbind(system_id="smsc", password="secret"),
    EnquireLink(),
    EnquireLinkResp(),
    Unbind(),
    UnbindResp(),
    GenericNack(),
)


def one(data: bytes) -> None:
    """Try all of it on `data`."""
    _read_one(data)
    _talk(data)


def seeds() -> Iterable[bytes]:
    """Octets that lead deep into the code: begin with these."""
    frames = [encode(pdu, number) for number, pdu in enumerate(EXAMPLES, 1)]
    yield from frames
    yield b"\x01" + b"".join(frames[3:])
    yield b"\x22" + b"".join(frames[2::3])


def _read_one(data: bytes) -> None:
    if len(data) < HEADER_SIZE:
        return
    try:
        received = decode(data)
    except MalformedError:
        return
    again = (
        decode(encode(received.pdu, received.sequence, received.status)) if _fits(received.pdu) else received
    )
    assert (again.command, again.sequence, again.pdu) == (received.command, received.sequence, received.pdu)
    if isinstance(received.pdu, DeliverSm | DataSm):
        _bring(received.pdu)
    if isinstance(received.pdu, SubmitSmResp | DataSmResp):
        readings = carrier_id(received.pdu.message_id).readings
        assert len(readings) <= 3


def _fits(pdu: Pdu) -> bool:
    """Whether its id is as long as we would write one: a longer one is read, but not written."""
    return len(getattr(pdu, "message_id", "")) < 65


def _bring(pdu: DeliverSm | DataSm) -> None:
    try:
        found = read("aurora", pdu, NOW)
    except UnusableError:
        return
    if isinstance(found, ReplyPart):
        assert 1 <= found.number <= found.total <= 255
        found = join([found])
    found.text.encode()
    assert "\0" not in found.text
    if isinstance(found, Receipt):
        carrier_id(found.carrier_message_id)


def _talk(data: bytes) -> None:
    """As a stream, to either end; the first octet says to which, and in what pieces."""
    if not data:
        return
    role = Role.ESME if data[0] & 1 else Role.SMSC
    step = 1 + (data[0] >> 1) % 64
    conversation = _bound(role)
    frames = 0
    for at in range(1, len(data), step):
        piece = data[at : at + step]
        accepted = conversation.feed(piece)
        frames += len(accepted)
        for received in accepted:
            if isinstance(received.pdu, EnquireLink):
                conversation.reply(EnquireLinkResp(), received.sequence)
            elif isinstance(received.pdu, Unbind):
                conversation.reply(UnbindResp(), received.sequence)
        assert len(conversation.replies) <= 1 + len(piece)
        for reply in conversation.replies:
            assert decode(reply).command & 0x80000000
        conversation.replies.clear()
        conversation.unreadable.clear()
        if conversation.over:
            break
    assert frames + conversation.malformed + conversation.misplaced <= 1 + len(data) // HEADER_SIZE


def _bound(role: Role) -> Conversation:
    conversation = Conversation(role)
    answer = BindResp(mode=BindMode.TRANSCEIVER)
    if role is Role.SMSC:
        conversation.feed(encode(BIND, 1))
        conversation.frame(answer, 1)
    else:
        conversation.frame(BIND, 1)
        conversation.feed(encode(answer, 1))
    assert conversation.state is State.BOUND_TRX
    return conversation
