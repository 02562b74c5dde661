"""The simulation itself: it repeats itself, notices when a safety rule is taken out, and shortens what failed."""

import random

import pytest

from tests.simulation.faults import Fault, Kind
from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.run import run, shrink

TRIES = 600


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name.replace(" ", "-"))
def test_a_safety_rule_that_is_taken_out_is_missed(mutation: Mutation):
    with mutation.patch():
        found = next(
            (
                o
                for seed in range(TRIES)
                if (o := run(seed, mutation.scenario(random.Random(seed)))).violation
            ),
            None,
        )
    assert found is not None, f"nothing broke without: {mutation.rule}"
    assert found.violation is not None
    assert found.violation.invariant in mutation.breaks
    again = run(found.seed, found.faults)
    assert again.violation is None, f"it breaks with the rule, too: {again.violation}"


@pytest.mark.parametrize("seed", [7, 10, 26])
def test_a_seed_replays_exactly(seed: int):
    first, again = run(seed), run(seed)
    assert first.log == again.log
    assert (first.acknowledged, first.ended_at) == (again.acknowledged, again.ended_at)


def test_a_failing_schedule_is_shortened_to_the_faults_that_are_needed():
    [mutation] = [m for m in MUTATIONS if m.name == "standbys are known by their name"]
    needed = mutation.scenario(random.Random(0))
    beside = (Fault(15.0, 0.5, Kind.ETCD_MEMBER, "witness"), Fault(16.0, 1.0, Kind.CLOCK_JUMPS, "denver"))
    with mutation.patch():
        whole = run(0, (*needed, *beside))
        assert whole.violation is not None
        assert set(shrink(whole).faults) == set(needed)


@pytest.mark.parametrize("lasts", [3.0, 15.0])
@pytest.mark.parametrize("seed", range(5))
def test_etcd_alone_lost_and_returning_interrupts_nothing(seed: int, lasts: float):
    """`serves-through-dcs-loss`: the same leader, the same term, and no pause beyond a second."""
    outcome = run(seed, (Fault(5.0, lasts, Kind.ETCD_QUORUM, "witness"),))
    assert outcome.violation is None
    assert (outcome.terms, outcome.longest_gap < 1.5) == (1, True)


@pytest.mark.parametrize("seed", range(40))
def test_garbage_in_etcd_alone_interrupts_nothing(seed: int):
    """The same leader, the same term, no pause beyond a second, and in the end every record is believed again."""
    outcome = run(seed, tuple(Fault(at, 1.5, Kind.GARBAGE, "columbus") for at in (4.0, 4.1, 7.0, 9.0, 9.2)))
    assert outcome.violation is None, "\n".join(outcome.log[-60:])
    assert (outcome.terms, outcome.longest_gap < 1.5) == (1, True)


@pytest.mark.parametrize("kind", [k for k in Kind if k is not Kind.WRONG_DISK], ids=lambda k: k.value)
def test_every_fault_by_itself_is_outlived(kind: Kind):
    for seed in range(6):
        outcome = run(
            seed,
            (Fault(5.0, 4.0, kind, "columbus", "denver" if kind in {Kind.CUT, Kind.CUT_ONE_WAY} else ""),),
        )
        assert outcome.violation is None, "\n".join(outcome.log[-60:])
