"""Ids: version 7, ordered, unguessable."""

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.uuid7 import Ids, compose, least, made_at, stamp

TIMES = st.datetimes(datetime(1971, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 # hypothesis adds the zone
AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


class SetClock:
    def __init__(self) -> None:
        self.at = AT

    def wall(self) -> datetime:
        return self.at


@given(st.integers(0, 2**60 - 1), st.integers(0, 2**64 - 1))
def test_whatever_goes_in_a_version_7_uuid_comes_out(stamped, randomness):
    uuid = compose(stamped, randomness)
    assert (uuid.version, uuid.variant) == (7, RFC_4122)


@given(st.integers(0, 2**60 - 2), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_later_stamp_sorts_after_an_earlier_one(stamped, one, other):
    assert compose(stamped, one) < compose(stamped + 1, other)


@given(TIMES)
def test_an_id_tells_its_time_to_the_millisecond(at):
    assert abs(made_at(compose(stamp(at), 0)) - at.timestamp()) <= 0.001


@given(TIMES, st.integers(0, 2**62))
@example(datetime(2005, 1, 1, 0, 0, 0, 1000, tzinfo=UTC), 0)
def test_no_id_made_at_a_time_or_later_sorts_before_the_least_of_that_time(at, randomness):
    assert least(at.timestamp()) <= compose(stamp(at), randomness)
    assert least(at.timestamp() + 0.01) > compose(stamp(at), randomness)


def test_before_1970_every_id_came_later():
    assert least(-1e11) == least(0.0) == compose(0, 0)


def test_ids_made_in_the_same_microsecond_are_ordered_and_differ():
    ids = Ids(SetClock())
    made = [ids.new() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_ids_stay_ordered_when_the_wall_clock_is_set_back():
    clock = SetClock()
    ids = Ids(clock)
    before = ids.new()
    clock.at -= timedelta(hours=1)
    assert ids.new() > before
