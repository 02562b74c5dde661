"""Slows down whoever keeps knocking with wrong keys. Pure: time is passed in.

Each source has a bucket of failures that drains steadily. A source whose bucket is full is told to wait before
an unknown key of it is looked up again; good keys that are known pass regardless, for many callers may
share one address. The number of buckets is bounded: the source that failed longest ago is forgotten
first.
"""

from collections import OrderedDict
from typing import Final

FAILURES_AT_ONCE: Final = 10
DRAIN_PER_S: Final = 0.5
MOST: Final = FAILURES_AT_ONCE + 30  # nobody is locked out for more than a minute
SOURCES: Final = 10_000


class Doorkeeper:
    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # source -> (failures, at)

    def wait_s(self, source: str, now: float) -> float:
        """How long this source has to wait before another unknown key of it is looked up; 0 is not at all."""
        return max(0.0, (self._failures(source, now) - FAILURES_AT_ONCE + 1) / DRAIN_PER_S)

    def failed(self, source: str, now: float) -> None:
        self._buckets[source] = (min(MOST, self._failures(source, now) + 1), now)
        self._buckets.move_to_end(source)
        if len(self._buckets) > SOURCES:
            self._buckets.popitem(last=False)

    def _failures(self, source: str, now: float) -> float:
        failures, at = self._buckets.get(source, (0.0, now))
        return max(0.0, failures - (now - at) * DRAIN_PER_S)
