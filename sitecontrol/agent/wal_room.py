"""How large the volume of our WAL is, and how much is free on it, for those who want to move production here.

It is looked at by a thread of its own: a disk that answers nothing holds that thread, in the kernel, and nobody else.
Not even the end of this process waits for it.
"""

import shutil
import threading
from pathlib import Path

from sitecontrol.clock import Clock

LOOK_EVERY = 2.0  # seconds
KNOWN_FOR = 10.0  # seconds that a look counts


class WalRoom:
    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self._wal = data_dir / "pg_wal"  # a link, where WAL has a volume of its own
        self._clock = clock
        self._asked_at = float("-inf")
        self._looking = False
        self._seen: tuple[int, int, float] | None = None

    @property
    def free(self) -> int | None:
        """Bytes, as seen a moment ago. None: not known."""
        seen = self._look_when_due()
        return None if seen is None else seen[0]

    @property
    def volume(self) -> int | None:
        """Bytes of the whole volume, as `free`."""
        seen = self._look_when_due()
        return None if seen is None else seen[1]

    def _look_when_due(self) -> tuple[int, int, float] | None:
        now = self._clock.now()
        if not self._looking and now - self._asked_at >= LOOK_EVERY:
            self._looking, self._asked_at = True, now
            threading.Thread(target=self._look, name="wal-room", daemon=True).start()
        seen = self._seen
        return seen if seen is not None and now - seen[2] <= KNOWN_FOR else None

    def _look(self) -> None:
        try:
            seen = shutil.disk_usage(self._wal)
            self._seen = seen.free, seen.total, self._clock.now()
        except OSError:
            self._seen = None  # there is no data directory yet, or any more
        self._looking = False
