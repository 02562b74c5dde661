"""Where two histories parted. Pure.

A timeline ends where the next one was begun from it; the file `pg_wal/<timeline>.history` tells how its own came
about, a line for each ancestor: its number, and the position at which it was left.

**A number is no identity.** Two nodes that are promoted one after the other from the same position both call what they
begin by the same number, and PostgreSQL cannot tell one from the other (docs/adr/0013). So each promotion gets a name
that no other has: a remark at the end of the parent's file, which PostgreSQL copies as it is into the file of the
timeline that it begins, and hands on from there with the file. It names what was begun where the line below it tells;
below the last line it names what may be begun next.

Two servers share a timeline only if both began it at the same position and by the same promotion, and it parts them
where the first of the two left it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from replication import lsn
from replication.errors import NodeError

HISTORY_OF = "pg_wal/{timeline:08X}.history"
"""Below the data directory; timeline 1 has none, or one that only names what may be begun next."""
FILE_NAME = re.compile(r"([0-9A-F]{8})\.history")
REMARK = "# begun by "


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A part of a history: what lies on one timeline."""

    timeline: int
    begin: int
    end: int | None  # None: it is the newest, and goes on
    begun_by: str | None = None  # the promotion; None: it has no name (by hand, or by an earlier version)


def parse(text: str, timeline: int) -> tuple[Stretch, ...]:
    """The history of `timeline`, from its file (empty: it has none), oldest first. Raises NodeError."""
    stretches: list[Stretch] = []
    begin, begun_by, named = 0, None, None
    for line in text.splitlines():
        if line.startswith(REMARK):
            named = line.removeprefix(REMARK).strip() or None
            continue
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            ancestor, end = int(words[0]), lsn.parse(words[1])
        except (ValueError, IndexError):
            raise NodeError(f"not a line of a timeline's history: {line!r}") from None
        stretches.append(Stretch(timeline=ancestor, begin=begin, end=end, begun_by=begun_by))
        begin, begun_by, named = end, named, None
    return (*stretches, Stretch(timeline=timeline, begin=begin, end=None, begun_by=begun_by))


def naming_next(text: str, promotion: str) -> str:
    """The text of a history's file, in which the timeline that is begun from it next has this name, and no other."""
    lines = text.splitlines()
    while lines and (not lines[-1].strip() or lines[-1].startswith(REMARK)):
        lines.pop()
    return "\n".join((*lines, REMARK + promotion)) + "\n"


def contradicted(ours: Iterable[Stretch], theirs: Iterable[Stretch]) -> int | None:
    """A timeline that both know by this number, and that is not the same one; None: there is none.

    What only one of them knows contradicts nothing.
    """
    known = {stretch.timeline: (stretch.begin, stretch.begun_by) for stretch in theirs}
    other = (
        s.timeline for s in ours if known.get(s.timeline, (s.begin, s.begun_by)) != (s.begin, s.begun_by)
    )
    return min(other, default=None)


def fork(ours: Sequence[Stretch], theirs: Sequence[Stretch]) -> int | None:
    """Where our history left theirs; None: nothing shows that it did, for both are still on their last common
    timeline.
    """
    common = list(takewhile(lambda pair: _same(*pair), zip(ours, theirs, strict=False)))
    if not common:
        raise NodeError("the two histories have nothing in common")
    ends = [stretch.end for stretch in common[-1] if stretch.end is not None]
    return min(ends, default=None)


def _same(a: Stretch, b: Stretch) -> bool:
    return (a.timeline, a.begin, a.begun_by) == (b.timeline, b.begin, b.begun_by)


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
