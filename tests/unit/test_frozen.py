"""`frozen.replace` makes what `dataclasses.replace` makes."""

import dataclasses

import pytest

from sitecontrol import frozen
from sitecontrol.leadership.facts import PgFacts, PgState


def test_a_copy_has_the_changes_and_the_rest_and_the_first_one_stays():
    before = PgFacts(state=PgState.STANDBY, timeline=2, names=("denver-a",))
    after = frozen.replace(before, timeline=3, upstream=True)
    assert after == dataclasses.replace(before, timeline=3, upstream=True)
    assert before == PgFacts(state=PgState.STANDBY, timeline=2, names=("denver-a",))
    with pytest.raises(dataclasses.FrozenInstanceError):
        after.timeline = 4  # type: ignore[misc] # that it is refused is the fact


def test_a_field_that_there_is_not_is_refused():
    with pytest.raises(TypeError, match="PgFacts has no field lsn"):
        frozen.replace(PgFacts(state=PgState.MUTE), lsn=7)  # type: ignore[call-arg] # that it is refused is the fact
