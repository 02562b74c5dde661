"""What is to be done next with one adapter, and what an attempt has changed. Nothing here waits or looks at a clock.

1. In a term of ours an adapter is pointed to our site once; from then on it is looked at.
2. What is found to be wrong is put right at once, and looked at again after the usual time: never in a tight circle.
3. What fails is tried again after a pause that doubles, for as long as we are the live site.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

FIRST_PAUSE = 0.5  # seconds, after the first failure
LONGEST_PAUSE = 15.0


class State(StrEnum):
    IDLE = "idle"  # we are not the live site: it is none of our business
    MOVING = "moving"  # nothing was heard yet in this term
    OK = "ok"  # clients are sent to our site, as far as can be seen
    FAILED = "failed"  # they may not be; `reason` says why


class Act(StrEnum):
    POINT = "point"
    CHECK = "check"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far one adapter is. `state` and `reason` are what people see."""

    state: State = State.IDLE
    reason: str = ""
    term: int = 0  # the last of our own terms
    pointed: bool = False  # it has been pointed to our site in that term
    failures: int = 0  # attempts in a row


def begin(before: Progress, term: int) -> Progress:
    """We are the live site in `term`: anew, or again after a moment in which we were not."""
    return Progress(state=State.MOVING, term=term, pointed=before.pointed and before.term == term)


def end(before: Progress) -> Progress:
    """We are not the live site any more."""
    return replace(before, state=State.IDLE, reason="", failures=0)


def next_act(progress: Progress) -> Act:
    return Act.CHECK if progress.pointed else Act.POINT


def succeeded(before: Progress, act: Act, wrong: str | None = None) -> Progress:
    """After an attempt that came to an end; `wrong` is what a check found."""
    if wrong is not None:
        return replace(before, state=State.FAILED, reason=wrong, pointed=False, failures=0)
    return replace(before, state=State.OK, reason="", pointed=before.pointed or act is Act.POINT, failures=0)


def failed(before: Progress, reason: str) -> Progress:
    return replace(before, state=State.FAILED, reason=reason, failures=before.failures + 1)


def pause(progress: Progress, check_every: float) -> float:
    """Seconds until the next attempt."""
    if progress.failures:
        return min(FIRST_PAUSE * 2.0 ** min(progress.failures - 1, 10), LONGEST_PAUSE)
    return check_every if progress.state is State.OK else 0.0
