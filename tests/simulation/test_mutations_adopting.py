"""Each rule of making anew what etcd has lost is missed when it is taken out."""

import pytest

from tests.simulation.mutation import Mutation, is_missed
from tests.simulation.mutations_adopting import ADOPTING


@pytest.mark.parametrize("mutation", ADOPTING, ids=lambda m: m.name.replace(" ", "-"))
def test_a_rule_that_is_taken_out_is_missed(mutation: Mutation):
    is_missed(mutation)
