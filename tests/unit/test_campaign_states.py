"""What may be done with a campaign."""

import pytest

from dispatcher.campaigns.states import STEPS, Act, CampaignState, why_not


@pytest.mark.parametrize("act", Act)
@pytest.mark.parametrize("state", CampaignState)
def test_an_act_moves_has_been_done_or_is_refused_with_a_reason(act, state):
    step = STEPS[act]
    assert [state in step.source, state in step.already, why_not(act, state) is not None].count(True) == 1


def test_what_an_act_leads_to_counts_as_done():
    for step in STEPS.values():
        assert step.target in step.already
