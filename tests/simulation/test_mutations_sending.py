"""Each rule of sending is missed when it is taken out."""

import pytest

from tests.simulation.mutation import Mutation, is_missed
from tests.simulation.mutations_sending import SENDING


@pytest.mark.parametrize("mutation", SENDING, ids=lambda m: m.name.replace(" ", "-"))
def test_a_rule_that_is_taken_out_is_missed(mutation: Mutation):
    is_missed(mutation)
