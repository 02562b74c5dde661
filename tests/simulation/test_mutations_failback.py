"""Each rule of the way back to the preferred site is missed when it is taken out."""

import pytest

from tests.simulation.mutation import Mutation, is_missed
from tests.simulation.mutations_failback import BACK


@pytest.mark.parametrize("mutation", BACK, ids=lambda m: m.name.replace(" ", "-"))
def test_a_rule_that_is_taken_out_is_missed(mutation: Mutation):
    is_missed(mutation)
