"""One id, however it is written."""

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.carrier_ids import carrier_id

IDS = st.one_of(
    st.integers(min_value=0).map(str),
    st.integers(min_value=0).map(lambda n: f"{n:x}"),
    st.integers(min_value=0).map(lambda n: f"{n:010X}"),
    st.integers(min_value=0).map(lambda n: f"0x{n:x}"),
    st.uuids().map(str),
    st.text(max_size=20),
)


@given(IDS, IDS)
def test_being_the_same_is_symmetric(a: str, b: str) -> None:
    one, other = carrier_id(a), carrier_id(b)
    assert (one.canonical in other.readings) == (other.canonical in one.readings)


@given(st.integers(min_value=0))
def test_hexadecimal_and_decimal_of_a_number_meet(number: int) -> None:
    assert carrier_id(f"{number:08X}").canonical in carrier_id(str(number)).readings


@given(IDS)
def test_what_was_written_is_kept(written: str) -> None:
    assert carrier_id(written).written == written


def test_case_space_prefix_and_leading_zeros_do_not_matter() -> None:
    forms = ("af3", " AF3 ", "0af3", "0x0AF3")
    assert {carrier_id(form).canonical for form in forms} == {"af3"}


def test_zero_is_a_number() -> None:
    assert carrier_id("000").canonical == "0"


def test_an_id_that_is_no_number_has_no_other_reading() -> None:
    assert carrier_id("Msg-07").readings == {"msg-07"}


def test_no_id_has_no_reading() -> None:
    assert carrier_id("").readings == frozenset()
