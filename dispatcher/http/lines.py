"""Cuts a stream of bytes into lines, holding no more of it than one line may have. Pure."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Overlong:
    """A line that has more bytes than a line may have; all but its first ones were let go."""

    size: int
    begun: bytes = field(default=b"", compare=False, repr=False)  # as many as a line may have


class LineCutter:
    """Feed chunks of any size; each call returns the lines that ended in it."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._begun: list[bytes] = []  # of the line that has not ended yet, no more than a line may have
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes | Overlong]:
        *ended, rest = chunk.split(b"\n")
        lines: list[bytes | Overlong] = []
        for piece in ended:
            self._hold(piece)
            lines.append(self._cut())
        self._hold(rest)
        return lines

    def end(self) -> bytes | Overlong | None:
        """The last line, if the stream did not end with a line's end."""
        return self._cut() if self._size else None

    def _hold(self, piece: bytes) -> None:
        room = self._at_most - self._size
        self._size += len(piece)
        if piece and room > 0:
            self._begun.append(piece[:room])

    def _cut(self) -> bytes | Overlong:
        begun = b"".join(self._begun)
        line = begun if self._size <= self._at_most else Overlong(self._size, begun)
        self._begun.clear()
        self._size = 0
        return line
