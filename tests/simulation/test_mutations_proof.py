"""Each rule of who counts as the leader, until when, and what must be seen first, is missed when it is taken out."""

import pytest

from tests.simulation.mutation import Mutation, is_missed
from tests.simulation.mutations_proof import PROOF


@pytest.mark.parametrize("mutation", PROOF, ids=lambda m: m.name.replace(" ", "-"))
def test_a_rule_that_is_taken_out_is_missed(mutation: Mutation):
    is_missed(mutation)
