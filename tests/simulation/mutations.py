"""The safety rules, each taken out by itself: a simulation that does not notice proves nothing.

Each is a patch of the code that keeps the rule, and tells the invariants of which one is seen to break.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from replication.errors import CommitUnknown
from sitecontrol.agent.executor import Executor
from sitecontrol.agent.steps import Steps
from sitecontrol.leadership import decide
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.transactions import Writer
from sitecontrol.snapshot import Snapshot
from tests.simulation import etcd, node
from tests.simulation.faults import ANY, Fault, Kind, schedule
from tests.simulation.postgres import Database, ModelPostgres

SAFETY = frozenset({"acked-survives", "only-in-step-leads", "one-writer", "no-stale-claim"})


def _whatever_fails(rng: random.Random) -> tuple[Fault, ...]:
    """All but what somebody writes into etcd: none of these rules is about that."""
    return schedule(rng, tuple(kind for kind in ANY if kind is not Kind.GARBAGE))


@dataclass(frozen=True, kw_only=True)
class Mutation:
    name: str
    rule: str  # where the rule stands in docs/failover.md, in words
    breaks: frozenset[str]
    patch: Callable[[], AbstractContextManager[Any]]
    scenario: Callable[[random.Random], tuple[Fault, ...]] = (
        _whatever_fails  # what is likely to need the rule
    )


# -- scenarios ---------------------------------------------------------------------------------------------------


def _cut_then_isolated(rng: random.Random) -> tuple[Fault, ...]:
    """The line between the sites goes, and a little later the live site's other one, as it stops waiting."""
    later = round(5.0 + rng.uniform(0.7, 1.1), 2)
    return (
        Fault(5.0, 12.0, Kind.CUT, "columbus", "denver"),
        Fault(later, 8.0, Kind.CUT, "columbus", "witness"),
    )


def _cut_then_lost(rng: random.Random) -> tuple[Fault, ...]:
    """The line between the sites goes, and then the live site."""
    lost = round(6.0 + rng.uniform(0.7, 2.5), 2)
    return (Fault(6.0, 10.0, Kind.CUT, "columbus", "denver"), Fault(lost, 6.0, Kind.KILL_SITE, "columbus"))


def _lost_while_joining(rng: random.Random) -> tuple[Fault, ...]:
    """The hot site comes back into step, and the live one is cut off and lost at about that moment."""
    cut = round(rng.uniform(9.2, 11.0), 2)
    lost = round(cut + rng.uniform(0.0, 0.6), 2)
    return (
        Fault(5.0, 4.0, Kind.CUT, "columbus", "denver"),
        Fault(cut, 8.0, Kind.CUT, "columbus", "denver"),
        Fault(lost, 5.0, Kind.KILL_SITE, "columbus"),
    )


def _late_writes(rng: random.Random) -> tuple[Fault, ...]:
    """etcd applies calls long after their callers have given them up, while the lead changes again and again."""
    return tuple(
        sorted((*schedule(rng, MOVES), *schedule(rng, MOVES), Fault(3.0, 19.0, Kind.ETCD_SICK, "columbus")))
    )


def _old_copy_then_lost(rng: random.Random) -> tuple[Fault, ...]:
    """The hot site comes back with an older copy under its own name, and the live one is lost before it is seen."""
    lost = round(6.0 + rng.uniform(0.0, 1.0), 2)
    return (Fault(6.0, 0.6, Kind.WRONG_DISK, "denver"), Fault(lost, 8.0, Kind.KILL_SITE, "columbus"))


def _overwritten(rng: random.Random) -> tuple[Fault, ...]:
    """Somebody overwrites one record after the other, for as long as the run lasts."""
    return schedule(rng, (*(Kind.GARBAGE,) * 6, Kind.SWAP, Kind.KILL_SITE, Kind.KILL_AGENT, Kind.CUT))


MOVES = (Kind.SWAP, Kind.KILL_SITE, Kind.CUT, Kind.STOP_AGENT, Kind.KILL_POSTGRES, Kind.ISOLATE)


# -- rules taken out -----------------------------------------------------------------------------------------------


def _without_row(name: str) -> AbstractContextManager[Any]:
    rows = tuple(row for row in decide.POSTGRES if row.name != name)
    return patch.dict(decide.TABLE, {decide.Lane.POSTGRES: rows})


@contextmanager
def _judges_nothing() -> Iterator[None]:
    def whatever_stands_there(_: Snapshot, found: Snapshot) -> Snapshot:
        return found

    with (
        patch.object(node, "believe", whatever_stands_there),
        patch.object(etcd, "believe", whatever_stands_there),
    ):
        yield


@contextmanager
def _compares_nothing() -> Iterator[None]:
    """Nor is what was applied late judged: most of it contradicts the newer records, and would be written over."""
    with patch.object(Writer, "_unchanged", lambda _, **__: ()), _judges_nothing():
        yield


def _names_first() -> AbstractContextManager[Any]:
    async def leave(self: Any, facts: Facts, effect: Any) -> None:
        staying = tuple(s for s in self._in_sync(facts) if s.node not in effect.nodes)
        await self._postgres.set_names(tuple(s.node for s in staying))
        await self._row.hide_remote(effect.nodes)
        await self._write(self._writer(facts).rewrite_sync(staying))

    return patch.object(Steps, "leave", leave)


def _joins_without_flush() -> AbstractContextManager[Any]:
    async def bring_in(self: Any, name: str, *, within: float) -> int:
        del within
        self.database.add_name(name)
        return len(self.database.disk.wal)

    return patch.object(ModelPostgres, "bring_in", bring_in)


def _joins_before_waiting() -> AbstractContextManager[Any]:
    async def bring_in(self: Any, name: str, *, within: float) -> int:
        self.database.add_name(name)
        server = self.database.server
        position = len(server.disk.wal)
        await self.world.scheduler.until(lambda: server.flushed.get(name, 0) >= position, within=within)
        return position

    return patch.object(ModelPostgres, "bring_in", bring_in)


def _anybody_leads() -> AbstractContextManager[Any]:
    return patch.object(Facts, "may_lead", property(lambda f: f.pg.incarnation is not None))


def _the_name_is_enough() -> AbstractContextManager[Any]:
    def place(f: Facts) -> Any:
        return next((s for s in f.sync.standbys if s.node == f.node), None) if f.sync else None

    return patch.object(Facts, "our_place_in_step", property(place))


@contextmanager
def _never_narrows() -> Iterator[None]:
    async def opens(self: Any, _: Any, facts: Facts) -> None:
        await self._row.open(facts.term, facts.node)
        await self._look()

    with _without_row("narrow"), patch.object(Executor, "_open", opens):
        yield


def _row_of_an_older_start() -> AbstractContextManager[Any]:
    def opened_here(self: Database, server: Any) -> int | None:
        row = self.last("row")
        if row is None or server.recovering:
            return None
        return int(row.payload[0]) if row.payload[1] == self.node else None

    return patch.object(Database, "opened_here", opened_here)


def _any_standby_takes_writes() -> AbstractContextManager[Any]:
    def opened_here(self: Database, server: Any) -> int | None:
        row = self.last("row")
        return None if row is None or server.recovering else int(row.payload[0])

    return patch.object(Database, "opened_here", opened_here)


def _unknown_is_yes() -> AbstractContextManager[Any]:
    real = Database.commit

    async def commit(self: Database, kind: str, payload: Any, **more: Any) -> int:
        before = len(self.disk.wal) if self.disk is not None else 0
        try:
            return await real(self, kind, payload, **more)
        except CommitUnknown:
            if kind != "message":
                raise
            return before + 1

    return patch.object(Database, "commit", commit)


def _tells_what_it_sees() -> AbstractContextManager[Any]:
    real = Database.commit

    async def commit(self: Database, kind: str, payload: Any, **more: Any) -> int:
        may = more.get("may")
        local = kind == "barrier" and may is not None  # of a look-up
        return await real(self, kind, payload, **{**more, "local": local or more.get("local", False)})

    return patch.object(Database, "commit", commit)


MUTATIONS = (
    Mutation(
        name="transactions compare nothing",
        rule="every transaction compares the mod_revision of all that was reasoned from",
        breaks=SAFETY | {"converges", "swap-ends"},
        patch=_compares_nothing,
        scenario=_late_writes,
    ),
    Mutation(
        name="names are cleared before etcd knows",
        rule="leaving step: first `sync`, then the names",
        breaks=SAFETY,
        patch=_names_first,
        scenario=_cut_then_isolated,
    ),
    Mutation(
        name="a standby joins without having flushed",
        rule="coming into step: it has flushed a position taken while commits waited",
        breaks=SAFETY,
        patch=_joins_without_flush,
        scenario=_lost_while_joining,
    ),
    Mutation(
        name="a standby joins before commits wait for it",
        rule="coming into step: the position is taken once waiting has really begun",
        breaks=SAFETY,
        patch=_joins_before_waiting,
        scenario=_lost_while_joining,
    ),
    Mutation(
        name="whoever has data may lead",
        rule="only a node in `sync` may lead",
        breaks=SAFETY,
        patch=_anybody_leads,
    ),
    Mutation(
        name="`sync` is not narrowed before opening",
        rule="`sync` is narrowed before the new leader opens",
        breaks=SAFETY,
        patch=_never_narrows,
    ),
    Mutation(
        name="any server with a row takes writes",
        rule="the database knows its leader: the row names the node",
        breaks=SAFETY,
        patch=_any_standby_takes_writes,
    ),
    Mutation(
        name="a cut off commit counts as done",
        rule="unknown is never acknowledged",
        breaks=SAFETY,
        patch=_unknown_is_yes,
    ),
    Mutation(
        name="a look-up answers without a barrier",
        rule="telling of a row is acknowledging it",
        breaks=SAFETY,
        patch=_tells_what_it_sees,
        scenario=_cut_then_lost,
    ),
    Mutation(
        name="standbys are known by their name",
        rule="an incarnation is a data directory: a copy by the same name is another",
        breaks=SAFETY,
        patch=_the_name_is_enough,
        scenario=_old_copy_then_lost,
    ),
    Mutation(
        name="a row of an older start lets in",
        rule="nobody is let in after a start before a barrier has committed",
        breaks=SAFETY,
        patch=_row_of_an_older_start,
    ),
    Mutation(
        name="a superseded leader goes on",
        rule="another node leads: stop being a primary at once",
        breaks=SAFETY | {"converges"},
        patch=lambda: _without_row("superseded"),
    ),
    Mutation(
        name="whatever stands in etcd is believed",
        rule="a bad value is named, and what was believed before stays believed until it is written over",
        breaks=frozenset({"converges", "swap-ends"}),
        patch=_judges_nothing,
        scenario=_overwritten,
    ),
)
