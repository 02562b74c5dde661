import itertools

import pytest
import smpplib.gsm
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.encoding import (
    MAX_SEGMENTS,
    Concatenation,
    Offending,
    UnencodableError,
    choose,
    count_segments,
    decode,
    encode,
    header,
    offending,
    read_header,
    segment_octets,
    split,
    units,
)
from dispatcher.model import Encoding

GSM_CHARACTERS = [chr(code) for code in range(0x2200) if choose(chr(code)) is Encoding.GSM]
GSM_TEXT = st.text(st.sampled_from(GSM_CHARACTERS), max_size=700)
WIDE_GSM_TEXT = st.text(st.sampled_from("ab^{}\\[]~|€\f"), max_size=700)
UCS2_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300).map(lambda text: text + "✓")
EMOJI_TEXT = st.text(st.sampled_from("a✓😀🏠"), max_size=300).map(lambda text: text + "😀")

ANY_TEXT = st.one_of(GSM_TEXT, WIDE_GSM_TEXT, UCS2_TEXT, EMOJI_TEXT)
LIMITS = {Encoding.GSM: (160, 153), Encoding.UCS2: (70, 67)}


def test_the_alphabet_has_127_characters_and_10_in_the_extension():
    one = [char for char in GSM_CHARACTERS if len(encode(char, Encoding.GSM)) == 1]
    two = [char for char in GSM_CHARACTERS if len(encode(char, Encoding.GSM)) == 2]
    assert (len(one), len(two)) == (127, 10)


@pytest.mark.parametrize(
    "char", [char for char in GSM_CHARACTERS if char not in "\f§"]
)  # smpplib lacks those
def test_gsm_octets_agree_with_smpplib(char):
    assert encode(char, Encoding.GSM) == smpplib.gsm.gsm_encode(char)


@given(GSM_TEXT | WIDE_GSM_TEXT)
def test_gsm_text_is_chosen_encoded_and_decoded(text):
    assert choose(text) is Encoding.GSM
    assert offending(text) == ()
    assert decode(encode(text, Encoding.GSM), Encoding.GSM) == text


@given(UCS2_TEXT | EMOJI_TEXT)
def test_any_other_text_is_ucs2(text):
    assert choose(text) is Encoding.UCS2
    assert decode(encode(text, Encoding.UCS2), Encoding.UCS2) == text


@given(ANY_TEXT)
def test_the_parts_together_are_the_text(text):
    assert "".join(split(text, choose(text))) == text


@given(ANY_TEXT)
def test_as_many_parts_are_counted_as_are_made(text):
    encoding = choose(text)
    assert count_segments(text, encoding) == len(split(text, encoding))


@given(ANY_TEXT)
def test_no_part_is_longer_than_a_text_on_the_air(text):
    encoding = choose(text)
    alone, part = LIMITS[encoding]
    parts = split(text, encoding)
    limit = alone if len(parts) == 1 else part
    assert all(units(one, encoding) <= limit for one in parts)


@given(ANY_TEXT)
def test_no_part_wastes_room_that_the_next_character_would_fit_into(text):
    encoding = choose(text)
    parts = split(text, encoding)
    for one, following in itertools.pairwise(parts):
        assert units(one + following[0], encoding) > LIMITS[encoding][1]


@given(ANY_TEXT)
def test_no_escape_pair_and_no_surrogate_pair_is_split(text):
    encoding = choose(text)
    parts = [encode(one, encoding) for one in split(text, encoding)]
    assert b"".join(parts) == encode(text, encoding)
    for one in parts:
        if encoding is Encoding.GSM:
            assert not one.endswith(b"\x1b")
        else:
            one.decode("utf-16-be")  # raises for half a pair


@given(ANY_TEXT)
def test_units_are_septets_or_16_bit_units(text):
    encoding = choose(text)
    assert units(text, encoding) == len(encode(text, encoding)) // (1 if encoding is Encoding.GSM else 2)


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("€" * 152, 2),  # 76 pairs in 153 septets: one septet stays empty
        ("€" * 153, 3),
        ("ж" * 70, 1),
        ("ж" * 71, 2),
        ("ж" * 134, 2),
        ("ж" * 135, 3),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 66, 2),  # 33 pairs in 67 units
        ("😀" * 67, 3),
    ],
)
def test_segments_at_the_limits(text, segments):
    assert count_segments(text, choose(text)) == segments


def test_offending_characters_are_named_with_their_places():
    assert offending("naïve café ✓") == (Offending(index=2, char="ï"), Offending(index=11, char="✓"))


@pytest.mark.parametrize("text", ["\ud83d", "ok \ude00", "✓\ud83d!"])
def test_half_a_surrogate_pair_is_refused(text):
    with pytest.raises(UnencodableError):
        choose(text)
    with pytest.raises(UnencodableError):
        encode(text, Encoding.UCS2)


def test_a_character_outside_gsm_is_refused_as_gsm():
    with pytest.raises(UnencodableError, match="ж"):
        encode("ж", Encoding.GSM)


def test_the_escape_character_itself_is_not_gsm():
    assert choose("\x1b") is Encoding.UCS2


@given(st.binary(max_size=200), st.sampled_from(Encoding))
def test_any_octets_can_be_decoded(octets, encoding):
    decode(octets, encoding).encode()


def test_an_unknown_escape_shows_the_plain_character_and_a_double_escape_a_space():
    assert decode(b"a\x1bbc", Encoding.GSM) == "abc"
    assert decode(b"a\x1b\x1bc\x1b", Encoding.GSM) == "a c"
    assert decode(b"\x1be\x80", Encoding.GSM) == "€\ufffd"


@given(st.integers(0, 255), st.integers(1, 255), st.integers(1, 255), st.binary(max_size=134))
def test_a_header_is_read_as_it_was_written(reference, total, number, rest):
    concatenation = Concatenation(reference=reference, total=total, number=number)
    assert read_header(header(concatenation) + rest) == (concatenation, rest)


def test_a_header_with_a_16_bit_reference_beside_other_elements_is_read():
    octets = bytes((9, 0x24, 1, 1, 0x08, 4, 0x12, 0x34, 3, 2)) + b"text"
    assert read_header(octets) == (Concatenation(reference=0x1234, total=3, number=2), b"text")


@given(st.binary(max_size=60))
def test_reading_a_header_never_fails(octets):
    _, rest = read_header(octets)
    assert octets.endswith(rest)


@given(ANY_TEXT.filter(bool), st.integers(0, 255))
def test_the_octets_of_all_segments_carry_the_whole_text_in_order(text, reference):
    encoding = choose(text)
    total = count_segments(text, encoding)
    received = []
    for number in range(1, total + 1):
        octets = segment_octets(text, encoding, number=number, reference=reference)
        assert len(octets) <= (160 if encoding is Encoding.GSM else 140)
        if total == 1:
            received.append(decode(octets, encoding))
        else:
            part, rest = read_header(octets)
            assert part == Concatenation(reference=reference, total=total, number=number)
            received.append(decode(rest, encoding))
    assert "".join(received) == text


def test_more_parts_than_the_header_can_count_are_refused():
    text = "a" * (153 * MAX_SEGMENTS + 1)
    with pytest.raises(ValueError, match="256 parts"):
        segment_octets(text, Encoding.GSM, number=1, reference=0)
