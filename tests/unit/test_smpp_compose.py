from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.encoding import choose, count_segments
from dispatcher.model import Claim, MessageClass
from dispatcher.smpp.compose import LONGEST_VALIDITY_S, compose, validity_period
from dispatcher.smpp.parts import part_of
from dispatcher.smpp.pdu import EsmClass, Npi, Tag, Ton, tlv
from dispatcher.smpp.reader import decode
from dispatcher.smpp.writer import encode
from sitecontrol.settings_carriers import Carrier, LongText, Request


def carrier(**settings):
    return Carrier(name="aurora", address="127.0.0.1:1", system_id="hotsite", **settings)


UDH, PAYLOAD, SAR = (carrier(long_text=way) for way in LongText)
DATA_SM = carrier(request=Request.DATA_SM)
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
    submit = compose(claim("Power is back."), UDH)
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
    first, second = (compose(claim(body, segment=n), UDH) for n in (1, 2))
    assert first.short_message == b"\x05\x00\x03\xab\x02\x01" + body[:153].encode()
    assert second.short_message == b"\x05\x00\x03\xab\x02\x02" + body[153:].encode()
    assert first.esm_class == second.esm_class == EsmClass.UDHI


def test_a_part_may_be_carried_in_the_payload_parameter():
    body = "ж" * 100
    submit = compose(claim(body, segment=2), PAYLOAD)
    assert submit.short_message == b""
    assert submit.data_coding == 8
    assert tlv(submit.tlvs, Tag.MESSAGE_PAYLOAD) == b"\x05\x00\x03\xab\x02\x02" + body[67:].encode(
        "utf-16-be"
    )
    assert submit.user_data == tlv(submit.tlvs, Tag.MESSAGE_PAYLOAD)


def test_a_part_may_be_told_by_parameters_instead_of_a_header():
    body = "0123456789" * 20
    submit = compose(claim(body, segment=2), SAR)
    assert (submit.short_message, submit.esm_class) == (body[153:].encode(), EsmClass.DEFAULT)
    assert submit.tlvs == (
        (Tag.SAR_MSG_REF_NUM, b"\x00\xab"),
        (Tag.SAR_TOTAL_SEGMENTS, b"\x02"),
        (Tag.SAR_SEGMENT_SEQNUM, b"\x02"),
    )
    assert compose(claim("short"), SAR).tlvs == ()


@pytest.mark.parametrize("way", [LongText.UDH, LongText.SAR])
def test_a_data_sm_carries_what_a_submit_sm_would(way):
    body = "ж" * 100
    data, submit = (
        compose(claim(body, segment=1), carrier(long_text=way, request=request), expires_in_s=90.5)
        for request in (Request.DATA_SM, Request.SUBMIT_SM)
    )
    assert data.user_data == submit.user_data
    assert part_of(data) == part_of(submit)
    assert (data.source, data.destination, data.esm_class, data.data_coding, data.registered_delivery) == (
        submit.source,
        submit.destination,
        submit.esm_class,
        submit.data_coding,
        submit.registered_delivery,
    )
    assert tlv(data.tlvs, Tag.QOS_TIME_TO_LIVE) == (90).to_bytes(4, "big")
    assert decode(encode(data, 1)).pdu == data


def test_a_data_sm_without_an_expiry_tells_none():
    assert tlv(compose(claim("hi"), DATA_SM).tlvs, Tag.QOS_TIME_TO_LIVE) is None


@pytest.mark.parametrize(
    ("source", "ton"),
    [("12345", Ton.ABBREVIATED), ("+15550009999", Ton.INTERNATIONAL), ("AEP", Ton.ALPHANUMERIC)],
)
def test_the_type_of_the_source_is_told(source, ton):
    submit = compose(claim("hi", source=source), UDH)
    assert (submit.source, submit.source_ton) == (source.removeprefix("+"), ton)


def test_a_claim_that_counts_its_segments_wrongly_is_refused():
    with pytest.raises(ValueError, match="the body has 1 segments, and the claim says 3"):
        compose(claim("short", segments=3), UDH)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (None, ""),
        (0.2, "000000000001000R"),
        (59.99, "000000000059000R"),
        (60.0, "000000000100000R"),
        (3_600.0, "000000010000000R"),
        (86_400 + 2 * 3_600 + 3 * 60 + 4.5, "000001020304000R"),
        (30 * 86_400.0, "000030000000000R"),
        (30 * 86_400.0 + 1, ""),
    ],
)
def test_how_long_a_text_is_worth_delivering_is_told_to_the_carrier(seconds, written):
    submit = compose(claim("Power is back."), UDH, expires_in_s=seconds)
    assert submit.validity_period == written
    assert decode(encode(submit, 1)).pdu == submit


@given(st.floats(1, LONGEST_VALIDITY_S))
def test_a_validity_never_reaches_past_the_expiry_nor_ends_a_second_before(seconds):
    day, hour, minute, second = (int(validity_period(seconds)[at : at + 2]) for at in (4, 6, 8, 10))
    assert seconds - 1 < day * 86_400 + hour * 3_600 + minute * 60 + second <= seconds
