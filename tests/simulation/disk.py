"""A data directory: a WAL of entries, of which the last few may be in memory only, and what its control file tells."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.queue import Queue

TEXT_EVERY = 4  # every fourth message is a text to be sent: the others only have to survive


@dataclass(frozen=True)
class Entry:
    kind: str  # "message", "claim", "settle", "row", "canary", "barrier", "checkpoint", "promoted"
    timeline: int
    payload: Any = None


@dataclass
class Disk:
    """What it holds survives whatever happens to the server; what is not flushed does not survive the machine."""

    incarnation: str
    wal: list[int] = field(default_factory=list)
    flushed: int = 0  # entries of `wal` that a loss of power spares
    timeline: int = 1
    control_timeline: int = 1
    checkpoint: int = 0  # up to where a stopped standby's control file tells that it holds entries
    was_primary: bool = False
    clean_end: int | None = None
    usable: bool = True
    unjudged: bool = (
        False  # an older copy of a primary that has not run since: what it lacks tells only a start
    )
    _seen: int = 0  # entries of `wal` that `_latest` knows of
    _latest: dict[str, int] = field(default_factory=dict)
    _queue: Queue = field(default_factory=Queue)
    _queued: int = 0  # entries of `wal` that `_queue` knows of

    def holds(self, entry: int, position: int) -> bool:
        """Somewhere; most likely at its position."""
        return self.wal[position - 1 : position] == [entry] or entry in self.wal

    def has_flushed(self, entry: int, position: int) -> bool:
        at = self.wal[position - 1 : position] == [entry]
        return (at and position <= self.flushed) or entry in self.wal[: self.flushed]

    def copy_of(self, wal: Sequence[int]) -> None:
        self.wal, self._seen, self._latest = list(wal), 0, {}
        self.flushed, self._queue, self._queued = len(wal), Queue(), 0

    def older(self, entries: "list[Entry]") -> "Disk":
        """As a snapshot of it tells, which was taken when it held a third of what it holds now."""
        wal = self.wal[: max(1, len(self.wal) // 3)]
        timeline = entries[wal[-1]].timeline
        older = Disk(
            incarnation=self.incarnation,
            timeline=timeline,
            control_timeline=min(timeline, self.control_timeline),
            checkpoint=min(self.checkpoint, len(wal)),
            was_primary=self.was_primary,
            unjudged=self.was_primary,
        )
        older.copy_of(wal)
        return older

    def lose_power(self, kept: int) -> None:
        """The log ends where it was flushed, or somewhere behind."""
        self.copy_of(self.wal[: max(kept, self.flushed)])
        self.checkpoint = min(self.checkpoint, len(self.wal))

    def queue(self, entries: "list[Entry]") -> Queue:
        for i in self.wal[self._queued :]:
            entry = entries[i]
            if entry.kind != "message" or entry.payload % TEXT_EVERY == 0:
                self._queue.apply(entry.kind, entry.payload)
        self._queued = len(self.wal)
        return self._queue

    def promotions(self, entries: "list[Entry]") -> dict[int, int]:
        """By which promotion each of its timelines was begun."""
        return {entries[i].timeline: i for i in self.wal if entries[i].kind == "promoted"}

    def latest(self, kind: str, entries: "list[Entry]") -> int | None:
        """The newest entry of a kind."""
        for i in self.wal[self._seen :]:
            self._latest[entries[i].kind] = i
        self._seen = len(self.wal)
        return self._latest.get(kind)
