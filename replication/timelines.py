"""Where two histories parted. Pure.

A timeline ends where the next one was begun from it; the file `pg_wal/<timeline>.history` tells how its own came
about, a line for each ancestor: its number, and the position at which it was left. Two servers share a timeline only
if both began it at the same position, and it parts them where the first of the two left it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from replication import lsn
from replication.errors import NodeError

HISTORY_OF = "pg_wal/{timeline:08X}.history"
"""Below the data directory; timeline 1 has none."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A part of a history: what lies on one timeline."""

    timeline: int
    begin: int
    end: int | None  # None: it is the newest, and goes on


def parse(text: str, timeline: int) -> tuple[Stretch, ...]:
    """The history of `timeline`, from its file (empty: it has none), oldest first. Raises NodeError."""
    stretches: list[Stretch] = []
    begin = 0
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            ancestor, end = int(words[0]), lsn.parse(words[1])
        except (ValueError, IndexError):
            raise NodeError(f"not a line of a timeline's history: {line!r}") from None
        stretches.append(Stretch(timeline=ancestor, begin=begin, end=end))
        begin = end
    return (*stretches, Stretch(timeline=timeline, begin=begin, end=None))


def fork(ours: Sequence[Stretch], theirs: Sequence[Stretch]) -> int | None:
    """Where our history left theirs; None: nothing shows that it did, for both are still on their last common
    timeline.
    """
    common = [
        (a, b) for a, b in zip(ours, theirs, strict=False) if (a.timeline, a.begin) == (b.timeline, b.begin)
    ]
    if not common:
        raise NodeError("the two histories have nothing in common")
    ends = [stretch.end for stretch in common[-1] if stretch.end is not None]
    return min(ends, default=None)


def since(history: Sequence[Stretch], begin: int, end: int) -> tuple[Stretch, ...]:
    """What of `history` lies between two positions."""
    cut = (
        Stretch(
            timeline=stretch.timeline,
            begin=max(stretch.begin, begin),
            end=end if stretch.end is None else min(stretch.end, end),
        )
        for stretch in history
    )
    return tuple(stretch for stretch in cut if stretch.end is not None and stretch.begin < stretch.end)
