"""Makes the submit_sm of one claimed segment.

All segments of a message carry the same concatenation reference, taken from the message's id, so that any
dispatcher can send any of them, and a segment that is sent again after doubt is recognised by the handset.
"""

from typing import Final, Literal

from dispatcher.encoding import count_segments, data_coding, segment_octets
from dispatcher.model import Claim
from dispatcher.smpp.pdu import EsmClass, Npi, SubmitSm, Tag, Ton

_SHORT_CODE_DIGITS: Final = 8  # longer sources are ordinary numbers
LONGEST_VALIDITY_S: Final = (
    30 * 86_400.0
)  # beyond it come months, of any length, and no carrier keeps a text so long


def compose(
    claim: Claim, long_text: Literal["udh", "payload"], *, expires_in_s: float | None = None
) -> SubmitSm:
    """The PDU of a claim; `long_text` is the carrier's setting: where the parts of a longer text are carried.

    `expires_in_s` counts from now: the carrier is told to give up by then, for it may keep a text for days.

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
        validity_period=validity_period(expires_in_s),
        registered_delivery=1,
        short_message=b"" if in_payload else user_data,
        tlvs=((Tag.MESSAGE_PAYLOAD, user_data),) if in_payload else (),
    )


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
