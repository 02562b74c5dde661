import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.smpp import window as module
from dispatcher.smpp.pdu import MAX_SEQUENCE
from dispatcher.smpp.window import Window


def filled(*sequences, size=10):
    window = Window(size)
    for sequence in sequences:
        window.add(sequence, f"text {sequence}")
    return window


def test_sequence_numbers_begin_at_one_and_begin_again_after_the_largest():
    window = Window(5, last_sequence=MAX_SEQUENCE - 1)
    assert [window.next_sequence() for _ in range(3)] == [MAX_SEQUENCE, 1, 2]
    assert Window(5).next_sequence() == 1


def test_a_number_that_still_waits_is_passed_over():
    window = Window(5, last_sequence=MAX_SEQUENCE)
    window.add(1, "waits")
    window.add(2, "overdue")
    window.give_up(2)
    assert window.next_sequence() == 3


def test_the_window_never_holds_more_than_its_size():
    window = filled(1, 2, size=2)
    assert window.free == 0
    with pytest.raises(OverflowError):
        window.add(3, "one too many")


@given(st.permutations(range(1, 11)))
def test_answers_in_any_order_find_their_submits_once(order):
    window = filled(*range(1, 11))
    assert [window.answer(n) for n in order] == [f"text {n}" for n in order]
    assert [window.answer(n) for n in order] == [None] * 10
    assert window.free == 10


def test_the_oldest_is_the_one_that_was_written_first():
    window = filled(7, 3, 5)
    window.answer(7)
    assert window.oldest() == (3, "text 3")


def test_what_was_given_up_frees_the_window_and_is_still_found_late():
    window = filled(1, 2, size=2)
    window.give_up(1)
    assert (window.free, window.waiting) == (1, 1)
    assert window.answer(1) is None
    assert window.answer_late(1) == "text 1"
    assert window.answer_late(1) is None


def test_the_overdue_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_OVERDUE", 3)
    window = filled(1, 2, 3, 4)
    for sequence in (1, 2, 3, 4):
        window.give_up(sequence)
    assert [window.answer_late(n) for n in (1, 2, 3, 4)] == [None, "text 2", "text 3", "text 4"]


def test_draining_takes_out_everything_in_order_and_forgets_the_overdue():
    window = filled(4, 2, 9)
    window.give_up(4)
    assert list(window.drain()) == ["text 2", "text 9"]
    assert (window.waiting, window.answer_late(4)) == (0, None)
