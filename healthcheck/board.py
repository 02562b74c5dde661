"""What is known from here right now: for each target its verdict, the last looks, and since when.

The board is memory only. A restart starts from `unknown`, which is true.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import structlog

from healthcheck.probes.result import Result
from healthcheck.targets import Target
from healthcheck.verdicts import Standing, Transition, Word, explain, step
from sitecontrol.clock import Clock

LOOKS_KEPT = 60

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    at: float  # Clock.now()
    result: Result

    @property
    def word(self) -> Word:
        if self.result.ok is None:
            return Word.SILENT
        return Word.GOOD if self.result.ok else Word.BAD


@dataclass(frozen=True, kw_only=True)
class Row:
    """A target as it stands. `looks` is oldest first, `wall_since` is for people."""

    target: Target
    standing: Standing
    looks: tuple[Look, ...]
    wall_since: datetime
    age: float | None  # seconds since the last look

    @property
    def last(self) -> Result | None:
        return self.looks[-1].result if self.looks else None

    @property
    def sentence(self) -> str:
        return explain(self.standing, self.target.limits)


class Board:
    def __init__(self, targets: Iterable[Target], clock: Clock) -> None:
        self._clock = clock
        now = clock.now()
        self._targets = {t.name: t for t in targets}
        self._standings = {name: Standing(since=now) for name in self._targets}
        self._wall_since = dict.fromkeys(self._targets, clock.wall())
        self._looks: dict[str, deque[Look]] = {name: deque(maxlen=LOOKS_KEPT) for name in self._targets}
        self.looks_taken = 0
        self.changed = asyncio.Event()  # set when a verdict changes; whoever waits clears it

    def record(self, target: Target, result: Result) -> Transition | None:
        """Take one look's result; returns the transition if the verdict changed."""
        now = self._clock.now()
        look = Look(at=now, result=result)
        self._looks[target.name].append(look)
        self.looks_taken += 1
        standing, transition = step(self._standings[target.name], look.word, target.limits, now)
        self._standings[target.name] = standing
        if transition is not None:
            self._wall_since[target.name] = self._clock.wall()
            log.info(
                "verdict_changed",
                target=target.name,
                before=transition.before.value,
                after=transition.after.value,
                why=transition.sentence,
                detail=result.detail,
            )
            self.changed.set()
        return transition

    def latest(self, name: str) -> Result | None:
        looks = self._looks.get(name)
        return looks[-1].result if looks else None

    def row(self, name: str) -> Row | None:
        target = self._targets.get(name)
        return self._row(target, self._clock.now()) if target else None

    def rows(self) -> Iterator[Row]:
        now = self._clock.now()
        return (self._row(target, now) for target in self._targets.values())

    def _row(self, target: Target, now: float) -> Row:
        standing = self._standings[target.name]
        looks = tuple(self._looks[target.name])
        return Row(
            target=target,
            standing=standing,
            looks=looks,
            wall_since=self._wall_since[target.name],
            age=now - looks[-1].at if looks else None,
        )
