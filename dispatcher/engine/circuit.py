"""Whether a carrier's last answers are a reason to let others go first. Pure: the caller brings the time.

A circuit breaker (Nygard, "Release It!"): *closed* while all is well, *open* for a while after too many errors or
answers that never came, then *half-open*: one text at a time is tried, and its answer decides. A carrier whose circuit
is open still carries what nobody else may carry: then there is nothing better to do, and its own links slow down and
stall by themselves.

- Good is every answer that is about the text: taken, or refused for good. Bad are temporary errors and doubts; being
  throttled is neither, it has a pause of its own (`smpp.pace`).
- It opens when half of what came in the last seconds was bad, if that were some; or when several in a row were never
  answered.
"""

from enum import Enum
from typing import Final

BUCKET_S: Final = 10.0  # what came in this and in the last of these counts
BAD_AT_LEAST: Final = 5
DOUBTS_IN_A_ROW: Final = 3
FIRST_OPEN_S: Final = 5.0
LONGEST_OPEN_S: Final = 60.0
PROBE_FOR_S: Final = 60.0  # a probe that nobody tells of is forgotten


class Sort(Enum):
    GOOD = "good"
    ERROR = "error"
    DOUBT = "doubt"


class Circuit:
    def __init__(self) -> None:
        self._good = self._bad = self._good_before = self._bad_before = 0
        self._doubts = 0  # in a row
        self._since = 0.0  # when this bucket began
        self._open_until: float | None = None
        self._open_s = FIRST_OPEN_S
        self._probe_at: float | None = None
        self.opened = 0  # how often

    @property
    def closed(self) -> bool:
        return self._open_until is None

    def look(self, now: float) -> None:
        """To be called now and then: what is long past counts no more."""
        if now - self._since > BUCKET_S:
            self._turn_over(now)

    def may_probe(self, now: float) -> bool:
        """Whether one text may be tried: the circuit is half-open, and no other is under way."""
        if self._open_until is None or now < self._open_until:
            return False
        return self._probe_at is None or now - self._probe_at > PROBE_FOR_S

    def probed(self, now: float) -> None:
        """That one text was written."""
        self._probe_at = now

    def good(self) -> None:
        """A good answer while the circuit is closed, in the shortest way: there is one for each text."""
        self._good += 1
        self._doubts = 0

    def answered(self, sort: Sort, now: float) -> None:
        self.look(now)
        if sort is Sort.GOOD:
            self._good += 1
            self._doubts = 0
        else:
            self._bad += 1
            self._doubts = self._doubts + 1 if sort is Sort.DOUBT else 0
        if self._open_until is not None:
            # What was under way before it opened counts for nothing.
            if now >= self._open_until and (sort is Sort.GOOD or self._probe_at is not None):
                self._decide(sort, now)
        elif sort is not Sort.GOOD and self._is_too_much():
            self._open(now)

    def _decide(self, sort: Sort, now: float) -> None:
        self._probe_at = None
        if sort is Sort.GOOD:
            self._open_until, self._open_s = None, FIRST_OPEN_S
            self._good = self._bad = self._good_before = self._bad_before = self._doubts = 0
        else:
            self._open_s = min(LONGEST_OPEN_S, 2 * self._open_s)
            self._open(now)

    def _open(self, now: float) -> None:
        self._open_until = now + self._open_s
        self._probe_at = None
        self.opened += 1

    def _is_too_much(self) -> bool:
        good, bad = self._good + self._good_before, self._bad + self._bad_before
        return self._doubts >= DOUBTS_IN_A_ROW or (bad >= BAD_AT_LEAST and bad >= good)

    def _turn_over(self, now: float) -> None:
        recent = now - self._since <= 2 * BUCKET_S
        self._good_before, self._bad_before = (self._good, self._bad) if recent else (0, 0)
        self._good = self._bad = 0
        self._since = now
