"""Each safety rule of who may lead, and of what is acknowledged, is missed when it is taken out."""

import pytest

from tests.simulation.mutation import Mutation, is_missed
from tests.simulation.mutations import MUTATIONS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name.replace(" ", "-"))
def test_a_rule_that_is_taken_out_is_missed(mutation: Mutation):
    is_missed(mutation)
