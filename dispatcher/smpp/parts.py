"""Whether a text is one part of a longer one, however that is told: by a header before it, or by parameters."""

from dispatcher.encoding import Concatenation, read_header
from dispatcher.smpp.pdu import DataSm, EsmClass, ShortMessage, Tag, Tlv, tlv

_UDHI = int(EsmClass.UDHI)  # as a plain number: this is asked of every submit


def part_of(pdu: ShortMessage | DataSm) -> tuple[Concatenation | None, bytes]:
    """Part information, None if there is none, and the text's octets without a header.

    Where both are there the header counts: it is what the handset made.
    """
    user_data = pdu.user_data
    if pdu.esm_class & _UDHI:
        found, user_data = read_header(user_data)
        if found:
            return found, user_data
    return (_sar(pdu.tlvs) if pdu.tlvs else None), user_data


def _sar(tlvs: tuple[Tlv, ...]) -> Concatenation | None:
    """From sar_msg_ref_num, sar_total_segments and sar_segment_seqnum, which mean something only together."""
    reference = tlv(tlvs, Tag.SAR_MSG_REF_NUM)
    total = tlv(tlvs, Tag.SAR_TOTAL_SEGMENTS)
    number = tlv(tlvs, Tag.SAR_SEGMENT_SEQNUM)
    if not (reference and total and number):
        return None
    return Concatenation(reference=int.from_bytes(reference[:2], "big"), total=total[0], number=number[0])
