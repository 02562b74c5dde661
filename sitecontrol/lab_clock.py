"""The clock of a place in a lab: its wall clock can be made wrong, to see that nobody minds.

Only where `environment = "lab"`. A file in the place's `state_dir` says by how many seconds; without it the clock is
right. The other clock, by which leases and deadlines are reckoned, is never touched: what keeps both does not either.
"""

import math
from datetime import datetime, timedelta
from pathlib import Path

from sitecontrol.clock import SystemClock
from sitecontrol.settings import Environment, Settings

WALL_OFFSET = "wall-offset"  # the file: seconds, as text
LOOK_EVERY = 0.1  # seconds
AT_MOST = 10 * 365 * 86_400.0  # seconds


class LabClock(SystemClock):
    def __init__(self, file: Path) -> None:
        self._file = file
        self._looked_at = -math.inf
        self._off = timedelta()

    def wall(self) -> datetime:
        now = self.now()
        if now - self._looked_at >= LOOK_EVERY:
            self._looked_at, self._off = now, offset_in(self._file)
        return super().wall() + self._off


def offset_in(file: Path) -> timedelta:
    """What is no number of seconds, or more than a clock may be off by, is none."""
    try:
        seconds = float(file.read_text())
    except (OSError, ValueError):
        return timedelta()
    return timedelta(seconds=seconds) if abs(seconds) <= AT_MOST else timedelta()


def clock_of(settings: Settings) -> SystemClock:
    """The clock of a process of this place."""
    if settings.site.environment is Environment.LAB:
        return LabClock(settings.site.state_dir / WALL_OFFSET)
    return SystemClock()
