"""Customers' texts: in which alphabet their octets are, and how parts become one."""

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.alphabets import text_of
from dispatcher.encoding import choose, data_coding, encode, split
from dispatcher.model import ReplyPart
from dispatcher.replies import GAP, join

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def part(number, octets, total=3, coding=0):
    return ReplyPart(
        carrier="aurora",
        source="15550001111",
        destination="12345",
        reference=7,
        total=total,
        number=number,
        coding=coding,
        octets=octets,
        received_at=NOW,
        fingerprint=hashlib.sha256(octets).digest(),
    )


@pytest.mark.parametrize(
    ("octets", "coding", "text"),
    [
        (b"\x00\x02", 0, "@$"),
        (b"\x00\x02", 0x10, "@$"),  # a message class beside the default alphabet
        (b"\x00\x02", 0xF1, "@$"),
        ("Ünï".encode("latin-1"), 3, "Ünï"),
        ("ПРИВЕТ".encode("iso8859_5"), 6, "ПРИВЕТ"),
        ("שלום".encode("iso8859_8"), 7, "שלום"),
        ("日本".encode("shift_jis"), 5, "日本"),
        ("日本".encode("iso2022_jp"), 10, "日本"),
        ("한국".encode("euc_kr"), 14, "한국"),
        ("да".encode("utf-16-be"), 8, "да"),
        ("да".encode("utf-16-be"), 0x18, "да"),
        ("да".encode("utf-16-be"), 0xE8, "да"),
        (b"STOP", 4, "STOP"),  # said to be octets, and plainly a text
        (b"\x01\xff", 4, "01ff"),
        (b"\x01\xff", 0xF5, "01ff"),
        (b"\x01\xff", 0x14, "01ff"),
        (b"", 2, ""),
    ],
)
def test_octets_are_read_by_their_data_coding(octets, coding, text):
    assert text_of(octets, coding) == text


@given(st.binary(max_size=300), st.integers(0, 255))
def test_whatever_comes_is_some_text_that_can_be_stored(octets, coding):
    text = text_of(octets, coding)
    text.encode()
    assert "\0" not in text


@given(st.text(min_size=1, max_size=1_000), st.randoms())
def test_the_parts_of_any_text_are_that_text_again(body, random):
    try:
        encoding = choose(body)
    except ValueError:
        return
    bodies = split(body, encoding)
    made = [
        part(number, encode(text, encoding), len(bodies), data_coding(encoding))
        for number, text in enumerate(bodies, 1)
    ]
    random.shuffle(made)
    assert join(made).text == body.replace("\0", "\ufffd")


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((1, 2, 3), "abc"),
        ((1, 3), f"a{GAP}c"),
        ((2,), f"{GAP}b{GAP}".strip()),
        ((1, 2), f"ab{GAP}".strip()),
        ((2, 3), f"{GAP}bc".strip()),
    ],
)
def test_what_is_missing_is_shown(numbers, text):
    assert join([part(number, b"abc"[number - 1 : number]) for number in numbers]).text == text


def test_parts_in_different_alphabets_are_read_each_in_its_own():
    assert join([part(1, b"a", 2), part(2, "ж".encode("utf-16-be"), 2, 8)]).text == "aж"


def test_a_whole_and_what_came_of_it_are_not_taken_for_each_other():
    assert join([part(1, b"a")]).fingerprint != join([part(1, b"a"), part(2, b"b")]).fingerprint
