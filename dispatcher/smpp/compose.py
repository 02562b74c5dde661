"""Makes the submit_sm or data_sm of one claimed segment.

All segments of a message carry the same concatenation reference, taken from the message's id, so that any
dispatcher can send any of them, and a segment that is sent again after doubt is recognised by the handset.
"""

import struct
from typing import Final

from dispatcher.encoding import count_segments, data_coding, encode, segment_octets, split
from dispatcher.model import Claim
from dispatcher.smpp.pdu import DataSm, EsmClass, Npi, SubmitSm, Tag, Tlv, Ton
from dispatcher.smpp.submission import Submit
from sitecontrol.settings_carriers import Carrier, LongText, Request

_SHORT_CODE_DIGITS: Final = 8  # longer sources are ordinary numbers
LONGEST_VALIDITY_S: Final = (
    30 * 86_400.0
)  # beyond it come months, of any length, and no carrier keeps a text so long


def compose(claim: Claim, carrier: Carrier, *, expires_in_s: float | None = None) -> Submit:
    """The PDU of a claim, as the carrier's settings want it (`request`, `long_text`).

    `expires_in_s` counts from now: the carrier is told to give up by then, for it may keep a text for days.

    Raises ValueError when the claim's body has no such segment or cannot be encoded.
    """
    if (parts := count_segments(claim.body, claim.encoding)) != claim.segments:
        raise ValueError(f"the body has {parts} segments, and the claim says {claim.segments}")
    esm_class, user_data, tlvs = _part(claim, carrier.long_text)
    source_ton, source_npi = _source_kind(claim.source)
    source, destination = claim.source.removeprefix("+"), claim.to.removeprefix("+")
    if carrier.request is Request.DATA_SM:
        return DataSm(
            source=source,
            source_ton=source_ton,
            source_npi=source_npi,
            destination=destination,
            destination_ton=Ton.INTERNATIONAL,
            destination_npi=Npi.ISDN,
            esm_class=esm_class,
            data_coding=data_coding(claim.encoding),
            registered_delivery=1,
            tlvs=(*tlvs, *_time_to_live(expires_in_s), (Tag.MESSAGE_PAYLOAD, user_data)),
        )
    in_payload = claim.segments > 1 and carrier.long_text is LongText.PAYLOAD
    return SubmitSm(
        source=source,
        source_ton=source_ton,
        source_npi=source_npi,
        destination=destination,
        destination_ton=Ton.INTERNATIONAL,
        destination_npi=Npi.ISDN,
        esm_class=esm_class,
        data_coding=data_coding(claim.encoding),
        validity_period=validity_period(expires_in_s),
        registered_delivery=1,
        short_message=b"" if in_payload else user_data,
        tlvs=((Tag.MESSAGE_PAYLOAD, user_data),) if in_payload else tlvs,
    )


def _part(claim: Claim, long_text: LongText) -> tuple[EsmClass, bytes, tuple[Tlv, ...]]:
    """The segment's user data, and what tells that it is a part: a header in it, or parameters beside it."""
    reference = claim.message_id.bytes[-1]
    if claim.segments > 1 and long_text is LongText.SAR:
        body = encode(split(claim.body, claim.encoding)[claim.segment - 1], claim.encoding)
        return EsmClass.DEFAULT, body, sar(reference, claim.segments, claim.segment)
    user_data = segment_octets(claim.body, claim.encoding, number=claim.segment, reference=reference)
    return EsmClass.UDHI if claim.segments > 1 else EsmClass.DEFAULT, user_data, ()


def sar(reference: int, total: int, number: int) -> tuple[Tlv, ...]:
    """The parameters of one part (SMPP v3.4, 5.3.2.22 to 5.3.2.24)."""
    return (
        (Tag.SAR_MSG_REF_NUM, struct.pack(">H", reference)),
        (Tag.SAR_TOTAL_SEGMENTS, bytes((total,))),
        (Tag.SAR_SEGMENT_SEQNUM, bytes((number,))),
    )


def _time_to_live(seconds: float | None) -> tuple[Tlv, ...]:
    """Data_sm has no validity_period, but this (5.3.2.9): whole seconds, rounded down, one at least."""
    if seconds is None or seconds > LONGEST_VALIDITY_S:
        return ()
    return ((Tag.QOS_TIME_TO_LIVE, struct.pack(">I", max(1, int(seconds)))),)


def validity_period(seconds: float | None) -> str:
    """Relative (SMPP v3.4, 7.1.1.2), which needs no agreement of clocks; empty: as long as the carrier likes.

    Whole seconds, rounded down so that the text is not kept past its time, and one at least.
    """
    if seconds is None or seconds > LONGEST_VALIDITY_S:
        return ""
    minutes, second = divmod(max(1, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"0000{day:02}{hour:02}{minute:02}{second:02}000R"


def _source_kind(source: str) -> tuple[Ton, Npi]:
    digits = source.removeprefix("+")
    if not digits.isdigit():
        return Ton.ALPHANUMERIC, Npi.UNKNOWN
    if len(digits) <= _SHORT_CODE_DIGITS:
        return Ton.ABBREVIATED, Npi.UNKNOWN
    return Ton.INTERNATIONAL, Npi.ISDN
