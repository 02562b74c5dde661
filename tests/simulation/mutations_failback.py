"""The rules of production's way back to the preferred site by itself, each taken out."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from sitecontrol.leadership import decide, failback, observed
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.observed import FAILBACK, Watch
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.records import Swap
from sitecontrol.snapshot import Snapshot
from tests.simulation.faults import Fault, Kind
from tests.simulation.mutation import Mutation
from tests.simulation.returning import AN_HOUR_AHEAD, Failback

HOLDS = frozenset({"failback-holds"})
LIMITS = frozenset({"health-holds"})

# -- rules taken out -----------------------------------------------------------------------------------------------


def _heedless_of(*what: str) -> AbstractContextManager[Any]:
    """Of what failback waits for, that which says so does not count."""
    real = failback.waits_for

    def waits_for(f: Facts) -> tuple[str, ...]:
        return tuple(said for said in real(f) if not any(word in said for word in what))

    return patch.object(failback, "waits_for", waits_for)


def _any_moment_is_quiet() -> AbstractContextManager[Any]:
    return patch.object(Watch, "calm_for", lambda *_: float("inf"))


def _never_back() -> AbstractContextManager[Any]:
    rows = tuple(row for row in decide.TABLE[Lane.HEALTH] if row.name != FAILBACK)
    return patch.dict(decide.TABLE, {Lane.HEALTH: rows})


def _nobodys_word_is_against_it() -> AbstractContextManager[Any]:
    return patch.object(observed, "is_seen_unfit", lambda *_: False)


@contextmanager
def _beside_a_swap() -> Iterator[None]:
    """Neither for the quiet time nor for the ask a swap in progress counts."""
    real = observed._calm

    def calm(watch: Watch, cluster: Snapshot, *rest: Any) -> int | None:
        return real(watch, replace(cluster, swap=None), *rest)

    ask, *rest = decide.TABLE[Lane.HEALTH]
    anew = replace(ask, when=lambda f: failback.away(f) and not failback.waits_for(f))
    table = (anew, *rest)
    with patch.object(observed, "_calm", calm), patch.dict(decide.TABLE, {Lane.HEALTH: table}):
        yield


def _asks_whatever_was_said_since() -> AbstractContextManager[Any]:
    def ask(self: Writer, swap: Swap, _places: object) -> Transaction:
        return self.request(swap)

    return patch.object(Writer, "ask", ask)


# -- schedules that need them --------------------------------------------------------------------------------------


AND_ON = Fault(20.3, 0.1, Kind.COMPACTION, "witness")  # the run is not over before


def _away(_: random.Random) -> tuple[Fault, ...]:
    return (Fault(1.6, 0.1, Kind.SWAP, "columbus"),)


def _away_and(*faults: Fault) -> Callable[[random.Random], tuple[Fault, ...]]:
    return lambda rng: tuple(sorted((*_away(rng), *faults)))


def _swap_at_that_moment(rng: random.Random) -> tuple[Fault, ...]:
    return (*_away(rng), *(Fault(at, 0.1, Kind.SWAP, "columbus") for at in (6.0, 6.6, 7.2, 7.8)))


def _moved_twice(_: random.Random) -> tuple[Fault, ...]:
    """Health moves production away, it comes back, and is driven away once more."""
    return (
        Fault(1.6, 3.5, Kind.CARRIER_LOST, "columbus"),
        Fault(11.0, 2.5, Kind.KILL_SITE, "columbus"),
        AND_ON,
    )


def _moved_a_moment_ago(_: random.Random) -> tuple[Fault, ...]:
    return (Fault(1.6, 3.2, Kind.CARRIER_LOST, "columbus"),)


def _late_and_unfit(rng: random.Random) -> tuple[Fault, ...]:
    """The ask is applied late, and a place has seen home unfit meanwhile."""
    at = round(rng.uniform(5.5, 7.5), 2)
    return (
        *_away(rng),
        Fault(at, 3.0, Kind.ETCD_LATE, "columbus"),
        Fault(round(at + rng.uniform(0.3, 1.5), 2), 9.0, Kind.CUT, "columbus", "witness"),
    )


SOON = Failback()

BACK = (
    Mutation(
        name="failback waits for no quiet time",
        rule="it has been quiet for `failback_after` without a break",
        breaks=HOLDS,
        patch=_any_moment_is_quiet,
        scenario=_away,
        failback=SOON,
    ),
    Mutation(
        name="failback never comes",
        rule="production goes back when nothing speaks against it",
        breaks=frozenset({"goes-home"}),
        patch=_never_back,
        scenario=_away,
        failback=SOON,
    ),
    Mutation(
        name="failback does not heed a pause",
        rule="a pause stops it",
        breaks=LIMITS | HOLDS,
        patch=lambda: _heedless_of("paused"),
        scenario=_away_and(Fault(3.0, 15.0, Kind.PAUSE, "columbus")),
        failback=SOON,
    ),
    Mutation(
        name="failback does not heed a planned swap",
        rule="beside a swap that an operator has planned it does nothing",
        breaks=HOLDS,
        patch=lambda: _heedless_of("has planned"),
        scenario=_away_and(Fault(4.0, 14.0, Kind.PLAN, "denver", "denver")),
        failback=SOON,
    ),
    Mutation(
        name="failback does not heed maintenance",
        rule="while work is announced at either site it does nothing",
        breaks=HOLDS,
        patch=lambda: _heedless_of("in maintenance"),
        scenario=_away_and(Fault(4.0, 12.0, Kind.MAINTENANCE, "denver")),
        failback=SOON,
    ),
    Mutation(
        name="failback comes at any hour",
        rule="it keeps to `failback_hours`",
        breaks=HOLDS,
        patch=lambda: _heedless_of("it is not between"),
        scenario=_away_and(AND_ON),
        failback=Failback(hours=AN_HOUR_AHEAD),
    ),
    Mutation(
        name="failback counts for no limit",
        rule="it keeps to health's limit within an hour, and counts for it",
        breaks=LIMITS,
        patch=lambda: _heedless_of("as often within an hour"),
        scenario=_moved_twice,
        failback=SOON,
    ),
    Mutation(
        name="failback does not cool down",
        rule="it keeps to health's cool-down",
        breaks=LIMITS,
        patch=lambda: _heedless_of("swap_cool_down"),
        scenario=_moved_a_moment_ago,
        failback=Failback(after=0.5),
    ),
    Mutation(
        name="nobody's word is against failback",
        rule="nobody sees either site unfit",
        breaks=HOLDS,
        patch=_nobodys_word_is_against_it,
        scenario=_away_and(Fault(4.0, 14.0, Kind.CUT, "columbus", "witness")),
        failback=SOON,
    ),
    Mutation(
        name="failback begins beside a swap",
        rule="it never begins while a swap is in progress",
        breaks=HOLDS,
        patch=_beside_a_swap,
        scenario=_swap_at_that_moment,
        failback=SOON,
    ),
    Mutation(
        name="failback asks whatever was said since",
        rule="an ask compares every place's word, and what people want",
        breaks=HOLDS | LIMITS,
        patch=_asks_whatever_was_said_since,
        scenario=_late_and_unfit,
        failback=SOON,
    ),
)
