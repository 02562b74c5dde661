from datetime import UTC, datetime

import pytest
import smpplib.gsm
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.model import Receipt, Reply, ReplyPart, State
from dispatcher.replies import join
from dispatcher.smpp.compose import sar
from dispatcher.smpp.pdu import DataSm, DeliverSm, EsmClass, Tag
from dispatcher.smpp.receipts import LONGEST_PART, UnusableError, read

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
APPENDIX_B = (
    "id:0123456789 sub:001 dlvrd:001 submit date:2601020304 done date:2601020305 "
    "stat:DELIVRD err:000 text:Power is"
)


def receipt(text, **fields):
    fields = {"esm_class": EsmClass.RECEIPT, "source": "15550001111", "destination": "12345"} | fields
    return read("aurora", DeliverSm(short_message=text.encode("latin-1"), **fields), NOW)


def reply(short_message, **fields):
    fields = {"source": "15550001111", "destination": "12345"} | fields
    return read("aurora", DeliverSm(short_message=short_message, **fields), NOW)


def test_the_text_form_of_appendix_b_is_read():
    assert receipt(APPENDIX_B) == Receipt(
        carrier="aurora",
        carrier_message_id="0123456789",
        state=State.DELIVERED,
        source="15550001111",
        destination="12345",
        text="Power is",
        error="000",
        done_at=datetime(2026, 1, 2, 3, 5, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("stat", "state"),
    [
        ("DELIVRD", State.DELIVERED),
        ("EXPIRED", State.EXPIRED),
        ("DELETED", State.UNDELIVERED),
        ("UNDELIV", State.UNDELIVERED),
        ("ACCEPTD", State.SUBMITTED),
        ("ENROUTE", State.SUBMITTED),
        ("UNKNOWN", State.UNKNOWN),
        ("REJECTD", State.REJECTED),
        ("delivrd", State.DELIVERED),
    ],
)
def test_every_outcome_has_its_state(stat, state):
    assert receipt(f"id:7 stat:{stat} err:001").state is state


@pytest.mark.parametrize(
    "text",
    [
        "ID:A7-f/9 STAT:UNDELIV",
        "stat:UNDELIV id:A7-f/9",
        "id: A7-f/9 sub: 001 stat: UNDELIV err: text:",
        "id:A7-f/9 dlvrd:000 done date:notatime stat:UNDELIV text:id:no stat:DELIVRD",
    ],
)
def test_carriers_that_write_it_their_own_way_are_understood(text):
    found = receipt(text)
    assert (found.carrier_message_id, found.state, found.done_at) == ("A7-f/9", State.UNDELIVERED, None)


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2601020305", datetime(2026, 1, 2, 3, 5, tzinfo=UTC)),
        ("260102030506", datetime(2026, 1, 2, 3, 5, 6, tzinfo=UTC)),
        ("20260102030506", datetime(2026, 1, 2, 3, 5, 6, tzinfo=UTC)),
        ("2613020305", None),
        ("26010203", None),
    ],
)
def test_times_come_with_seconds_and_century_or_without(written, time):
    assert receipt(f"id:1 done date:{written} stat:DELIVRD").done_at == time


def test_optional_parameters_win_over_the_text():
    tlvs = ((Tag.RECEIPTED_MESSAGE_ID, b"from-tlv\0"), (Tag.MESSAGE_STATE, b"\x05"))
    found = receipt(APPENDIX_B, tlvs=tlvs)
    assert (found.carrier_message_id, found.state) == ("from-tlv", State.UNDELIVERED)


def test_a_receipt_in_data_sm_with_nothing_but_parameters_is_read():
    tlvs = (
        (Tag.RECEIPTED_MESSAGE_ID, b"abc\0"),
        (Tag.MESSAGE_STATE, b"\x02"),
        (Tag.NETWORK_ERROR_CODE, b"\x03\x01\x02"),
    )
    found = read("aurora", DataSm(source="1", destination="2", esm_class=4, tlvs=tlvs), NOW)
    assert isinstance(found, Receipt)
    assert (found.carrier_message_id, found.state, found.error) == ("abc", State.DELIVERED, "258")


@pytest.mark.parametrize(
    "text", ["", "hello", "id: stat:DELIVRD", "stat:DELIVRD", "id:5 stat:WHATEVER", "id:5"]
)
def test_a_receipt_that_tells_nothing_is_unusable(text):
    with pytest.raises(UnusableError):
        receipt(text)


@pytest.mark.parametrize("longest", ["7" * 65, "f" * 64, "A" * 65])
def test_an_id_as_long_as_the_protocol_allows_is_kept_whole(longest: str) -> None:
    assert receipt(APPENDIX_B.replace("0123456789", longest)).carrier_message_id == longest
    for octets in (longest.encode(), longest.encode() + b"\0"):
        tlvs = ((Tag.RECEIPTED_MESSAGE_ID, octets), (Tag.MESSAGE_STATE, b"\x02"))
        assert receipt("", tlvs=tlvs).carrier_message_id == longest


@pytest.mark.parametrize("digits", [66, 5_000])
def test_an_id_longer_than_the_protocol_allows_is_unusable(digits: int) -> None:
    with pytest.raises(UnusableError, match="characters"):
        receipt(APPENDIX_B.replace("0123456789", "7" * digits))


@pytest.mark.parametrize(
    ("octets", "coding", "text"),
    [
        (smpplib.gsm.gsm_encode("YES @ 5€"), 0, "YES @ 5€"),
        ("Ünïcode".encode("latin-1"), 3, "Ünïcode"),
        ("STOP 😀".encode("utf-16-be"), 8, "STOP 😀"),
        ("nul\0nul".encode("latin-1"), 1, "nul\ufffdnul"),
    ],
)
def test_a_reply_is_read_in_its_coding(octets, coding, text):
    found = reply(octets, data_coding=coding)
    assert isinstance(found, Reply)
    assert (found.text, found.source, found.destination, found.received_at) == (
        text,
        "15550001111",
        "12345",
        NOW,
    )


@pytest.mark.parametrize(
    ("octets", "esm_class", "tlvs"),
    [
        (b"\x05\x00\x03\x07\x02\x01YES", EsmClass.UDHI, ()),
        (b"\x06\x08\x04\x00\x07\x02\x01YES", EsmClass.UDHI, ()),
        (b"YES", 0, sar(7, 2, 1)),
        (b"", 0, (*sar(7, 2, 1), (Tag.MESSAGE_PAYLOAD, b"YES"))),
    ],
    ids=["header", "header of 16 bits", "parameters", "payload"],
)
@pytest.mark.parametrize("kind", [DeliverSm, DataSm])
def test_a_part_of_a_reply_is_one_however_that_is_told(kind, octets, esm_class, tlvs):
    text = {"short_message": octets} if kind is DeliverSm else {}
    if kind is DataSm and octets:
        tlvs = (*tlvs, (Tag.MESSAGE_PAYLOAD, octets))
    found = read("aurora", kind(source="1", destination="2", esm_class=esm_class, tlvs=tlvs, **text), NOW)
    assert isinstance(found, ReplyPart)
    assert (found.reference, found.total, found.number, found.octets) == (7, 2, 1, b"YES")


@pytest.mark.parametrize(
    ("octets", "esm_class", "tlvs"),
    [
        (b"\x05\x00\x03\x07\x01\x01YES", EsmClass.UDHI, ()),  # the only one
        (b"\x05\x00\x03\x07\x02\x00YES", EsmClass.UDHI, ()),
        (b"\x05\x00\x03\x07\x02\x03YES", EsmClass.UDHI, ()),
        (b"YES", 0, sar(7, 2, 1)[:2]),
        (b"YES", 0, sar(7, 0, 0)),
    ],
    ids=["alone", "number 0", "past the last", "half of the parameters", "of none"],
)
def test_what_cannot_be_a_part_stands_for_itself_without_its_header(octets, esm_class, tlvs):
    found = reply(octets, esm_class=esm_class, tlvs=tlvs)
    assert isinstance(found, Reply)
    assert found.text == "YES"


def test_what_is_too_long_for_a_part_stands_for_itself():
    payload = (Tag.MESSAGE_PAYLOAD, b"a" * (LONGEST_PART + 1))
    assert isinstance(reply(b"", tlvs=(*sar(7, 2, 1), payload)), Reply)


def test_the_same_words_in_two_parts_have_two_fingerprints():
    assert len({reply(b"YES", tlvs=sar(7, 3, number)).fingerprint for number in (1, 2, 3)}) == 3


def test_the_same_reply_has_the_same_fingerprint_and_another_has_not():
    first, again = reply(b"YES"), reply(b"YES")
    others = [
        reply(b"NO"),
        reply(b"YES", source="15550002222"),
        reply(b"YES", destination="54321"),
        reply(b"YES", esm_class=EsmClass.UDHI),
    ]
    assert first.fingerprint == again.fingerprint
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 5


@given(
    st.binary(max_size=200),
    st.integers(0, 255),
    st.integers(0, 255),
    st.lists(st.tuples(st.sampled_from(Tag), st.binary(max_size=20)), max_size=3).map(tuple),
)
def test_whatever_a_carrier_brings_is_read_or_unusable_and_can_be_stored(octets, esm_class, coding, tlvs):
    pdu = DeliverSm(
        source="1", destination="2", short_message=octets, esm_class=esm_class, data_coding=coding, tlvs=tlvs
    )
    try:
        found = read("aurora", pdu, NOW)
    except UnusableError:
        return
    if isinstance(found, ReplyPart):
        found = join([found])
    found.text.encode()
    assert "\0" not in found.text
    assert not isinstance(found, Receipt) or "\0" not in found.carrier_message_id + found.error
