"""What a message's segments tell together: its state, and its story in order. Pure; both stores use it.

Only the rare lines of the story are stored (`dispatcher.states` says which); that it was accepted, submitted and
delivered is read off the times that are kept anyway.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from dispatcher.model import Event, SegmentView, State
from dispatcher.smpp.status import describe
from dispatcher.states import BY_NAME, What

# A message is in the first of these that any of its segments is in. The same order as the type hotsite.state.
ROLL_UP = (
    State.IN_DOUBT,
    State.SUBMITTING,
    State.QUEUED,
    State.HELD,
    State.SCHEDULED,
    State.ACCEPTED,
    State.SUBMITTED,
    State.FAILED,
    State.REJECTED,
    State.UNDELIVERED,
    State.EXPIRED,
    State.CANCELED,
    State.SUPPRESSED,
    State.UNKNOWN,
    State.DELIVERED,
)

_TOLD_BY_STATE = {
    State.SUBMITTING: BY_NAME[What.CLAIMED].sentence,
    State.FAILED: BY_NAME[What.REFUSED].sentence,
    State.REJECTED: "The carrier rejected it.",
    State.UNDELIVERED: "The carrier could not deliver it.",
    State.EXPIRED: BY_NAME[What.TOO_LATE].sentence,
    State.UNKNOWN: BY_NAME[What.NO_RECEIPT].sentence,
    State.DELIVERED: "Delivered.",
}


@dataclass(frozen=True, kw_only=True)
class SegmentTimes:
    """A segment with the times from which its story is told."""

    view: SegmentView
    submitted_at: datetime | None
    updated_at: datetime


def stored_detail(
    sentence: str, *, attempt: int | None, carrier: str | None, command_status: int | None
) -> str:
    """A stored line in words: its sentence, then which attempt, and who answered what."""
    words = [sentence]
    if attempt is not None:
        words.append(f"Attempt {attempt}{f' at {carrier}' if carrier else ''}.")
    if command_status:
        status = describe(command_status)
        words.append(f"{status.sentence} ({status.name})")
    return " ".join(words)


def superseded_detail(sentence: str, newer: object) -> str:
    """The sentence of what was superseded, with the text that took its place."""
    return sentence.replace("a newer text", f"{newer}, a newer text")


def roll_up(states: Iterable[State]) -> State:
    return min(states, key=ROLL_UP.index)


def tell(
    accepted_at: datetime, segments: Sequence[SegmentTimes], stored: Iterable[Event]
) -> tuple[Event, ...]:
    """The whole story in order: the stored lines, and those that the segments' times tell."""
    lines = [Event(at=accepted_at, state=State.ACCEPTED, segment=None, detail="Accepted."), *stored]
    told = {(line.segment, line.state) for line in lines}
    for part in segments:
        view = part.view
        if part.submitted_at is not None and (view.segment, State.SUBMITTED) not in told:
            detail = f"Taken by {view.carrier} as {view.carrier_message_id}."
            lines.append(
                Event(at=part.submitted_at, state=State.SUBMITTED, segment=view.segment, detail=detail)
            )
        if view.state in _TOLD_BY_STATE and (view.segment, view.state) not in told:
            detail = _TOLD_BY_STATE[view.state]
            if view.error and view.state is not State.DELIVERED:
                detail += f" The carrier's code: {view.error}."
            lines.append(Event(at=part.updated_at, state=view.state, segment=view.segment, detail=detail))
    return tuple(sorted(lines, key=lambda line: line.at))
