"""Several runs of one drill taken together: what holds over all of them, and not of any one. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sitecontrol.drills.outcome import Outcome
from sitecontrol.drills.stories import DRILLS


@dataclass(frozen=True, kw_only=True)
class Series:
    """Durations in seconds: of each run but idle ones, the longest pause that any client saw. None: all were idle."""

    drill: str
    runs: int
    pause_median_s: float | None
    pause_min_s: float | None
    pause_max_s: float | None
    median_limit_s: float | None  # None: the drill sets none
    pause_limit_s: float
    held: dict[str, bool]

    @property
    def ok(self) -> bool:
        return all(self.held.values())

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}


def series_of(outcomes: Sequence[Outcome]) -> list[Series]:
    """One for each drill, in the order of their first runs."""
    names = dict.fromkeys(outcome.drill for outcome in outcomes)
    return [_series(name, [outcome for outcome in outcomes if outcome.drill == name]) for name in names]


def _series(name: str, runs: Sequence[Outcome]) -> Series:
    drill = DRILLS[name]
    pauses = [outcome.pause_s for outcome in runs if outcome.pause_s is not None]
    median = statistics.median(pauses) if pauses else None
    held = {}
    if drill.median_limit is not None and median is not None and len(pauses) > 1:  # one run has no median
        held["median-within-limit"] = median <= drill.median_limit
    limit = max(
        outcome.pause_limit_s for outcome in runs
    )  # more than the drill's own in the middle of a swap
    if pauses:
        held["pause-within-limit"] = max(pauses) <= limit
    return Series(
        drill=name,
        runs=len(runs),
        pause_median_s=None if median is None else round(median, 3),
        pause_min_s=min(pauses, default=None),
        pause_max_s=max(pauses, default=None),
        median_limit_s=drill.median_limit,
        pause_limit_s=limit,
        held=held,
    )
