from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.smpp.pace import Pace
from dispatcher.smpp.reconnect import delay


def write_as_allowed(pace, start, seconds, step=0.001):
    """How many a greedy writer gets through."""
    written, now = 0, start
    while now < start + seconds:
        count = pace.available(now)
        pace.take(count)
        written += count
        now += step
    return written


@given(st.floats(1, 5000), st.integers(1, 5))
def test_no_span_of_time_sees_more_than_the_rate_and_one_burst(rate, seconds):
    pace = Pace(rate, 0.0)
    assert write_as_allowed(pace, 0.0, seconds) <= rate * seconds + max(1, rate * 0.02) + 1


@pytest.mark.parametrize("rate", [1, 10, 100, 3000])
def test_a_greedy_writer_reaches_the_rate(rate):
    assert write_as_allowed(Pace(rate, 0.0), 0.0, 3) >= rate * 2.9 - 1


@given(st.floats(0.5, 5000), st.floats(0, 10))
def test_after_waiting_as_told_there_is_room(rate, idle):
    pace = Pace(rate, 0.0)
    pace.take(pace.available(idle))
    assert pace.available(idle + pace.wait(idle) + 1e-6) >= 1


def test_throttling_stops_at_once_and_doubles_its_pause_while_it_lasts():
    pace = Pace(1000, 0.0)
    pauses, now = [], 1.0
    for _ in range(8):
        pace.throttled(now)
        assert pace.available(now) == 0
        pauses.append(round(pace.wait(now), 3))
        now += pace.wait(now) + 0.001
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_answers_to_what_was_under_way_do_not_count_again():
    pace = Pace(1000, 0.0)
    pace.throttled(1.0)
    rate, wait = pace.rate, pace.wait(1.01)
    pace.throttled(1.01)
    assert (pace.rate, pace.wait(1.01)) == (rate, wait)


def test_the_rate_falls_below_what_the_carrier_last_took():
    pace = Pace(10_000, 0.0)
    for n in range(100):  # it takes 100 in a second
        pace.accepted(n / 100)
    pace.throttled(1.0)
    assert pace.rate == pytest.approx(70, abs=2)


def test_an_hour_without_texts_does_not_count_as_what_the_carrier_takes():
    """A storm comes after an hour of a text now and then: the first "too much" would slow the link to one a second."""
    pace = Pace(1_000, 0.0)
    for hour_end in (0.0, 1_800.0, 3_600.0):
        assert pace.available(hour_end)
        pace.take(1)
        pace.accepted(hour_end + 0.03)
    begins = 3_700.0
    pace.take(pace.available(begins))
    for n in range(10):
        pace.accepted(begins + n / 200)
    pace.throttled(begins + 0.05)
    assert pace.rate >= 70


def test_where_nothing_is_known_the_rate_is_cut_as_it_is():
    pace = Pace(1_000, 0.0)
    pace.take(pace.available(600.0))
    pace.throttled(600.05)
    assert pace.rate == pytest.approx(700)


def test_the_rate_never_falls_to_nothing():
    pace = Pace(10, 0.0)
    for n in range(50):
        pace.throttled(n * 10.0)
    assert pace.rate >= 1


def test_without_complaints_the_rate_returns_to_the_setting_and_not_beyond():
    pace = Pace(1000, 0.0)
    pace.throttled(1.0)
    low = pace.rate
    pace.available(1.5)
    pace.available(2.0)
    assert low < pace.rate < 1000
    pace.available(60.0)
    pace.available(120.0)
    assert pace.rate == 1000


def test_an_accepted_text_makes_the_next_pause_short_again():
    pace = Pace(1000, 0.0)
    pace.throttled(1.0)
    pace.throttled(2.0)
    pace.accepted(3.0)
    pace.throttled(4.0)
    assert pace.wait(4.0) == pytest.approx(0.1)


@given(st.integers(1, 10_000), st.integers())
def test_the_delay_before_a_reconnect_grows_within_its_bounds(failures, seed):
    seconds = delay(failures, shortest=0.5, longest=30, random=Random(seed))
    assert 0.25 <= seconds <= 30
    assert seconds <= 0.5 * 2 ** min(failures - 1, 30)
    assert failures < 7 or seconds >= 15


def test_another_setting_holds_at_once_and_what_the_carrier_slowed_down_stays_slow():
    pace = Pace(10.0, 0.0)
    pace.change(100.0, 0.0)
    assert pace.rate == 100.0
    pace.throttled(1.0)
    assert pace.paused(1.05)
    slowed = pace.rate
    pace.change(1_000.0, 1.0)
    assert pace.rate == slowed
