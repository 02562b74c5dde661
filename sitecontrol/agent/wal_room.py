"""How much is free on the volume of our WAL, for those who want to move production here.

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
        self._seen: tuple[int, float] | None = None

    @property
    def free(self) -> int | None:
        """Bytes, as seen a moment ago; looks again when that is due. None: not known."""
        now = self._clock.now()
        if not self._looking and now - self._asked_at >= LOOK_EVERY:
            self._looking, self._asked_at = True, now
            threading.Thread(target=self._look, name="wal-room", daemon=True).start()
        seen = self._seen
        return seen[0] if seen is not None and now - seen[1] <= KNOWN_FOR else None

    def _look(self) -> None:
        try:
            self._seen = shutil.disk_usage(self._wal).free, self._clock.now()
        except OSError:
            self._seen = None  # there is no data directory yet, or any more
        self._looking = False
