"""An operator who has a node lead on without those who hold everything: only what he was told of is lost."""

import random
from collections.abc import Callable

import pytest

from tests.simulation import scenarios
from tests.simulation.faults import Fault
from tests.simulation.run import Outcome, run
from tests.simulation.several import aimed, run_several

Scenario = Callable[[random.Random], tuple[Fault, ...]]
SEEDS = range(40)


def forced(outcome: Outcome) -> list[str]:
    return [line for line in outcome.log if line.split()[1] == "FORCED"]


@pytest.mark.parametrize(
    "scenario",
    [scenarios.forced_lead, scenarios.forced_older_copy, scenarios.forced_in_any_storm],
    ids=lambda scenario: scenario.__name__.replace("_", "-"),
)
def test_a_node_that_leads_on_by_an_operators_word_loses_only_what_he_was_told_of(scenario: Scenario):
    outcomes = [run(seed, scenario(random.Random(seed))) for seed in SEEDS]
    for outcome in outcomes:
        assert outcome.violation is None, "\n".join(outcome.log[-60:])
    assert any(" 0 messages are lost" not in line for outcome in outcomes for line in forced(outcome))


@pytest.mark.long
def test_likewise_with_two_nodes_in_each_site():
    for seed in SEEDS:
        rng = random.Random(seed)
        outcome = run_several(seed, aimed(rng, scenarios.forced_lead(rng)))
        assert outcome.violation is None, "\n".join(outcome.log[-60:])
