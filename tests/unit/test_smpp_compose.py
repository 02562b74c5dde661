from uuid import UUID

import pytest

from dispatcher.encoding import choose, count_segments
from dispatcher.model import Claim, MessageClass
from dispatcher.smpp.compose import compose
from dispatcher.smpp.pdu import EsmClass, Npi, Tag, Ton, tlv

MESSAGE_ID = UUID(int=0xAB)


def claim(body, segment=1, segments=None, source="12345"):
    encoding = choose(body)
    return Claim(
        claim_id=1,
        message_id=MESSAGE_ID,
        segment=segment,
        segments=segments or count_segments(body, encoding),
        attempt=1,
        account_id=1,
        program_id=1,
        source=source,
        to="+15550001111",
        body=body,
        encoding=encoding,
        message_class=MessageClass.SERVICE,
        expires_in_s=None,
    )


def test_a_short_text_goes_without_a_header_and_asks_for_a_receipt():
    submit = compose(claim("Power is back."), "udh")
    assert submit.short_message == b"Power is back."
    assert (submit.esm_class, submit.data_coding, submit.registered_delivery) == (EsmClass.DEFAULT, 0, 1)
    assert (submit.source, submit.source_ton) == ("12345", Ton.ABBREVIATED)
    assert (submit.destination, submit.destination_ton, submit.destination_npi) == (
        "15550001111",
        Ton.INTERNATIONAL,
        Npi.ISDN,
    )


def test_each_part_of_a_long_text_names_the_same_reference():
    body = "0123456789" * 20
    first, second = (compose(claim(body, segment=n), "udh") for n in (1, 2))
    assert first.short_message == b"\x05\x00\x03\xab\x02\x01" + body[:153].encode()
    assert second.short_message == b"\x05\x00\x03\xab\x02\x02" + body[153:].encode()
    assert first.esm_class == second.esm_class == EsmClass.UDHI


def test_a_part_may_be_carried_in_the_payload_parameter():
    body = "ж" * 100
    submit = compose(claim(body, segment=2), "payload")
    assert submit.short_message == b""
    assert submit.data_coding == 8
    assert tlv(submit.tlvs, Tag.MESSAGE_PAYLOAD) == b"\x05\x00\x03\xab\x02\x02" + body[67:].encode(
        "utf-16-be"
    )
    assert submit.user_data == tlv(submit.tlvs, Tag.MESSAGE_PAYLOAD)


@pytest.mark.parametrize(
    ("source", "ton"),
    [("12345", Ton.ABBREVIATED), ("+15550009999", Ton.INTERNATIONAL), ("AEP", Ton.ALPHANUMERIC)],
)
def test_the_type_of_the_source_is_told(source, ton):
    submit = compose(claim("hi", source=source), "udh")
    assert (submit.source, submit.source_ton) == (source.removeprefix("+"), ton)


def test_a_claim_that_counts_its_segments_wrongly_is_refused():
    with pytest.raises(ValueError, match="the body has 1 segments, and the claim says 3"):
        compose(claim("short", segments=3), "udh")
