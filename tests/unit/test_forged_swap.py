"""Whatever `swap` somebody writes into etcd: it ends, and it never hands the lead to anybody by itself."""

import itertools

import pytest

from sitecontrol.leadership.effects import Finish, HandOver, RollBack
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Phase
from tests.unit.decided import effect
from tests.unit.leadership_facts import COLUMBUS, DENVER, at_columbus, cluster, entry, swap

NODES = (COLUMBUS, DENVER, "nobody-a")
EACH = [
    (phase, from_node, to_node, term)
    for phase, from_node, to_node, term in itertools.product(Phase, NODES, NODES, (2, 3, 4, 1_000))
    if from_node != to_node
]


def leads_beside(phase: Phase, from_node: str, to_node: str, term: int, *, age: float) -> Facts:
    """Columbus leads term 3 and is open, and has seen this record in this phase for so many seconds."""
    forged = entry(swap(phase, from_node, to_node, term))
    return at_columbus(cluster=cluster(swap=forged), swap_phase_since=100.0 - age)


@pytest.mark.parametrize("forged", EACH, ids=str)
def test_the_leader_ends_any_record_past_its_deadline(forged: tuple[Phase, str, str, int]):
    """Or moves it on, to a phase that has a deadline: else no swap could ever be asked for again."""
    facts = leads_beside(*forged, age=99.0)
    phases = set()
    while not isinstance(decided := effect(facts, Lane.SWAP), Finish | RollBack):
        assert decided is not None, "it stands for ever"
        phase = getattr(decided, "phase", None)
        assert phase is not None
        assert phase not in phases, "it goes round in a circle"
        phases.add(phase)
        facts = leads_beside(phase, *forged[1:], age=99.0)


@pytest.mark.parametrize("forged", EACH, ids=str)
def test_an_open_leader_hands_the_lead_to_nobody_for_it(forged: tuple[Phase, str, str, int]):
    """Only one that has shut down clean does, to a target that is in step and holds its last record."""
    for age in (0.0, 99.0):
        assert not isinstance(effect(leads_beside(*forged, age=age), Lane.SWAP), HandOver)
