"""Pauses before something is tried again grow, are bounded, and where many may meet, no two of them are alike."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import AsyncRetrying, RetryCallState

from dispatcher.smpp.reconnect import delay
from dispatcher.warm import BACKOFF_S, CALLED_BACKOFF_S, NEEDED_BACKOFF_S, Slot
from sitecontrol.agent.lanes import pause_before_repeat
from sitecontrol.leadership.conditions import LONGEST_REST_ALONE, rest_alone_after
from sitecontrol.leadership.effects import Clone
from sitecontrol.leadership.electing import LONGEST_REST, rest_after
from sitecontrol.leadership.steps import LONGEST_JOIN_PAUSE, pause_before_join

DRAWS = 400


def spread(pauses: list[float], *, least: float, most: float) -> None:
    """They lie within these bounds, all over, and no one of them comes again and again."""
    assert min(pauses) >= least
    assert max(pauses) <= most
    width = most - least
    assert min(pauses) < least + width / 10
    assert max(pauses) > most - width / 10
    assert max(Counter(pauses).values()) <= DRAWS / 100, "jitter"


# -- links to carriers: all of a dispatcher lose their carrier at once --------


@given(st.integers(1, 100_000), st.floats(0.05, 5.0), st.floats(5.0, 600.0), st.integers())
def test_a_link_waits_at_least_half_of_a_bound_that_doubles_and_at_most_all_of_it(
    failures: int, shortest: float, longest: float, seed: int
):
    bound = min(longest, shortest * 2.0 ** min(failures - 1, 100))
    waits = delay(failures, shortest=shortest, longest=longest, random=Random(seed))
    assert bound / 2 <= waits <= bound


@pytest.mark.parametrize("failures", [1, 2, 5, 5_000])
def test_links_that_were_lost_together_do_not_come_back_together(failures: int):
    bound = min(30.0, 0.5 * 2.0 ** min(failures - 1, 100))
    pauses = [delay(failures, shortest=0.5, longest=30.0, random=Random(link)) for link in range(DRAWS)]
    spread(pauses, least=bound / 2, most=bound)


# -- a dispatcher's connections: those of all dispatchers lose their node at once --------


def pauses_of(attempt: int, *, scouts: bool, needed: bool) -> list[float]:
    unused: Any = None
    slot = Slot("columbus-a", unused, unused, scouts=scouts)
    slot.needed = needed
    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = attempt
    return [slot._backoff(state) for _ in range(DRAWS)]


@pytest.mark.parametrize("attempt", [8, 20, 5_000])
@pytest.mark.parametrize(
    ("scouts", "needed", "least", "most"),
    [(True, False, 0.0, BACKOFF_S), (False, False, 0.0, CALLED_BACKOFF_S), (False, True, 0.0, CALLED_BACKOFF_S)],
    ids=["a scout", "one that is called", "one that is called to a node that is needed"],
)  # fmt: skip
def test_dispatchers_do_not_dial_a_node_in_step(
    attempt: int,
    scouts: bool,  # noqa: FBT001
    needed: bool,  # noqa: FBT001
    least: float,
    most: float,
):
    spread(pauses_of(attempt, scouts=scouts, needed=needed), least=least, most=most)


@pytest.mark.parametrize("attempt", [8, 20, 5_000])
def test_nor_do_they_dial_one_that_is_needed_which_each_tries_all_the_time(attempt: int):
    pauses = pauses_of(attempt, scouts=True, needed=True)
    assert max(Counter(pauses).values()) <= DRAWS / 100, "jitter"
    assert max(pauses) <= NEEDED_BACKOFF_S
    assert sum(pauses) / DRAWS >= NEEDED_BACKOFF_S / 2, "nor do they dial without a pause"


@given(st.integers(1, 100_000))
def test_no_pause_of_a_dial_is_ever_longer_than_its_bound(attempt: int):
    assert max(pauses_of(attempt, scouts=True, needed=False)[:5]) <= BACKOFF_S
    assert max(pauses_of(attempt, scouts=True, needed=True)[:5]) <= NEEDED_BACKOFF_S
    assert max(pauses_of(attempt, scouts=False, needed=True)[:5]) <= CALLED_BACKOFF_S


# -- an agent's pauses: it waits for itself alone, one effect after another, so there is nobody to meet --------


def clones_again_after(failures: int) -> float:
    return pause_before_repeat(Clone(leader="columbus-a"), failures)


@given(st.integers(1, 100_000))
@pytest.mark.parametrize(
    ("pause", "longest"),
    [
        (pause_before_join, LONGEST_JOIN_PAUSE),
        (rest_after, LONGEST_REST),
        (rest_alone_after, LONGEST_REST_ALONE),
        (clones_again_after, 60.0),
    ],
)
def test_an_agents_pause_grows_with_each_failure_up_to_its_bound(
    pause: Callable[[int], float], longest: float, failures: int
):
    assert 1.0 <= pause(failures) <= pause(failures + 1) <= longest
    assert pause(failures + 1) in (longest, 2 * pause(failures))
