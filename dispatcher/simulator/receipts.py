"""What the simulated carrier tells of a text that it took: receipts, replies in parts, and answers to queries."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final

from dispatcher.encoding import choose, data_coding, encode, segment_octets, split
from dispatcher.simulator.faults import Form, PartsAs, Stat
from dispatcher.smpp.compose import sar
from dispatcher.smpp.pdu import DataSm, DeliverSm, EsmClass, QuerySmResp, Tag, Tlv
from dispatcher.smpp.submission import Submit

_MESSAGE_STATE: Final = {
    Stat.DELIVRD: 2,
    Stat.EXPIRED: 3,
    Stat.DELETED: 4,
    Stat.UNDELIV: 5,
    Stat.ACCEPTD: 6,
    Stat.UNKNOWN: 7,
    Stat.REJECTD: 8,
}
_UNDER_WAY: Final = 1  # ENROUTE
_PRINTABLE: Final = bytes(octet if 32 <= octet < 127 else ord("?") for octet in range(256))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Taken:
    """A text on its way to its outcome; `link` is the connection that it came over."""

    link: Any
    submit: Submit
    message_id: str
    text: str
    at: datetime
    receipt: bool  # whether one is brought


def receipt(taken: Taken, stat: Stat, now: datetime, form: Form) -> DeliverSm:
    """A delivery receipt in text form, in optional parameters, or both (appendix B; 5.3.2.12, 5.3.2.35)."""
    delivered = stat is Stat.DELIVRD
    beginning = taken.text[:20].encode("ascii", "replace").translate(_PRINTABLE)
    head = (
        f"id:{taken.message_id} sub:001 dlvrd:{int(delivered):03} submit date:{taken.at:%y%m%d%H%M} "
        f"done date:{now:%y%m%d%H%M} stat:{stat} err:{'000' if delivered else '001'} text:"
    )
    tlvs: tuple[Tlv, ...] = (
        (Tag.RECEIPTED_MESSAGE_ID, taken.message_id.encode() + b"\0"),
        (Tag.MESSAGE_STATE, bytes((_MESSAGE_STATE[stat],))),
    )
    return DeliverSm(
        source=taken.submit.destination,
        source_ton=taken.submit.destination_ton,
        source_npi=taken.submit.destination_npi,
        destination=taken.submit.source,
        destination_ton=taken.submit.source_ton,
        destination_npi=taken.submit.source_npi,
        esm_class=EsmClass.RECEIPT,
        data_coding=1,
        short_message=b"" if form is Form.TLV else head.encode("ascii") + beginning,
        tlvs=() if form is Form.TEXT else tlvs,
    )


def reply_parts(
    *, source: str, destination: str, text: str, reference: int, parts_as: PartsAs
) -> list[DeliverSm]:
    """A customer's text, in as many parts as it takes."""
    encoding = choose(text)
    bodies = split(text, encoding)
    whole = DeliverSm(source=source, destination=destination, data_coding=data_coding(encoding))
    if len(bodies) == 1:
        return [replace(whole, short_message=encode(text, encoding))]
    if parts_as is PartsAs.SAR:
        return [
            replace(whole, short_message=encode(body, encoding), tlvs=sar(reference, len(bodies), number))
            for number, body in enumerate(bodies, 1)
        ]
    return [
        replace(
            whole,
            esm_class=EsmClass.UDHI,
            short_message=segment_octets(text, encoding, number=number, reference=reference),
        )
        for number in range(1, len(bodies) + 1)
    ]


_SHARED: Final = frozenset(field.name for field in fields(DataSm)) & frozenset(
    field.name for field in fields(DeliverSm)
)


def as_data_sm(pdu: DeliverSm) -> DataSm:
    """The same, told by data_sm."""
    shared = {name: getattr(pdu, name) for name in _SHARED}
    payload: Sequence[Tlv] = ((Tag.MESSAGE_PAYLOAD, pdu.user_data),) if pdu.user_data else ()
    return DataSm(**(shared | {"tlvs": (*pdu.tlvs, *payload)}))


def told_of(message_id: str, stat: Stat | None) -> QuerySmResp:
    """The answer to a query; None: the text is still under way."""
    if stat is None:
        return QuerySmResp(message_id=message_id, message_state=_UNDER_WAY)
    return QuerySmResp(
        message_id=message_id,
        final_date=f"{datetime.now(UTC):%y%m%d%H%M%S}000+",
        message_state=_MESSAGE_STATE[stat],
        error_code=0 if stat is Stat.DELIVRD else 1,
    )
