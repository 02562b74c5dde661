"""A message's state and story, told from its segments."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.model import Event, SegmentView, State
from dispatcher.sql import queries
from dispatcher.story import ROLL_UP, SegmentTimes, roll_up, tell

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def part(state: State, number: int = 1, *, error: str | None = None) -> SegmentTimes:
    view = SegmentView(
        segment=number,
        state=state,
        attempts=1,
        carrier="carrier-a",
        carrier_message_id="77",
        command_status=0,
        error=error,
    )
    return SegmentTimes(view=view, submitted_at=START + SECOND, updated_at=START + 2 * SECOND)


def test_every_state_has_its_place_in_the_order() -> None:
    assert set(ROLL_UP) == set(State)


@given(st.lists(st.sampled_from(State), min_size=1))
def test_delivered_only_when_all_segments_are(states: list[State]) -> None:
    assert (roll_up(states) is State.DELIVERED) == (set(states) == {State.DELIVERED})


@given(st.lists(st.sampled_from(State), min_size=1))
def test_any_doubt_is_the_messages_doubt(states: list[State]) -> None:
    assert (roll_up(states) is State.IN_DOUBT) == (State.IN_DOUBT in states)


def test_the_plain_story_is_read_off_the_times() -> None:
    lines = tell(START, [part(State.DELIVERED)], [])
    assert [line.state for line in lines] == [State.ACCEPTED, State.SUBMITTED, State.DELIVERED]
    assert [line.at for line in lines] == [START, START + SECOND, START + 2 * SECOND]


def test_the_carriers_code_is_told_when_it_was_not_delivered() -> None:
    assert tell(START, [part(State.UNDELIVERED, error="042")], [])[-1].detail.endswith("code: 042.")


def test_a_stored_line_is_not_told_twice() -> None:
    stored = Event(at=START + 2 * SECOND, state=State.DELIVERED, segment=1, detail="Settled late.")
    assert [line.detail for line in tell(START, [part(State.DELIVERED)], [stored])].count("Delivered.") == 0


def test_each_named_query_is_one_statement() -> None:
    assert all(";" not in text for text in queries().values())
