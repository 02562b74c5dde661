"""What a decision is made of: lanes, their rows, and what came of them."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from sitecontrol.leadership.effects import Effect
from sitecontrol.leadership.facts import Facts


class Lane(Enum):
    POSTGRES = "postgres"  # our own PostgreSQL and our claim to lead
    STEP = "step"  # which standbys are in step
    SWAP = "swap"  # the planned swap's record
    HEALTH = "health"  # whether to ask for a swap because the live site is unfit
    RECORDS = "records"  # what stands in etcd and is not believed
    REACHED = "reached"  # how far those who hold everything have come
    UPKEEP = "upkeep"

    __hash__ = (
        object.__hash__
    )  # each is one object: `Enum`'s own is slow, and lanes are keys ten times a second


@dataclass(frozen=True, eq=False)
class Row:
    """One decision: when `when` holds (and no row above), do `then` (None: hold still)."""

    name: str
    sentence: str
    when: Callable[[Facts], bool]
    then: Callable[[Facts], Effect | None] = lambda _: None


@dataclass(frozen=True, kw_only=True)
class Decision:
    lane: Lane
    rule: str
    sentence: str
    effect: Effect | None
