"""How fast messages go in and out, from the counters that dispatchers tell.

Each dispatcher counts since its start. A counter that went back means that it was started again, and what it
shows then was counted since. A dispatcher that is silent adds nothing, and its first word after a silence is
spread over that silence, so that no false peak is drawn.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

FLOWS = ("accepted", "submitted", "receipts")  # the dispatchers' names for their counters
SAMPLES_KEPT = 120
RATE_HOLDS = 3.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Reading:
    at: float
    counters: Mapping[str, int]


def rates(before: Reading, after: Reading) -> dict[str, float]:
    """Per second, for each flow that both readings tell."""
    passed = after.at - before.at
    if passed <= 0:
        return {}
    found = {}
    for flow in FLOWS:
        if flow in before.counters and flow in after.counters:
            grown = after.counters[flow] - before.counters[flow]
            found[flow] = (grown if grown >= 0 else after.counters[flow]) / passed
    return found


class Meter:
    """`sample` is called about once a second with the newest reading of each dispatcher that answers."""

    def __init__(self) -> None:
        self._last: dict[str, Reading] = {}
        self._rates: dict[str, dict[str, float]] = {}
        self.series: dict[str, deque[float]] = {flow: deque(maxlen=SAMPLES_KEPT) for flow in FLOWS}

    def sample(self, told: Mapping[str, Reading], now: float) -> None:
        for name, reading in told.items():
            before = self._last.get(name)
            if before is None or reading.at > before.at:
                self._rates[name] = rates(before, reading) if before else {}
                self._last[name] = reading
        # Samples and looks have the same rhythm but not the same beat: a rate holds until it is old.
        fresh = [rate for name, rate in self._rates.items() if now - self._last[name].at < RATE_HOLDS]
        for flow in FLOWS:
            self.series[flow].append(round(sum(rate.get(flow, 0.0) for rate in fresh), 1))
