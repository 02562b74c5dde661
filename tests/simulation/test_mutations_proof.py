"""Each rule of who counts as the leader, until when, and what must be seen first, is missed when it is taken out."""

import pytest

from tests.simulation.mutation import Mutation, is_missed
from tests.simulation.mutations_proof import OF_FOUR_NODES, PROOF
from tests.simulation.several import run_several


@pytest.mark.parametrize("mutation", PROOF, ids=lambda m: m.name.replace(" ", "-"))
def test_a_rule_that_is_taken_out_is_missed(mutation: Mutation):
    is_missed(mutation)


@pytest.mark.parametrize("mutation", OF_FOUR_NODES, ids=lambda m: m.name.replace(" ", "-"))
def test_a_rule_that_takes_two_nodes_in_each_site_is_missed(mutation: Mutation):
    is_missed(mutation, once=run_several)
