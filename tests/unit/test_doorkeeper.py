"""Who keeps knocking with wrong keys has to wait, for a while, alone."""

from dispatcher.http import doorkeeper
from dispatcher.http.doorkeeper import DRAIN_PER_S, FAILURES_AT_ONCE, MOST, Doorkeeper


def knocked(times: int) -> Doorkeeper:
    keeper = Doorkeeper()
    for _ in range(times):
        keeper.failed("a", 0.0)
    return keeper


def test_a_few_mistakes_are_free():
    assert knocked(FAILURES_AT_ONCE - 1).wait_s("a", 0.0) == 0


def test_then_each_attempt_has_to_wait_until_one_has_drained():
    keeper = knocked(FAILURES_AT_ONCE)
    assert keeper.wait_s("a", 0.0) == 1 / DRAIN_PER_S
    assert keeper.wait_s("a", 1 / DRAIN_PER_S) == 0


def test_nobody_is_locked_out_for_longer_than_a_minute():
    assert knocked(10_000).wait_s("a", 0.0) <= (MOST - FAILURES_AT_ONCE + 1) / DRAIN_PER_S <= 62


def test_other_sources_are_not_concerned():
    assert knocked(10_000).wait_s("b", 0.0) == 0


def test_the_source_that_failed_longest_ago_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(doorkeeper, "SOURCES", 2)
    keeper = knocked(FAILURES_AT_ONCE)
    keeper.failed("b", 0.0)
    keeper.failed("c", 0.0)
    assert keeper.wait_s("a", 0.0) == 0
