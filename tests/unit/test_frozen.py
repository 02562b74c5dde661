"""`frozen.replace` makes what `dataclasses.replace` makes."""

import dataclasses

import pytest

from sitecontrol import frozen
from sitecontrol.leadership.facts import LeaseFacts, PgFacts, PgState
from tests.unit.leadership_facts import OUR_LEASE, THEIR_LEASE, at_columbus


def test_a_copy_has_the_changes_and_the_rest_and_the_first_one_stays():
    before = PgFacts(state=PgState.STANDBY, timeline=2, names=("denver-a",))
    after = frozen.replace(before, timeline=3, upstream=True)
    assert after == dataclasses.replace(before, timeline=3, upstream=True)
    assert before == PgFacts(state=PgState.STANDBY, timeline=2, names=("denver-a",))
    with pytest.raises(dataclasses.FrozenInstanceError):
        after.timeline = 4  # type: ignore[misc] # that it is refused is the fact


def test_what_was_reckoned_from_the_fields_is_reckoned_anew():
    before = at_columbus(lease=LeaseFacts(id=OUR_LEASE, ends_at=1e9))
    assert before.lead
    assert not frozen.replace(before, lease=LeaseFacts(id=THEIR_LEASE, ends_at=1e9)).lead


def test_what_is_reckoned_is_reckoned_once_and_only_when_it_is_asked_for():
    asked = []

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Line:
        length: int

        @frozen.reckoned
        def twice(self) -> int:
            """Its length, twice."""
            asked.append(self.length)
            return 2 * self.length

    line = Line(length=3)
    assert not asked
    assert (line.twice, line.twice, asked) == (6, 6, [3])
    assert (frozen.replace(line, length=4).twice, asked) == (8, [3, 4])
    assert Line.twice.__doc__ == "Its length, twice."


def test_a_field_that_there_is_not_is_refused():
    with pytest.raises(TypeError, match="PgFacts has no field lsn"):
        frozen.replace(PgFacts(state=PgState.MUTE), lsn=7)  # type: ignore[call-arg] # that it is refused is the fact
