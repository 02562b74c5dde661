"""The log of every submit_sm that the simulator received: append-only, one JSON object per line (UTF-8).

| key | |
|---|---|
| `t` | when it was read from the socket, seconds since 1970 (UTC), a float |
| `seq` | the sequence number of the PDU |
| `link` | which connection it came over: a number that grows with each connection |
| `system_id` | who was bound |
| `source`, `destination` | the addresses as they came (no `+`) |
| `ref`, `part`, `parts` | of a text in parts, from its header; else `null`, 1, 1 |
| `coding` | data_coding |
| `sha256` | of `text` in UTF-8, hexadecimal |
| `text` | of this part, without the header |
| `id` | the message id that was assigned; `null` when it was refused |
| `status` | the command_status decided; 0: the text was taken, and so it counts as sent |
| `answered` | false when no answer is sent (silence, or the link is cut): the sender is in doubt |

Lines are written at most `FLUSH_EVERY_S` after they were made, and all of them on a clean stop. After a kill the
last line may be cut off: `read_log` leaves an incomplete last line out, and so should every other reader.
"""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypedDict

import orjson

FLUSH_EVERY_S: Final = 0.05
_FLUSH_BYTES: Final = 256 * 1024


class Line(TypedDict):
    """One submit, as in the table above."""

    t: float
    seq: int
    link: int
    system_id: str
    source: str
    destination: str
    ref: int | None
    part: int
    parts: int
    coding: int
    sha256: str
    text: str
    id: str | None
    status: int
    answered: bool


def text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class SubmitLog:
    """Appends lines; buffered, so that a burst costs one write."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when the file cannot be opened."""
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._lines: list[bytes] = []
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def append(self, line: Line) -> None:
        octets = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        self._lines.append(octets)
        self._bytes += len(octets)
        if self._bytes >= _FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_EVERY_S, self.flush)

    def flush(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        left = memoryview(b"".join(self._lines))
        self._lines.clear()
        self._bytes = 0
        while left:
            left = left[os.write(self._file, left) :]

    def close(self) -> None:
        self.flush()
        os.close(self._file)


def read_log(path: Path) -> Iterator[Line]:
    """All whole lines, in the order of arrival. Raises OSError, or ValueError for a line that is no JSON."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield orjson.loads(line)
