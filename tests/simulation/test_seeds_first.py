"""Schedules of faults, and the invariants hold in each. (In four files, which run beside each other.)"""

import pytest

from tests.simulation.seeds import AT_ONCE, all_hold

FIRST, SEEDS, QUICK = 0, 650, 300  # QUICK: so many are run everywhere


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(first, marks=pytest.mark.long if first >= QUICK else ())
        for first in range(FIRST, FIRST + SEEDS, AT_ONCE)
    ],
)
def test_the_invariants_hold_whatever_goes_wrong(first: int):
    all_hold(first)
