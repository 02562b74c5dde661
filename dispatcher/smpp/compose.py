"""Makes the submit_sm of one claimed segment.

All segments of a message carry the same concatenation reference, taken from the message's id, so that any
dispatcher can send any of them, and a segment that is sent again after doubt is recognised by the handset.
"""

from typing import Final, Literal

from dispatcher.encoding import count_segments, data_coding, segment_octets
from dispatcher.model import Claim
from dispatcher.smpp.pdu import EsmClass, Npi, SubmitSm, Tag, Ton

_SHORT_CODE_DIGITS: Final = 8  # longer sources are ordinary numbers


def compose(claim: Claim, long_text: Literal["udh", "payload"]) -> SubmitSm:
    """The PDU of a claim; `long_text` is the carrier's setting: where the parts of a longer text are carried.

    Raises ValueError when the claim's body has no such segment or cannot be encoded.
    """
    if (parts := count_segments(claim.body, claim.encoding)) != claim.segments:
        raise ValueError(f"the body has {parts} segments, and the claim says {claim.segments}")
    user_data = segment_octets(
        claim.body, claim.encoding, number=claim.segment, reference=claim.message_id.bytes[-1]
    )
    in_payload = claim.segments > 1 and long_text == "payload"
    source_ton, source_npi = _source_kind(claim.source)
    return SubmitSm(
        source=claim.source.removeprefix("+"),
        source_ton=source_ton,
        source_npi=source_npi,
        destination=claim.to.removeprefix("+"),
        destination_ton=Ton.INTERNATIONAL,
        destination_npi=Npi.ISDN,
        esm_class=EsmClass.UDHI if claim.segments > 1 else EsmClass.DEFAULT,
        data_coding=data_coding(claim.encoding),
        registered_delivery=1,
        short_message=b"" if in_payload else user_data,
        tlvs=((Tag.MESSAGE_PAYLOAD, user_data),) if in_payload else (),
    )


def _source_kind(source: str) -> tuple[Ton, Npi]:
    digits = source.removeprefix("+")
    if not digits.isdigit():
        return Ton.ALPHANUMERIC, Npi.UNKNOWN
    if len(digits) <= _SHORT_CODE_DIGITS:
        return Ton.ABBREVIATED, Npi.UNKNOWN
    return Ton.INTERNATIONAL, Npi.ISDN
