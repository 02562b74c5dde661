"""What a row of probe results amounts to: up, down, or on the way.

Theory. One look proves little, so a verdict falls after `fall` bad looks in a row and rises after `rise` good
ones (HAProxy's words and rules). A third kind of word is "cannot tell": the dispatcher that knows about a
carrier link does not answer, a password is missing. It is never counted as bad; after `fall` of them in a row
the verdict is `unknown`, and nobody may act on it.

Rules.
- `step` is pure. All transitions stand in `TABLE`; each carries a sentence that an operator can read.
- A verdict is `unknown` until `rise` good or `fall` bad looks in a row: a daemon that has just started claims
  nothing.
- During maintenance looks are ignored; when it ends, everything starts from `unknown`.
- An event that the table does not know raises `IllegalEventError` and changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from healthcheck import HealthcheckError


class IllegalEventError(HealthcheckError):
    """This event cannot happen in this state."""


class Verdict(StrEnum):
    UP = "up"
    GOING_DOWN = "going-down"  # it still counts as up: not yet `fall` bad looks
    DOWN = "down"
    GOING_UP = "going-up"  # it still counts as down: not yet `rise` good looks
    MAINTENANCE = "maintenance"  # not looked at, by a person's word
    UNKNOWN = "unknown"  # nothing can be said from here

    @property
    def alive(self) -> bool:
        return self in {Verdict.UP, Verdict.GOING_DOWN}

    @property
    def dead(self) -> bool:
        return self in {Verdict.DOWN, Verdict.GOING_UP}


class Word(StrEnum):
    """What one look said, or what a person did."""

    GOOD = "good"
    BAD = "bad"
    SILENT = "silent"  # this place cannot tell
    BEGIN = "begin"  # maintenance begins
    END = "end"  # maintenance ends


@dataclass(frozen=True, kw_only=True)
class Limits:
    rise: int
    fall: int

    def needed(self, word: Word) -> int:
        return self.rise if word is Word.GOOD else self.fall


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A verdict, since when it stands (Clock.now()), and how many equal words in a row came last."""

    verdict: Verdict = Verdict.UNKNOWN
    since: float
    word: Word | None = None
    streak: int = 0


@dataclass(frozen=True, kw_only=True)
class Transition:
    before: Verdict
    after: Verdict
    sentence: str


_V, _W = Verdict, Word

# (verdict, word, whether the word came often enough in a row) -> (next verdict, sentence)
TABLE: Mapping[tuple[Verdict, Word, bool], tuple[Verdict, str]] = {
    (_V.UP, _W.GOOD, False): (_V.UP, "it answers"),
    (_V.UP, _W.GOOD, True): (_V.UP, "it answers"),
    (_V.UP, _W.BAD, False): (_V.GOING_DOWN, "{streak} of {fall} bad looks"),
    (_V.UP, _W.BAD, True): (_V.DOWN, "{fall} bad looks in a row: down"),
    (_V.UP, _W.SILENT, False): (_V.UP, "no word this time"),
    (_V.UP, _W.SILENT, True): (_V.UNKNOWN, "no word {fall} times in a row: nothing can be said"),
    (_V.GOING_DOWN, _W.GOOD, False): (_V.UP, "it answered again before {fall} bad looks in a row"),
    (_V.GOING_DOWN, _W.GOOD, True): (_V.UP, "it answered again before {fall} bad looks in a row"),
    (_V.GOING_DOWN, _W.BAD, False): (_V.GOING_DOWN, "{streak} of {fall} bad looks"),
    (_V.GOING_DOWN, _W.BAD, True): (_V.DOWN, "{fall} bad looks in a row: down"),
    (_V.GOING_DOWN, _W.SILENT, False): (_V.GOING_DOWN, "no word this time"),
    (_V.GOING_DOWN, _W.SILENT, True): (_V.UNKNOWN, "no word {fall} times in a row: nothing can be said"),
    (_V.DOWN, _W.GOOD, False): (_V.GOING_UP, "{streak} of {rise} good looks"),
    (_V.DOWN, _W.GOOD, True): (_V.UP, "{rise} good looks in a row: up again"),
    (_V.DOWN, _W.BAD, False): (_V.DOWN, "still bad"),
    (_V.DOWN, _W.BAD, True): (_V.DOWN, "still bad"),
    (_V.DOWN, _W.SILENT, False): (_V.DOWN, "no word this time"),
    (_V.DOWN, _W.SILENT, True): (_V.UNKNOWN, "no word {fall} times in a row: nothing can be said"),
    (_V.GOING_UP, _W.GOOD, False): (_V.GOING_UP, "{streak} of {rise} good looks"),
    (_V.GOING_UP, _W.GOOD, True): (_V.UP, "{rise} good looks in a row: up again"),
    (_V.GOING_UP, _W.BAD, False): (_V.DOWN, "bad again before {rise} good looks in a row"),
    (_V.GOING_UP, _W.BAD, True): (_V.DOWN, "bad again before {rise} good looks in a row"),
    (_V.GOING_UP, _W.SILENT, False): (_V.GOING_UP, "no word this time"),
    (_V.GOING_UP, _W.SILENT, True): (_V.UNKNOWN, "no word {fall} times in a row: nothing can be said"),
    (_V.UNKNOWN, _W.GOOD, False): (_V.UNKNOWN, "{streak} of {rise} good looks"),
    (_V.UNKNOWN, _W.GOOD, True): (_V.UP, "{rise} good looks in a row: up"),
    (_V.UNKNOWN, _W.BAD, False): (_V.UNKNOWN, "{streak} of {fall} bad looks"),
    (_V.UNKNOWN, _W.BAD, True): (_V.DOWN, "{fall} bad looks in a row: down"),
    (_V.UNKNOWN, _W.SILENT, False): (_V.UNKNOWN, "nothing can be said"),
    (_V.UNKNOWN, _W.SILENT, True): (_V.UNKNOWN, "nothing can be said"),
    (_V.MAINTENANCE, _W.GOOD, False): (_V.MAINTENANCE, "in maintenance: looks do not count"),
    (_V.MAINTENANCE, _W.GOOD, True): (_V.MAINTENANCE, "in maintenance: looks do not count"),
    (_V.MAINTENANCE, _W.BAD, False): (_V.MAINTENANCE, "in maintenance: looks do not count"),
    (_V.MAINTENANCE, _W.BAD, True): (_V.MAINTENANCE, "in maintenance: looks do not count"),
    (_V.MAINTENANCE, _W.SILENT, False): (_V.MAINTENANCE, "in maintenance: looks do not count"),
    (_V.MAINTENANCE, _W.SILENT, True): (_V.MAINTENANCE, "in maintenance: looks do not count"),
    (_V.MAINTENANCE, _W.END, True): (_V.UNKNOWN, "maintenance ended: looking afresh"),
    (_V.UP, _W.BEGIN, True): (_V.MAINTENANCE, "maintenance began"),
    (_V.GOING_DOWN, _W.BEGIN, True): (_V.MAINTENANCE, "maintenance began"),
    (_V.DOWN, _W.BEGIN, True): (_V.MAINTENANCE, "maintenance began"),
    (_V.GOING_UP, _W.BEGIN, True): (_V.MAINTENANCE, "maintenance began"),
    (_V.UNKNOWN, _W.BEGIN, True): (_V.MAINTENANCE, "maintenance began"),
}


def step(standing: Standing, word: Word, limits: Limits, now: float) -> tuple[Standing, Transition | None]:
    """The standing after one more word, and the transition if the verdict changed.

    Raises IllegalEventError for maintenance that begins twice, or ends without having begun.
    """
    streak = standing.streak + 1 if word is standing.word else 1
    by_a_person = word in {Word.BEGIN, Word.END}
    enough = by_a_person or streak >= limits.needed(word)
    row = TABLE.get((standing.verdict, word, enough))
    if row is None:
        raise IllegalEventError(
            f"{word.value!r} cannot happen while the verdict is {standing.verdict.value!r}"
        )
    after, sentence = row
    if after is standing.verdict:
        return Standing(verdict=after, since=standing.since, word=word, streak=streak), None
    told = sentence.format(streak=streak, rise=limits.rise, fall=limits.fall)
    # What was seen before or during maintenance says nothing about the time after it.
    word_left, streak_left = (None, 0) if by_a_person else (word, streak)
    return (
        Standing(verdict=after, since=now, word=word_left, streak=streak_left),
        Transition(before=standing.verdict, after=after, sentence=told),
    )


def explain(standing: Standing, limits: Limits) -> str:
    """Where the standing is on its way, in words: "2 of 3 bad looks"."""
    if standing.word is None:
        return "not looked at yet"
    enough = standing.word in {Word.BEGIN, Word.END} or standing.streak >= limits.needed(standing.word)
    row = TABLE.get((standing.verdict, standing.word, enough))
    return row[1].format(streak=standing.streak, rise=limits.rise, fall=limits.fall) if row else ""
