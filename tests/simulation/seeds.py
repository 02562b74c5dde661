"""Runs of many seeds for one test: the first violation is shrunk and shown."""

import pytest

from tests.simulation.run import run, shrink

AT_ONCE = 50


def all_hold(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        outcome = run(seed)
        if outcome.violation is not None:
            smallest = shrink(outcome)
            faults = "\n".join(map(str, smallest.faults))
            pytest.fail(f"seed {seed}: {outcome.violation}\n{faults}\n" + "\n".join(smallest.log[-80:]))
