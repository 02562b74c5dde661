"""Schedules of faults, and the invariants hold in each. (In four files, which run beside each other.)"""

import pytest

from tests.simulation.seeds import AT_ONCE, all_hold

pytestmark = pytest.mark.long
FIRST, SEEDS = 650, 650


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, AT_ONCE))
def test_the_invariants_hold_whatever_goes_wrong(first: int):
    all_hold(first)
