"""The safety rules of who may lead and what is acknowledged, each taken out by itself.

A simulation that does not notice proves nothing. Each is a patch of the code that keeps the rule, and tells the
invariants of which one is seen to break. (Rules of sending: `mutations_sending.py`; of health: `mutations_health.py`.)
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from replication.errors import CommitUnknown
from sitecontrol import view
from sitecontrol.agent.executor import Executor
from sitecontrol.agent.row import Row
from sitecontrol.agent.steps import Steps
from sitecontrol.leadership import decide, electing
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.transactions import Writer
from sitecontrol.snapshot import Snapshot
from tests.simulation import etcd, views
from tests.simulation.mutation import SAFETY, Mutation
from tests.simulation.own_postgres import ModelPostgres
from tests.simulation.postgres import Database
from tests.simulation.scenarios import (
    cut_then_isolated,
    cut_then_lost,
    etcd_lost,
    etcd_lost_in_swap,
    forgetful_disk,
    late_join,
    late_joins,
    lost_while_joining,
    moves_and_losses,
    old_copy_then_lost,
    old_leader_returns,
    older_leader,
    older_standby,
    overwritten,
    standby_loses_power,
)

# -- rules taken out -----------------------------------------------------------------------------------------------


def without_row(*names: str) -> AbstractContextManager[Any]:
    rows = tuple(row for row in decide.POSTGRES if row.name not in names)
    return patch.dict(decide.TABLE, {Lane.POSTGRES: rows})


@contextmanager
def _judges_nothing() -> Iterator[None]:
    def whatever_stands_there(_: Snapshot, found: Snapshot) -> Snapshot:
        return found

    with (
        patch.object(view, "believe", whatever_stands_there),
        patch.object(views, "believe", whatever_stands_there),
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
        await self.world.scheduler.until(lambda: server.told_by(name) >= position, within=within)
        return position

    return patch.object(ModelPostgres, "bring_in", bring_in)


def _anybody_leads() -> AbstractContextManager[Any]:
    return patch.object(Facts, "may_lead", property(lambda f: f.pg.incarnation is not None))


@contextmanager
def _the_name_is_enough() -> Iterator[None]:
    """What a copy lacks that is older than a second is seen by what was recorded to have been reached, too."""

    def place(f: Facts) -> Any:
        return next((s for s in f.sync.standbys if s.node == f.node), None) if f.sync else None

    with patch.object(Facts, "our_place_in_step", property(place)), _what_it_had_is_not_asked():
        yield


@contextmanager
def _never_narrows() -> Iterator[None]:
    async def opens(self: Any, _: Any, facts: Facts) -> None:
        await self._row.open(facts.term, facts.node)
        await self._look()

    with without_row("narrow"), patch.object(Executor, "_open", opens):
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


def _commits_wait_for_nobody() -> AbstractContextManager[Any]:
    real = Database.commit

    async def commit(self: Database, kind: str, payload: Any, **more: Any) -> int:
        return await real(self, kind, payload, **{**more, "local": True})

    return patch.object(Database, "commit", commit)


def _told_before_it_is_flushed() -> AbstractContextManager[Any]:
    return patch.object(Database, "_flush_received", lambda *_: None)


def _label_stays() -> AbstractContextManager[Any]:
    async def hide_remote(*_: object) -> None:
        return

    return patch.object(Row, "hide_remote", hide_remote)


def _position_is_not_asked() -> AbstractContextManager[Any]:
    def may_lead(f: Facts) -> bool:
        return f.recorded_leader or f.our_place_in_step is not None

    return patch.object(Facts, "may_lead", property(may_lead))


def _what_it_had_is_not_asked() -> AbstractContextManager[Any]:
    return patch.object(Facts, "short_of", property(lambda _: None))


def _an_older_copy_is_not_disowned() -> AbstractContextManager[Any]:
    async def disown(_: ModelPostgres) -> None:
        return

    return patch.object(ModelPostgres, "disown", disown)


def _canary_does_not_count() -> AbstractContextManager[Any]:
    return patch.object(Facts, "canary_fresh", property(lambda _: False))


def _leaves_without_a_new_write() -> AbstractContextManager[Any]:
    async def leave(self: Any, facts: Facts, effect: Any) -> None:
        in_sync = self._in_sync(facts)
        staying = tuple(s for s in in_sync if s.node not in effect.nodes)
        if staying != in_sync:
            await self._write(self._writer(facts).rewrite_sync(staying))
        await self._row.hide_remote(effect.nodes)
        await self._postgres.set_names(tuple(s.node for s in staying))

    return patch.object(Steps, "leave", leave)


def _opens_without_a_new_write() -> AbstractContextManager[Any]:
    async def opens(self: Any, _: Any, facts: Facts) -> None:
        await self._row.open(facts.term, facts.node)
        await self._look()

    return patch.object(Executor, "_open", opens)


MUTATIONS = (
    Mutation(
        name="a standby leaves without a new write",
        rule="clearing the names is always preceded by a write of `sync`, even if it seems to say so already",
        breaks=SAFETY,
        patch=_leaves_without_a_new_write,
        scenario=late_join,
    ),
    Mutation(
        name="a leader opens without a new write",
        rule="before anybody is let in, `sync` is written in this very start: what was under way is overtaken",
        breaks=SAFETY,
        patch=_opens_without_a_new_write,
        scenario=late_joins,
    ),
    Mutation(
        name="commits wait for nobody",
        rule="a commit returns when every standby in `sync` has flushed it",
        breaks=SAFETY,
        patch=_commits_wait_for_nobody,
    ),
    Mutation(
        name="a standby tells before it has flushed",
        rule="a commit returns when every standby in `sync` has flushed it, not when it has received it",
        breaks=SAFETY,
        patch=_told_before_it_is_flushed,
        scenario=standby_loses_power,
    ),
    Mutation(
        name="the label stays when a standby leaves",
        rule="the label tells the truth: it is taken back before the waiting ends",
        breaks=frozenset({"label-true"}),
        patch=_label_stays,
        scenario=cut_then_isolated,
    ),
    Mutation(
        name="the position is not asked",
        rule="who may lead has all that `sync` says: incarnation, timeline and position",
        breaks=SAFETY,
        patch=_position_is_not_asked,
        scenario=forgetful_disk,
    ),
    Mutation(
        name="an older copy of a leader opens",
        rule="a leader that has less than it had lets nobody in, and gives the lead up",
        breaks=frozenset({"acked-survives"}),
        patch=_what_it_had_is_not_asked,
        scenario=older_leader,
    ),
    Mutation(
        name="an older copy of a standby leads",
        rule="a standby that has less than it had does not lead",
        breaks=SAFETY,
        patch=_what_it_had_is_not_asked,
        scenario=older_standby,
    ),
    Mutation(
        name="an older copy keeps its name",
        rule="a leader that has less than it had counts as complete no longer, once it has been looked at",
        breaks=frozenset({"only-in-step-leads"}),
        patch=_an_older_copy_is_not_disowned,
        scenario=older_leader,
    ),
    Mutation(
        name="the canary does not count",
        rule="a leader that cannot reach etcd goes on serving while its canary commits",
        breaks=frozenset({"serves-through-dcs-loss"}),
        patch=_canary_does_not_count,
        scenario=etcd_lost,
    ),
    Mutation(
        name="a fresh canary holds nobody back",
        rule="a standby that receives the leader's fresh canary waits before it runs for the lead",
        breaks=frozenset({"serves-through-dcs-loss"}),
        patch=lambda: without_row("canary-holds-back", electing.AWAIT_TURN),
        scenario=etcd_lost,
    ),
    Mutation(
        name="nobody takes the same term up again",
        rule="a serving leader re-creates `leader` with the same term when etcd returns",
        breaks=frozenset({"serves-through-dcs-loss"}),
        patch=lambda: without_row("reclaim"),
        scenario=etcd_lost,
    ),
    Mutation(
        name="a leader that is shut down for a swap waits for etcd",
        rule="etcd lost in the middle of a swap, no hand-over sent: past the deadline the old leader serves on",
        breaks=frozenset({"serves-through-dcs-loss"}),
        patch=lambda: without_row("start-without-etcd", "serve-on"),
        scenario=etcd_lost_in_swap,
    ),
    Mutation(
        name="transactions compare nothing",
        rule="every transaction compares the mod_revision of all that was reasoned from",
        breaks=SAFETY | {"converges", "swap-ends"},
        patch=_compares_nothing,
        scenario=late_joins,
    ),
    Mutation(
        name="names are cleared before etcd knows",
        rule="leaving step: first `sync`, then the names",
        breaks=SAFETY,
        patch=_names_first,
        scenario=cut_then_isolated,
    ),
    Mutation(
        name="a standby joins without having flushed",
        rule="coming into step: it has flushed a position taken while commits waited",
        breaks=SAFETY,
        patch=_joins_without_flush,
        scenario=lost_while_joining,
    ),
    Mutation(
        name="a standby joins before commits wait for it",
        rule="coming into step: the position is taken once waiting has really begun",
        breaks=SAFETY,
        patch=_joins_before_waiting,
        scenario=lost_while_joining,
    ),
    Mutation(
        name="whoever has data may lead",
        rule="only a node in `sync` may lead",
        breaks=SAFETY,
        patch=_anybody_leads,
        scenario=cut_then_lost,
    ),
    Mutation(
        name="`sync` is not narrowed before opening",
        rule="`sync` is narrowed before the new leader opens",
        breaks=SAFETY,
        patch=_never_narrows,
        scenario=old_leader_returns,
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
        scenario=cut_then_lost,
    ),
    Mutation(
        name="standbys are known by their name",
        rule="an incarnation is a data directory: a copy by the same name is another",
        breaks=SAFETY,
        patch=_the_name_is_enough,
        scenario=old_copy_then_lost,
    ),
    Mutation(
        name="a row of an older start lets in",
        rule="nobody is let in after a start before a barrier has committed",
        breaks=SAFETY | {"barrier-before-opening"},
        patch=_row_of_an_older_start,
        scenario=moves_and_losses,
    ),
    Mutation(
        name="a superseded leader goes on",
        rule="another node leads: stop being a primary at once",
        breaks=SAFETY | {"converges"},
        patch=lambda: without_row("superseded"),
    ),
    Mutation(
        name="whatever stands in etcd is believed",
        rule="a bad value is named, and what was believed before stays believed until it is written over",
        breaks=frozenset({"converges", "swap-ends"}),
        patch=_judges_nothing,
        scenario=overwritten,
    ),
)
