"""Sequence numbers and the submits that wait for their answers, matched in constant time.

Sequence numbers run from 1 to 0x7FFFFFFF and begin again (SMPP v3.4, 5.1.4); one that still waits is passed
over. What waited too long moves from `waiting` to `overdue`: it no longer fills the window, but an answer
that comes after all still finds it. Entries keep the order of writing, so the oldest is always first.
"""

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from dispatcher.smpp.pdu import MAX_SEQUENCE

MAX_OVERDUE: Final = 10_000

T = TypeVar("T")


class Window(Generic[T]):
    """At most `size` entries wait at once."""

    __slots__ = ("_last", "_overdue", "_size", "_waiting")

    def __init__(self, size: int, last_sequence: int = 0) -> None:
        self._size = size
        self._last = last_sequence
        self._waiting: dict[int, T] = {}
        self._overdue: dict[int, T] = {}

    @property
    def free(self) -> int:
        return self._size - len(self._waiting)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def next_sequence(self) -> int:
        """A number that nothing waits under."""
        while True:
            self._last = self._last % MAX_SEQUENCE + 1
            if self._last not in self._waiting and self._last not in self._overdue:
                return self._last

    def add(self, sequence: int, entry: T) -> None:
        if self.free <= 0:
            raise OverflowError("the window is full")
        self._waiting[sequence] = entry

    def answer(self, sequence: int) -> T | None:
        """Take out what waits under this number, or None."""
        return self._waiting.pop(sequence, None)

    def answer_late(self, sequence: int) -> T | None:
        """Take out what was overdue under this number, or None."""
        return self._overdue.pop(sequence, None)

    def oldest(self) -> tuple[int, T] | None:
        """What has waited longest."""
        return next(iter(self._waiting.items()), None)

    def give_up(self, sequence: int) -> None:
        """Move an entry to `overdue`; the oldest of those is forgotten when there are too many."""
        self._overdue[sequence] = self._waiting.pop(sequence)
        if len(self._overdue) > MAX_OVERDUE:
            del self._overdue[next(iter(self._overdue))]

    def drain(self) -> Iterator[T]:
        """Take out everything that waits; the overdue are forgotten (their connection is gone)."""
        self._overdue.clear()
        while self._waiting:
            yield self._waiting.pop(next(iter(self._waiting)))
