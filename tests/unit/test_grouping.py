"""When groups leave, and what one row's fate says of another's."""

from collections import deque
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.grouping import (
    SLOWEST_COMMIT_S,
    Pace,
    Queues,
    Traffic,
    departure,
    left,
    own,
    returned,
    ride,
)
from dispatcher.model import Accepted, Encoding, MessageClass, NewMessage, OnDoubt, State, Verdict

PACE = Pace(wait_s=0.002, max_rows=100, in_flight=3)
ROW = NewMessage(
    id=uuid4(),
    account_id=1,
    program_id=1,
    to="+16145550123",
    body="x",
    encoding=Encoding.GSM,
    segments=1,
    message_class=MessageClass.SERVICE,
    on_doubt=OnDoubt.HOLD,
    reference="o-1",
    fingerprint=b"one",
)
SAME = replace(ROW, id=uuid4())
OTHER = replace(ROW, id=uuid4(), fingerprint=b"other")
NEW = Accepted(id=ROW.id, verdict=Verdict.NEW, state=State.QUEUED)


def test_an_idle_intake_sends_a_message_at_once():
    assert departure(PACE, Traffic(), now=10.0, single=1, bulk=0) == 10.0


def test_nothing_leaves_when_nothing_waits():
    assert departure(PACE, Traffic(), now=10.0, single=0, bulk=0) is None


def test_two_groups_leave_at_least_the_wait_apart():
    assert departure(PACE, Traffic(last_left=9.999), now=10.0, single=1, bulk=0) == pytest.approx(10.001)


def test_a_full_group_leaves_at_once():
    assert departure(PACE, Traffic(in_flight=1, last_left=10.0), now=10.0, single=100, bulk=0) == 10.0


def test_a_group_gathers_those_who_ask_again_when_another_came_back():
    assert departure(PACE, Traffic(last_back=9.999), now=10.0, single=1, bulk=0) == pytest.approx(10.001)


def test_while_commits_are_quick_one_group_at_a_time_is_under_way():
    quick = Traffic(in_flight=1, last_left=9.0, commit_s=0.05, quickest_s=0.004)
    assert departure(PACE, quick, now=10.0, single=1, bulk=0) is None
    assert departure(PACE, quick, now=10.0, single=100, bulk=0) == 10.0


def test_no_group_leaves_beyond_those_that_may_be_under_way():
    assert departure(PACE, Traffic(in_flight=3), now=10.0, single=1_000, bulk=0) is None


def test_groups_are_spread_evenly_over_the_time_that_a_commit_takes():
    traffic = Traffic(in_flight=1, last_left=10.0, commit_s=0.036, quickest_s=0.036)
    assert departure(PACE, traffic, now=10.0, single=1, bulk=0) == pytest.approx(10.012)


def test_lines_of_bulk_alone_wait_for_a_full_group_or_for_nothing_under_way():
    busy = Traffic(in_flight=1, last_left=9.0, quickest_s=0.036)
    assert departure(PACE, busy, now=10.0, single=0, bulk=99) is None
    assert departure(PACE, busy, now=10.0, single=0, bulk=100) == 10.0
    assert departure(PACE, busy, now=10.0, single=1, bulk=1) == 10.0
    assert departure(PACE, Traffic(), now=10.0, single=0, bulk=1) == 10.0


def test_one_commit_in_trouble_does_not_slow_the_pace_for_long():
    traffic = returned(Traffic(in_flight=1, commit_s=0.002, quickest_s=0.002), now=9.0, took_s=9.0)
    assert traffic.commit_s < SLOWEST_COMMIT_S / 4
    assert traffic.quickest_s < SLOWEST_COMMIT_S / 20


def test_a_failed_commit_says_nothing_about_the_time_that_one_takes():
    failed = returned(Traffic(in_flight=1, commit_s=0.002), now=9.0, took_s=None)
    assert failed == Traffic(commit_s=0.002, last_back=9.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 0.1)), max_size=60), st.integers(1, 500))
def test_at_no_time_are_more_groups_under_way_than_allowed(steps, waiting):
    traffic, now = Traffic(), 0.0
    for leaves, gap in steps:
        now += gap
        at = departure(PACE, traffic, now=now, single=waiting, bulk=0)
        if leaves and at is not None and at <= now:
            traffic = left(traffic, now=now)
        elif traffic.in_flight:
            traffic = returned(traffic, now=now, took_s=gap)
        assert 0 <= traffic.in_flight <= PACE.in_flight


@given(st.lists(st.integers()), st.lists(st.integers()), st.integers(0, 30))
def test_a_group_takes_single_requests_first_and_loses_nothing(single, bulk, most):
    queues = Queues(deque(single), deque(bulk))
    group = queues.take(most)
    assert group == (single + bulk)[:most]
    assert group + list(queues.single) + list(queues.bulk) == single + bulk


def test_the_same_content_is_a_duplicate_of_the_first():
    assert ride(ROW, NEW, SAME) == replace(NEW, verdict=Verdict.DUPLICATE)


def test_other_content_under_a_reference_just_taken_is_a_conflict():
    fate = ride(ROW, NEW, OTHER)
    assert fate is not None
    assert fate.verdict is Verdict.CONFLICT


def test_the_same_content_shares_a_conflict():
    conflict = replace(NEW, verdict=Verdict.CONFLICT)
    assert ride(ROW, conflict, SAME) == conflict


def test_after_a_conflict_only_the_database_knows_about_other_content():
    assert ride(ROW, replace(NEW, verdict=Verdict.CONFLICT), OTHER) is None


def test_a_row_found_under_its_own_id_is_new_for_its_caller():
    assert own(ROW, replace(NEW, verdict=Verdict.DUPLICATE)).verdict is Verdict.NEW
    assert own(SAME, replace(NEW, verdict=Verdict.DUPLICATE)).verdict is Verdict.DUPLICATE
