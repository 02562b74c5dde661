"""What an operator asks for. Who has a node lead on without those who hold everything loses only what he was told of; a
swap that is planned begins at its time, once, or is dropped.
"""

import random
from collections.abc import Callable

import pytest

from tests.simulation import scenarios
from tests.simulation.faults import Fault
from tests.simulation.returning import Failback
from tests.simulation.run import Outcome, run
from tests.simulation.several import aimed, run_several

Scenario = Callable[[random.Random], tuple[Fault, ...]]
SEEDS = range(40)


def lines(outcome: Outcome, what: str) -> list[str]:
    return [line for line in outcome.log if line.split()[1] == what]


@pytest.mark.parametrize(
    "scenario",
    [
        scenarios.forced_lead,
        pytest.param(scenarios.forced_older_copy, marks=pytest.mark.long),
        pytest.param(scenarios.forced_in_any_storm, marks=pytest.mark.long),
    ],
    ids=lambda scenario: scenario.__name__.replace("_", "-"),
)
def test_a_node_that_leads_on_by_an_operators_word_loses_only_what_he_was_told_of(scenario: Scenario):
    outcomes = [run(seed, scenario(random.Random(seed))) for seed in SEEDS]
    for outcome in outcomes:
        assert outcome.violation is None, "\n".join(outcome.log[-60:])
    assert any(
        " 0 messages are lost" not in line for outcome in outcomes for line in lines(outcome, "FORCED")
    )


@pytest.mark.parametrize(
    "scenario",
    [scenarios.planned_swap, scenarios.planned_while_clocks_jump],
    ids=lambda scenario: scenario.__name__.replace("_", "-"),
)
def test_a_planned_swap_begins_at_its_time_and_once_or_is_dropped(scenario: Scenario):
    begun = 0
    for seed in SEEDS:
        outcome = run(seed, scenario(random.Random(seed)))
        assert outcome.violation is None, "\n".join(outcome.log[-60:])
        begun += len(lines(outcome, "BEGINS"))
    assert begun > len(SEEDS) // 4


@pytest.mark.parametrize(
    "scenario",
    [scenarios.records_lost, scenarios.etcd_made_anew],
    ids=lambda scenario: scenario.__name__.replace("_", "-"),
)
def test_what_etcd_has_lost_is_made_anew_and_nothing_is_lost_but_by_an_operators_word(scenario: Scenario):
    outcomes = [run(seed, scenario(random.Random(seed))) for seed in SEEDS]
    for outcome in outcomes:
        assert outcome.violation is None, "\n".join(outcome.log[-60:])
    assert any(lines(outcome, "ADOPTED") for outcome in outcomes), "by what the nodes know"
    assert any(lines(outcome, "FORCED") for outcome in outcomes), "by a person's word"


def test_production_goes_back_to_the_preferred_site_by_itself_and_only_when_it_may():
    asked = 0
    for seed in SEEDS:
        outcome = run(seed, scenarios.away_from_home(random.Random(seed)), failback=Failback())
        assert outcome.violation is None, "\n".join(outcome.log[-60:])
        asked += sum("failback" in line for line in lines(outcome, "ASKED"))
    assert asked > len(SEEDS) // 2


@pytest.mark.long
@pytest.mark.parametrize("scenario", [scenarios.forced_lead, scenarios.planned_swap])
def test_likewise_with_two_nodes_in_each_site(scenario: Scenario):
    for seed in SEEDS:
        rng = random.Random(seed)
        outcome = run_several(seed, aimed(rng, scenario(rng)))
        assert outcome.violation is None, "\n".join(outcome.log[-60:])
