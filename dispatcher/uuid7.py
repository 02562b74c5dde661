"""UUIDs of version 7 (RFC 9562, section 5.7): ordered by the time they were made, unguessable in the rest.

The 12 bits after the milliseconds hold the fraction of the millisecond (the RFC's method 3), and the stamp
never stands still or goes back inside one process: ids made one after another sort in that order, also when
the wall clock is set back.
"""

import os
from datetime import datetime
from typing import Final
from uuid import UUID

from sitecontrol.clock import Clock

_VERSION: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62
_RANDOM: Final = (1 << 62) - 1


def stamp(at: datetime) -> int:
    """Milliseconds since 1970 in the upper bits, the fraction of a millisecond in the lower 12."""
    micros = _micros(at.timestamp())
    return (micros // 1_000) << 12 | (micros % 1_000) * 4_096 // 1_000


def compose(stamped: int, randomness: int) -> UUID:
    """The UUID of a stamp (60 bits) and of 62 bits of randomness."""
    value = (stamped >> 12) << 80 | _VERSION | (stamped & 0xFFF) << 64 | _VARIANT | randomness & _RANDOM
    return UUID(int=value)


def least(at: float) -> UUID:
    """The first in order of those made at this time (seconds since 1970; before, it is the first of all)."""
    return compose(_micros(max(0.0, at)) // 1_000 << 12, 0)


def _micros(seconds: float) -> int:
    """Rounded: a time in whole microseconds is seldom one as seconds, and lies below it as often as above."""
    return round(seconds * 1_000_000)


def made_at(uuid: UUID) -> float:
    """Seconds since 1970 at which a version 7 UUID was made, to the millisecond."""
    return (uuid.int >> 80) / 1_000


class Ids:
    """Makes ids. One for a process, so that its ids are ordered."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def new(self) -> UUID:
        self._last = max(stamp(self._clock.wall()), self._last + 1)
        return compose(self._last, int.from_bytes(os.urandom(8)))
