"""When to try again, when to stop, and what an answer means. Pure: chance and ages are passed in.

An event that was refused is tried again after 5 s, then after twice as long each time, up to an hour; it dies when it
is 72 h old. An endpoint that took nothing in a whole round is left alone by the same steps, and then tried with a few
events only; one that took nothing for 72 h is switched off, and keeps its place in the feed.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FIRST_S: Final = 5.0
LONGEST_S: Final = 3_600.0
SPREAD: Final = 0.25  # of a wait, to either side: what failed together does not come back together
DIES_AFTER_S: Final = 72 * 3_600.0
LONGEST_ASKED_S: Final = 6 * 3_600.0  # of a Retry-After; what is longer counts as that


def wait_s(failures: int, chance: float, asked_s: float | None = None) -> float:
    """How long to wait after so many failures, at least one. `chance`: from 0 to 1; `asked_s`: by its answer."""
    steps = min(failures - 1, 20)  # so that nothing overflows
    wait = min(LONGEST_S, FIRST_S * 2.0**steps) * (1 + SPREAD * (2 * chance - 1))
    return max(wait, min(asked_s or 0.0, LONGEST_ASKED_S))


class Outcome(StrEnum):
    """What became of one post; the value is how it is counted."""

    TAKEN = "taken"
    GONE = "gone"  # 410: the endpoint is switched off
    REFUSED = "refused"  # any other status
    REDIRECTED = "redirected"  # not followed: where it leads to was never allowed
    TIMEOUT = "timeout"
    INTERNAL = "internal_address"
    UNRESOLVED = "unresolved"  # its name has no address
    TLS = "tls"
    CONNECTION = "connection"  # none was made, or it broke
    INVALID = "invalid_answer"  # it is not HTTP


@dataclass(frozen=True, kw_only=True)
class Answer:
    outcome: Outcome
    status: int | None = None
    failure: str | None = None  # a sentence
    retry_after_s: float | None = None
    ms: int = 0

    @property
    def taken(self) -> bool:
        return self.outcome is Outcome.TAKEN


def of_status(status: int, retry_after: str | None) -> Answer:
    """What a status says. Retry-After counts in seconds; a date is not looked at."""
    if 200 <= status < 300:
        return Answer(outcome=Outcome.TAKEN, status=status)
    if status == 410:
        return Answer(outcome=Outcome.GONE, status=status, failure="It answered 410 (gone).")
    if 300 <= status < 400:
        return Answer(
            outcome=Outcome.REDIRECTED,
            status=status,
            failure=f"It answered {status}: redirects are not followed. Name the address that they lead to.",
        )
    asked = retry_after.strip() if retry_after is not None and status in {429, 503} else ""
    wait = float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else None
    return Answer(
        outcome=Outcome.REFUSED, status=status, failure=f"It answered {status}.", retry_after_s=wait
    )
