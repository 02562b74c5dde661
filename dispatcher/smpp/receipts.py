"""What a carrier brings: delivery receipts in text form or optional parameters, and customers' replies.

The text form is in SMPP v3.4, appendix B: "id:... sub:... dlvrd:... submit date:... done date:... stat:...
err:... text:...". Every SMSC varies it, so each field is looked for by its name, in any case, and may be
missing; the optional parameters receipted_message_id and message_state win where both are there. Times have
no zone in the protocol and are read as UTC. A receipt without an id tells nothing and is `UnusableError`.
A reply that says that it is a part, by a header or by parameters, is one: the store knows what else has come.
"""

import hashlib
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from dispatcher.alphabets import text_of
from dispatcher.model import Receipt, Reply, ReplyPart, State
from dispatcher.smpp.parts import part_of
from dispatcher.smpp.pdu import DataSm, DeliverSm, EsmClass, Tag, Tlv, tlv

_BY_STAT: Final = {
    "DELIVRD": State.DELIVERED,
    "EXPIRED": State.EXPIRED,
    "DELETED": State.UNDELIVERED,
    "UNDELIV": State.UNDELIVERED,
    "ACCEPTD": State.SUBMITTED,
    "ENROUTE": State.SUBMITTED,
    "UNKNOWN": State.UNKNOWN,
    "REJECTD": State.REJECTED,
}
_BY_MESSAGE_STATE: Final = {  # table 5-6
    1: State.SUBMITTED,
    2: State.DELIVERED,
    3: State.EXPIRED,
    4: State.UNDELIVERED,
    5: State.UNDELIVERED,
    6: State.SUBMITTED,
    7: State.UNKNOWN,
    8: State.REJECTED,
}
_FIELD: Final = re.compile(
    r"\b(?P<name>id|done\s?date|stat|err):\s*(?P<value>[^\s:]+)(?=\s|$)", re.IGNORECASE | re.ASCII
)
_TEXT: Final = re.compile(r"\btext:(?P<text>.*)\Z", re.IGNORECASE | re.DOTALL)
LONGEST_PART: Final = 1_000  # octets; what is longer is no part of anything, and stands for itself
_LONGEST_ID: Final = 65  # SMPP 3.4, 5.3.2.12 receipted_message_id


class UnusableError(ValueError):
    """It arrived, and nothing can be learned from it."""


def read(carrier: str, pdu: DeliverSm | DataSm, now: datetime) -> Receipt | Reply | ReplyPart:
    """What the carrier brought. Raises UnusableError."""
    kind = pdu.esm_class & EsmClass.TYPE_MASK
    if kind in {EsmClass.RECEIPT, EsmClass.INTERMEDIATE} or tlv(pdu.tlvs, Tag.RECEIPTED_MESSAGE_ID):
        return _receipt(carrier, pdu)
    return _reply(carrier, pdu, now)


def _receipt(carrier: str, pdu: DeliverSm | DataSm) -> Receipt:
    text = text_of(part_of(pdu)[1], pdu.data_coding)
    body = _TEXT.search(text)
    head = text[: body.start()] if body else text
    fields = {m["name"].lower().replace(" ", ""): m["value"] for m in _FIELD.finditer(head)}
    message_id = _c_octets(tlv(pdu.tlvs, Tag.RECEIPTED_MESSAGE_ID)) or fields.get("id", "")
    if not message_id:
        raise UnusableError("a receipt without an id")
    if len(message_id) > _LONGEST_ID:
        raise UnusableError(f"a receipt with an id of {len(message_id)} characters, more than {_LONGEST_ID}")
    state = _message_state(pdu.tlvs) or _BY_STAT.get(fields.get("stat", "").upper()[:7])
    if state is None:
        raise UnusableError(f"a receipt with the unknown state {fields.get('stat', '')[:20]!r}")
    return Receipt(
        carrier=carrier,
        carrier_message_id=message_id,
        state=state,
        source=pdu.source,
        destination=pdu.destination,
        text=body["text"] if body else "",
        error=fields.get("err") or _network_error(pdu.tlvs),
        done_at=time_of(fields.get("donedate", "")),
    )


def _reply(carrier: str, pdu: DeliverSm | DataSm, now: datetime) -> Reply | ReplyPart:
    part, octets = part_of(pdu)
    fingerprint = hashlib.sha256()
    for told in (carrier, pdu.source, pdu.destination, f"{pdu.esm_class}/{pdu.data_coding}"):
        fingerprint.update(told.encode() + b"\0")
    fingerprint.update(pdu.user_data)
    if part is None or not 1 <= part.number <= part.total or part.total == 1 or len(octets) > LONGEST_PART:
        return Reply(
            carrier=carrier,
            source=pdu.source,
            destination=pdu.destination,
            text=text_of(octets, pdu.data_coding),
            received_at=now,
            fingerprint=fingerprint.digest(),
        )
    if not pdu.esm_class & EsmClass.UDHI:  # else the header is among the octets above
        fingerprint.update(f"\0{part.reference}/{part.total}/{part.number}".encode())
    return ReplyPart(
        carrier=carrier,
        source=pdu.source,
        destination=pdu.destination,
        reference=part.reference,
        total=part.total,
        number=part.number,
        coding=pdu.data_coding,
        octets=octets,
        received_at=now,
        fingerprint=fingerprint.digest(),
    )


def state_of(message_state: int) -> State | None:
    """What a message_state (table 5-6) makes of a segment; None for one that is not defined."""
    return _BY_MESSAGE_STATE.get(message_state)


def _message_state(tlvs: tuple[Tlv, ...]) -> State | None:
    value = tlv(tlvs, Tag.MESSAGE_STATE)
    return state_of(value[0]) if value else None


def _network_error(tlvs: tuple[Tlv, ...]) -> str:
    value = tlv(tlvs, Tag.NETWORK_ERROR_CODE)
    return str(int.from_bytes(value[1:3], "big")) if value and len(value) == 3 else ""


def _c_octets(value: bytes | None) -> str:
    return value.split(b"\0", 1)[0].decode("latin-1") if value else ""


def time_of(text: str) -> datetime | None:
    """YYMMDDhhmm, with seconds or not, and with the century or not."""
    if len(text) not in {10, 12, 14} or not (text.isascii() and text.isdigit()):
        return None
    digits = text if len(text) == 14 else ("20" + text).ljust(14, "0")
    month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(4, 14, 2))
    with suppress(ValueError):
        return datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC)
    return None
