"""Five hundred schedules of faults, and the invariants hold in each. (In two files, which run beside each other.)"""

import pytest

from tests.simulation.run import run, shrink

FIRST, SEEDS, AT_ONCE = 500, 500, 100


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, AT_ONCE))
def test_the_invariants_hold_whatever_goes_wrong(first: int):
    for seed in range(first, first + AT_ONCE):
        outcome = run(seed)
        if outcome.violation is not None:
            smallest = shrink(outcome)
            faults = "\n".join(map(str, smallest.faults))
            pytest.fail(f"seed {seed}: {outcome.violation}\n{faults}\n" + "\n".join(smallest.log[-80:]))
