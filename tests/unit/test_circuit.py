"""When a carrier's answers are a reason to let others go first, and when it gets another try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.engine.circuit import (
    BAD_AT_LEAST,
    DOUBTS_IN_A_ROW,
    FIRST_OPEN_S,
    LONGEST_OPEN_S,
    PROBE_FOR_S,
    Circuit,
    Sort,
)


def opened(at: float = 0.0) -> Circuit:
    circuit = Circuit()
    for _ in range(BAD_AT_LEAST):
        circuit.answered(Sort.ERROR, at)
    assert not circuit.closed
    return circuit


def test_some_errors_among_many_good_answers_are_no_reason():
    circuit = Circuit()
    for number in range(1_000):
        circuit.answered(Sort.ERROR if number % 5 == 0 else Sort.GOOD, number / 100)
    assert circuit.closed


def test_half_of_the_answers_being_errors_opens_it():
    circuit = Circuit()
    for number in range(2 * BAD_AT_LEAST):
        circuit.answered(Sort.GOOD if number % 2 == 0 else Sort.ERROR, number / 100)
    assert not circuit.closed


def test_a_few_texts_in_a_row_without_an_answer_open_it_whatever_was_before():
    circuit = Circuit()
    for _ in range(500):
        circuit.answered(Sort.GOOD, 1.0)
    for _ in range(DOUBTS_IN_A_ROW):
        assert circuit.closed
        circuit.answered(Sort.DOUBT, 2.0)
    assert not circuit.closed


def test_what_is_long_past_counts_no_more():
    circuit = Circuit()
    for _ in range(BAD_AT_LEAST - 1):
        circuit.answered(Sort.ERROR, 0.0)
    circuit.answered(Sort.ERROR, 100.0)
    assert circuit.closed


def test_one_text_at_a_time_is_tried_when_its_time_has_come():
    circuit = opened(at=0.0)
    assert not circuit.may_probe(FIRST_OPEN_S - 0.1)
    assert circuit.may_probe(FIRST_OPEN_S)
    circuit.probed(FIRST_OPEN_S)
    assert not circuit.may_probe(FIRST_OPEN_S + 1)
    assert circuit.may_probe(FIRST_OPEN_S + PROBE_FOR_S + 1)


def test_a_good_answer_to_the_try_closes_it():
    circuit = opened()
    circuit.probed(FIRST_OPEN_S)
    circuit.answered(Sort.GOOD, FIRST_OPEN_S + 1)
    assert circuit.closed


def test_each_try_in_vain_is_waited_for_twice_as_long_up_to_a_bound():
    circuit, now, waits = opened(), 0.0, []
    for _ in range(8):
        wait = next(seconds for seconds in range(1_000) if circuit.may_probe(now + seconds))
        waits.append(wait)
        now += wait
        circuit.probed(now)
        circuit.answered(Sort.DOUBT, now)
    assert waits[:3] == [FIRST_OPEN_S, 2 * FIRST_OPEN_S, 4 * FIRST_OPEN_S]
    assert max(waits) == LONGEST_OPEN_S


@pytest.mark.parametrize("sort", Sort)
def test_answers_to_what_was_under_way_when_it_opened_decide_nothing(sort):
    circuit = opened(at=0.0)
    circuit.answered(sort, FIRST_OPEN_S - 1)
    assert not circuit.closed
    assert circuit.may_probe(FIRST_OPEN_S)


@given(st.lists(st.tuples(st.sampled_from(Sort), st.floats(0, 5)), max_size=200))
def test_whatever_comes_it_is_tried_again_within_a_minute(answers):
    circuit, now = Circuit(), 0.0
    for sort, after in answers:
        now += after
        circuit.answered(sort, now)
    assert circuit.closed or circuit.may_probe(now + LONGEST_OPEN_S)


def test_good_answers_in_the_short_way_count_as_others_do():
    circuit = Circuit()
    for _ in range(BAD_AT_LEAST):
        circuit.good()
        circuit.answered(Sort.ERROR, 0.0)
    assert not circuit.closed
    circuit = Circuit()
    for _ in range(BAD_AT_LEAST):
        circuit.good()
        circuit.good()
        circuit.answered(Sort.ERROR, 0.0)
    assert circuit.closed
