"""Cuts a stream of octets into the frames of PDUs.

A frame begins with its own length. When that length is impossible nobody can tell where the next PDU
begins, so the stream is lost: `broken` says so once and for all, and the connection has to be closed after
a generic_nack with ESME_RINVCMDLEN (SMPP v3.4, 4.3.1). At most one frame and one read are held in memory.
"""

import struct
from dataclasses import dataclass
from typing import Final

from dispatcher.smpp.pdu import HEADER_SIZE

MAX_FRAME: Final = 70_000  # the longest MESSAGE_PAYLOAD (64 KiB) with room for everything else

_LENGTH: Final = struct.Struct(">I")


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """The stream cannot be followed any further."""

    length: int  # as claimed
    sequence: int  # of the PDU that claimed it; 0 when not even that was there


class Framer:
    """Feed it what arrives; it gives back whole frames in order."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._rest = b""
        self.broken: Broken | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are whole now. After `broken` is set it gives back nothing."""
        if self.broken:
            return []
        if self._rest:
            data = self._rest + data
        frames: list[bytes] = []
        at, end = 0, len(data)
        while end - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, at)
            if not HEADER_SIZE <= length <= self._max_frame:
                self.broken = Broken(length=length, sequence=_sequence(data, at))
                self._rest = b""
                return frames
            if end - at < length:
                break
            frames.append(data[at : at + length])
            at += length
        self._rest = data[at:]
        return frames


def _sequence(data: bytes, at: int) -> int:
    return int.from_bytes(data[at + 12 : at + 16], "big") if len(data) - at >= HEADER_SIZE else 0
