"""How fast a link may write: a token bucket per segment that slows down when the carrier says so.

- The bucket fills at `rate` and holds 20 ms worth (at least one token), so that a rate is kept within any
  second and not only on average.
- Throttled (0x58) or queue full (0x14): nothing is written for a while (0.1 s, doubling up to 5 s while the
  carrier keeps saying so), then at 0.7 of what it last took in a second. Answers to what was already under
  way do not count again. What it took before a time without traffic tells nothing of what it can take, nor do
  the seconds of that time; where nothing else is known, the cut is from the rate as it is.
- Without further complaints the rate grows by a tenth each second, back to the carrier's setting.

Pure: the caller brings the time (seconds, only differences matter).
"""

import math
from typing import Final

_BURST_S: Final = 0.02
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_CUT: Final = 0.7
_GROWTH_PER_S: Final = 1.1
_SLOWEST: Final = 1.0
_MEASURED_OVER_S: Final = 1.0
_MEASURED_OVER_AT_LEAST_S: Final = 0.1  # a few answers in a moment would look like a thousand a second


class Pace:
    """The bucket of one link."""

    def __init__(self, rate: float, now: float) -> None:
        self._setting = rate
        self.rate = rate
        self._tokens = self._burst
        self._filled_at = now
        self._paused_until = now
        self._pause = _FIRST_PAUSE_S
        self._accepted = 0
        self._measured_since = now
        self._last_measured = 0.0  # a second; 0: nothing is known
        self._written_at = now

    def available(self, now: float) -> int:
        """How many segments may be written right now."""
        self._fill(now)
        return 0 if now < self._paused_until else int(self._tokens)

    def paused(self, now: float) -> bool:
        """Whether the carrier said that it was too much, and nothing is written for a while."""
        return now < self._paused_until

    def change(self, rate: float, now: float) -> None:
        """The setting is another from now on."""
        self._fill(now)
        slowed = self.rate < self._setting
        self._setting = rate
        self.rate = min(self.rate, rate) if slowed else rate
        self._tokens = min(self._tokens, self._burst)

    def take(self, segments: int) -> None:
        """They were written. Only after `available` allowed so many."""
        self._tokens -= segments
        now = self._filled_at
        if segments and now - self._written_at > _MEASURED_OVER_S:
            self._accepted, self._measured_since, self._last_measured = 0, now, 0.0
        if segments:
            self._written_at = now

    def wait(self, now: float) -> float:
        """Seconds until one may be written."""
        self._fill(now)
        missing = max(0.0, 1.0 - self._tokens) / self.rate
        return max(self._paused_until - now, missing)

    def accepted(self, now: float) -> None:
        """The carrier took one."""
        self._accepted += 1
        if now - self._measured_since >= _MEASURED_OVER_S:
            self._last_measured = self._taken(now)
            self._accepted, self._measured_since = 0, now
        if now >= self._paused_until:
            self._pause = _FIRST_PAUSE_S

    def throttled(self, now: float) -> None:
        """The carrier said that it was too much."""
        if now < self._paused_until:
            return
        taken = max(self._taken(now), self._last_measured)
        self.rate = max(_SLOWEST, (min(self.rate, taken) if taken else self.rate) * _CUT)
        self._tokens = min(self._tokens, self._burst)
        self._paused_until = now + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_S)

    @property
    def _burst(self) -> float:
        return max(1.0, self.rate * _BURST_S)

    def _taken(self, now: float) -> float:
        """How many a second it has taken since the measuring began."""
        return self._accepted / max(now - self._measured_since, _MEASURED_OVER_AT_LEAST_S)

    def _fill(self, now: float) -> None:
        elapsed = now - self._filled_at
        if elapsed <= 0:
            return
        self._filled_at = now
        if self.rate < self._setting and now > self._paused_until:
            grown = min(elapsed, 60.0)  # a minute is enough for any rate; keeps pow finite
            self.rate = min(self._setting, self.rate * math.pow(_GROWTH_PER_S, grown))
        self._tokens = min(self._burst, self._tokens + elapsed * self.rate)
