"""What may be done with a campaign."""

import re
from pathlib import Path

import pytest

from dispatcher.campaigns import states
from dispatcher.campaigns.states import STEPS, Act, CampaignState, why_not


@pytest.mark.parametrize("act", Act)
@pytest.mark.parametrize("state", CampaignState)
def test_an_act_moves_has_been_done_or_is_refused_with_a_reason(act, state):
    step = STEPS[act]
    assert [state in step.source, state in step.already, why_not(act, state) is not None].count(True) == 1


def test_what_an_act_leads_to_counts_as_done():
    for step in STEPS.values():
        assert step.target in step.already


@pytest.mark.parametrize(
    "told", [states.__doc__ or "", (Path(__file__).parents[2] / "docs" / "campaigns.md").read_text()]
)
def test_the_picture_shows_every_step_and_no_other(told):
    picture = told.split("```")[1] if told == states.__doc__ else told.split("```")[3]
    shown = set()
    for line in picture.splitlines():
        arrow = re.compile(r"(?P<from>[a-z, ]+?) --(?P<act>[a-z]+)--> (?=(?P<to>[a-z]+))")
        shown |= {
            (source.strip(), found["act"], found["to"])
            for found in arrow.finditer(line)
            for source in found["from"].split(",")
        }
    assert shown == {(source, act, step.target) for act, step in STEPS.items() for source in step.source}
