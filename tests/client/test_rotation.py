"""Which site is asked next, and when: no I/O, no clock."""

import math

import pytest

from hotsite_client.retry import Policy, Rotation

POLICY = Policy(total_s=10, attempts=6, first_wait_s=1, longest_wait_s=4)


def rotation(sites: int = 2, first: int = 0) -> Rotation:
    return Rotation(POLICY, sites=sites, first=first, now=100)


def test_it_begins_where_it_went_well_last():
    assert rotation(first=1).next(100) == (1, 0)


def test_the_other_site_is_asked_at_once():
    turns = rotation()
    turns.next(100)
    turns.failed(0, now=100, dice=1)
    assert turns.next(100) == (1, 0)


def test_each_sites_waits_double_up_to_the_longest():
    turns = rotation(sites=1)
    now, waits = 100.0, []
    for _ in range(4):
        turn = turns.next(now)
        assert turn is not None
        waits.append(turn[1])
        now += turn[1]
        turns.failed(0, now=now, dice=1)
    assert waits == [0, 1, 2, 4]


@pytest.mark.parametrize(("dice", "wait"), [(0, 0.5), (1, 1)])
def test_a_wait_is_jittered_by_half(dice: float, wait: float):
    turns = rotation(sites=1)
    turns.next(100)
    turns.failed(0, now=100, dice=dice)
    assert turns.next(100) == (0, wait)


def test_a_site_is_left_alone_for_as_long_as_it_asks():
    turns = rotation()
    turns.next(100)
    turns.failed(0, now=100, dice=0, retry_after_s=7)
    for now in (100, 101, 103):
        site, _ = turns.next(now)
        assert site == 1
        turns.failed(1, now=now, dice=0)
    turns.failed(1, now=106.9, dice=1)
    assert turns.next(106.9) == (0, pytest.approx(0.1))


def test_no_turn_is_begun_after_the_deadline_and_none_is_waited_for_past_it():
    turns = rotation()
    assert turns.next(110) is None
    turns = rotation(sites=1)
    turns.next(100)
    turns.failed(0, now=100, dice=0, retry_after_s=10)
    assert turns.next(100) is None


def test_there_are_as_many_turns_as_attempts():
    turns = rotation()
    assert [turns.next(100) is not None for _ in range(7)] == [True] * 6 + [False]


def test_a_site_that_would_say_the_same_again_is_not_asked_again():
    turns = rotation()
    turns.next(100)
    turns.failed(0, now=100, dice=0, retry_after_s=math.inf)
    turns.next(100)
    turns.failed(1, now=100, dice=0, retry_after_s=math.inf)
    assert turns.next(100) is None


@pytest.mark.parametrize("field", ["total_s", "attempts", "connect_s", "answer_s", "first_wait_s"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_policy_that_cannot_work_is_refused_by_name(field: str, value: float):
    with pytest.raises(ValueError, match=field):
        Policy(**{field: value})
