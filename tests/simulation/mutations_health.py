"""The rules of swaps that health asks for, and of one that is planned, each taken out by itself."""

import random
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from sitecontrol.leadership import decide, observed, planning
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.records import Swap
from tests.simulation.faults import Fault, Kind
from tests.simulation.mutation import Mutation
from tests.simulation.scenarios import planned_while_clocks_jump

HOLDS = frozenset({"health-holds"})


def _blind_places_count() -> AbstractContextManager[Any]:
    real = observed._counts

    def counts(*facts: Any) -> observed.Word | None:
        word = real(*facts)
        return None if word is observed.Word.BLIND else word

    return patch.object(observed, "_counts", counts)


def _one_is_enough() -> AbstractContextManager[Any]:
    return patch.object(observed.Picture, "_enough", lambda _, count: count >= 1)


def _no_row(name: str) -> AbstractContextManager[Any]:
    rows = tuple(row for row in decide.TABLE[Lane.HEALTH] if row.name != name)
    return patch.dict(decide.TABLE, {Lane.HEALTH: rows})


def _asks_whatever_was_said_since() -> AbstractContextManager[Any]:
    def ask(self: Writer, swap: Swap, _places: object) -> Transaction:
        return self.request(swap)

    return patch.object(Writer, "ask", ask)


def _wall_clocks_alone() -> AbstractContextManager[Any]:
    return patch.object(planning, "_late_by", lambda f, wanted: (f.wall - wanted.at).total_seconds())


def _lost_there(at: float, site: str, lasts: float = 4.0) -> Fault:
    return Fault(at, lasts, Kind.CARRIER_LOST, site)


def _one_is_blind_and_one_cut_off(_: random.Random) -> tuple[Fault, ...]:
    return (Fault(4.0, 8.0, Kind.BLIND, "denver"), *_cut_from_the_witness(_))


def _cut_from_the_witness(_: random.Random) -> tuple[Fault, ...]:
    return (Fault(4.0, 8.0, Kind.CUT, "columbus", "witness"),)


def _to_and_fro(rng: random.Random) -> tuple[Fault, ...]:
    later = round(rng.uniform(5.0, 7.0), 2)
    return (
        _lost_there(2.0, "columbus", 3.5),
        _lost_there(later, "denver", 6.0),
        Fault(18.0, 0.1, Kind.SWAP, "denver"),
    )


def _three_times(_: random.Random) -> tuple[Fault, ...]:
    return (_lost_there(2.0, "columbus"), _lost_there(7.5, "denver", 5.5), _lost_there(14.0, "columbus", 6.5))


def _paused(_: random.Random) -> tuple[Fault, ...]:
    return (Fault(2.0, 12.0, Kind.PAUSE, "columbus"), _lost_there(4.0, "columbus", 8.0))


def _flapping_with_sick_etcd(rng: random.Random) -> tuple[Fault, ...]:
    lost = tuple(_lost_there(round(at + rng.uniform(0, 1), 2), "columbus", 3.6) for at in (3.0, 8.0, 13.0))
    return (*lost, Fault(2.0, 18.0, Kind.ETCD_SICK, "columbus"))


HEALTH = (
    Mutation(
        name="blind places count",
        rule="a word does not count when its place is blind",
        breaks=HOLDS,
        patch=_blind_places_count,
        scenario=_one_is_blind_and_one_cut_off,
    ),
    Mutation(
        name="one place is enough",
        rule="at least two places, and more than see it fit, must agree",
        breaks=HOLDS,
        patch=_one_is_enough,
        scenario=_cut_from_the_witness,
    ),
    Mutation(
        name="no cool-down",
        rule="after each of health's swaps comes a cool-down",
        breaks=HOLDS,
        patch=lambda: _no_row("cooling-down"),
        scenario=_to_and_fro,
    ),
    Mutation(
        name="as many swaps within an hour as there are reasons",
        rule="within an hour there are at most `max_swaps_per_hour`",
        breaks=HOLDS,
        patch=lambda: _no_row("limit-reached"),
        scenario=_three_times,
    ),
    Mutation(
        name="health does not heed a pause",
        rule="a pause stops it",
        breaks=HOLDS,
        patch=lambda: _no_row("health-paused"),
        scenario=_paused,
    ),
    Mutation(
        name="health asks whatever was said since",
        rule="an ask compares every word that speaks for it, and what people want",
        breaks=HOLDS,
        patch=_asks_whatever_was_said_since,
        scenario=_flapping_with_sick_etcd,
    ),
    Mutation(
        name="a planned swap goes by wall clocks alone",
        rule="a swap that was seen planned is due by our own clock, too",
        breaks=frozenset({"planned-in-time"}),
        patch=_wall_clocks_alone,
        scenario=planned_while_clocks_jump,
    ),
)
