"""Which receipt may settle which doubt."""

from dataclasses import replace
from uuid import UUID

import pytest

from dispatcher.doubt import Candidate, Pair, digits, pair
from dispatcher.model import Encoding

ONE = Candidate(
    parked_id=1,
    carrier="carrier-a",
    written="77",
    customer="12025550123",
    destination="12345",
    text="Power is expected ba",
    message_id=UUID(int=1),
    segment=1,
    in_doubt=True,
    recipient="+12025550123",
    source="12345",
    encoding=Encoding.GSM,
    body="Power is expected back by 5 pm.",
)


def test_a_receipt_and_the_only_doubt_that_fits_are_paired() -> None:
    assert pair([ONE]) == (Pair(parked_id=1, message_id=UUID(int=1), segment=1),)


@pytest.mark.parametrize(
    "candidate",
    [
        replace(ONE, text=""),
        replace(ONE, text="POWER  is expected"),
        replace(ONE, customer="2025550123"),
        replace(ONE, destination=""),
        replace(ONE, destination="+12345"),
    ],
    ids=["no text", "other case and space", "national number", "no short code", "short code with plus"],
)
def test_what_carriers_leave_out_or_change_does_not_matter(candidate: Candidate) -> None:
    assert len(pair([candidate])) == 1


@pytest.mark.parametrize(
    "candidate",
    [
        replace(ONE, text="Power is off"),
        replace(ONE, customer="13035550123"),
        replace(ONE, customer=""),
        replace(ONE, destination="54321"),
        replace(ONE, in_doubt=False),
    ],
    ids=["other text", "other number", "no number", "other short code", "not in doubt"],
)
def test_what_does_not_fit_is_not_paired(candidate: Candidate) -> None:
    assert pair([candidate]) == ()


def test_two_segments_that_fit_are_not_told_apart() -> None:
    assert pair([ONE, replace(ONE, message_id=UUID(int=2))]) == ()


def test_a_segment_that_waits_for_its_answer_counts_as_another_that_fits() -> None:
    assert pair([ONE, replace(ONE, message_id=UUID(int=2), in_doubt=False)]) == ()


def test_two_ids_for_one_doubt_settle_nothing() -> None:
    assert pair([ONE, replace(ONE, parked_id=2, written="78")]) == ()


def test_two_receipts_with_one_id_settle_it_by_the_first() -> None:
    assert [p.parked_id for p in pair([replace(ONE, parked_id=2), ONE])] == [1]


def test_the_text_tells_the_segments_of_a_long_message_apart() -> None:
    body = "a" * 153 + "b" * 100
    first, second = (replace(ONE, body=body, segment=n, text="bbbb") for n in (1, 2))
    assert [p.segment for p in pair([first, second])] == [2]


@pytest.mark.parametrize(
    ("number", "found"),
    [
        ("+1 (202) 555-0123", "12025550123"),
        ("0012025550123", "12025550123"),
        ("12345", ""),
        ("CARRIER", ""),
        ("", ""),
    ],
)
def test_the_digits_of_a_number(number: str, found: str) -> None:
    assert digits(number) == found
