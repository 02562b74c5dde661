"""Several standbys come into step and leave it: in whatever order, nobody may lead who lacks what was acknowledged."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import NodeError
from sitecontrol.agent.memory import Memory
from sitecontrol.agent.steps import Steps
from sitecontrol.clock import SystemClock
from sitecontrol.etcd.api import EtcdUnknown, Put
from sitecontrol.etcd.memory import Fault, MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Join, Leave
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.steps import pause_before_join
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.records import Phase, Sync, Term
from tests.unit.leadership_facts import COLUMBUS, DENVER, OUR_LEASE, WALL, entry, swap, sync
from tests.unit.several_nodes import FAR, NEAR, at_leader, four, serving, streams, told

NODES = (NEAR, DENVER, FAR)


def step(facts: Facts) -> Any:
    return decide(Lane.STEP, facts).effect


def rule(facts: Facts) -> str:
    return decide(Lane.STEP, facts).rule


# -- who comes in next


def alone(*in_step: str, **change: Any) -> Facts:
    """Only these are in step; everybody streams."""
    picture = four(**change.pop("cluster", {}))
    picture = replace(picture, sync=entry(sync(COLUMBUS, *in_step)))
    return at_leader(cluster=picture, pg=serving(*in_step), **change)


def test_one_of_another_site_comes_in_first_so_that_commits_are_on_two_sites_again():
    assert step(alone()) == Join(node=DENVER)
    assert step(alone(DENVER)) == Join(node=FAR)
    assert step(alone(DENVER, FAR)) == Join(node=NEAR)
    assert rule(alone(*NODES)) == "in-step"


def test_one_that_failed_to_join_waits_and_the_others_do_not_wait_for_it():
    assert step(alone(join_after={DENVER: 100.5})) == Join(node=FAR)
    assert step(alone(FAR, NEAR, join_after={DENVER: 100.0})) == Join(node=DENVER)
    later = alone(FAR, NEAR, join_after={DENVER: 100.5})
    assert (rule(later), step(later)) == ("join-later", None)


def test_each_failure_in_a_row_doubles_the_wait_up_to_a_minute():
    assert [pause_before_join(n) for n in (1, 2, 3, 6, 7, 5_000)] == [1, 2, 4, 32, 60, 60]


def test_a_failed_join_is_remembered_until_the_standby_is_in_step_or_we_do_not_lead():
    def look(cluster: Any, lease: int = OUR_LEASE) -> dict[str, float]:
        memory = Memory()
        memory.note_failed_join(DENVER, 99.0)
        memory.note_failed_join(DENVER, 100.0)
        memory.look(100.0, cluster, serving(), COLUMBUS, lease)
        return memory.join_after

    assert look(four(NEAR)) == {DENVER: 102.0}
    assert look(four(NEAR, DENVER)) == {}
    assert look(four(NEAR), lease=99) == {}


def test_a_standby_whose_operator_asks_for_it_anew_waits_no_longer_and_a_later_failure_counts_again():
    def asked(at: datetime | None) -> Any:
        return four(NEAR, members={DENVER: told(DENVER, rejoin_asked_at=at)})

    memory = Memory()

    def look(cluster: Any) -> set[str]:
        memory.look(100.0, cluster, serving(), COLUMBUS, OUR_LEASE)
        return set(memory.join_after)

    for failed in (DENVER, FAR):
        memory.note_failed_join(failed, 100.0)
    assert look(asked(None)) == {DENVER, FAR}
    assert look(asked(WALL)) == {FAR}
    memory.note_failed_join(DENVER, 100.0)
    assert look(asked(WALL)) == {DENVER, FAR}
    assert look(asked(WALL + timedelta(seconds=1))) == {FAR}


async def test_only_a_standby_that_was_waited_for_in_vain_has_failed():
    failed: list[str] = []

    class Postgres:
        error: Exception | None = NodeError("it did not flush")

        async def bring_in(self, *_: Any, **__: Any) -> int:
            if self.error is not None:
                raise self.error
            return 1_000

    async def silent(_: Transaction) -> int:
        raise EtcdUnknown

    postgres: Any = Postgres()
    steps = Steps(postgres, postgres, writer_of, silent, failed.append)
    with pytest.raises(NodeError):
        await steps.join(alone(), Join(node=DENVER))
    postgres.error = None
    with pytest.raises(EtcdUnknown):
        await steps.join(alone(), Join(node=FAR))
    assert failed == [DENVER]


def test_nobody_joins_before_the_swap_has_noted_that_the_old_leader_follows():
    """Whoever else could come in: the old leader streams, and that is noted first."""
    handed = swap(Phase.OPENED, from_node=DENVER, to_node=COLUMBUS, term=2)
    facts = alone(cluster={"swap": entry(handed)})
    assert rule(facts) == "swap-first"


def test_after_a_hand_over_the_others_join_when_the_swap_has_ended_or_the_old_leader_does_not_come():
    """Its record is written twice more: a join that is under way then is overtaken, and commits waited in vain."""

    def handed(phase: Phase, *in_step: str, for_s: float = 0.5) -> Facts:
        record = swap(phase, from_node=DENVER, to_node=COLUMBUS, term=2)
        return replace(alone(*in_step, cluster={"swap": entry(record)}), swap_phase_since=100.0 - for_s)

    def without_old(facts: Facts) -> Facts:
        return replace(facts, pg=replace(facts.pg, standbys=(streams(NEAR), streams(FAR))))

    awaited = without_old(handed(Phase.OPENED))
    assert (rule(awaited), step(awaited)) == ("swap-first", None)
    assert step(without_old(handed(Phase.OPENED, for_s=3.1))) == Join(node=FAR)
    assert step(handed(Phase.FOLLOWING)) == Join(node=DENVER)
    assert rule(handed(Phase.FOLLOWING, DENVER, for_s=9.0)) == "swap-first"
    gone = {n: m for n, m in awaited.cluster.members.items() if n != DENVER}
    assert step(replace(awaited, cluster=replace(awaited.cluster, members=gone))) == Join(node=FAR)


# -- who leaves


def test_one_that_is_silent_leaves_alone():
    silent = streams(DENVER, flush_lsn=900, moved_at=98.0, still=9)
    pg = serving(*NODES, standbys=(streams(NEAR), silent, streams(FAR)), looked_at=100.0)
    assert step(at_leader(pg=pg)) == Leave(
        nodes=(DENVER,), reason="gone, silent, or with another data directory"
    )


def test_those_that_are_gone_leave_together():
    leaving = step(at_leader(pg=serving(*NODES, standbys=(streams(NEAR),))))
    assert isinstance(leaving, Leave)
    assert leaving.nodes == (DENVER, FAR)


def test_a_standby_of_our_own_site_alone_is_never_shown_as_two_site():
    facts = alone(NEAR, DENVER)
    assert rule(replace(facts, pg=replace(facts.pg, remote_in_step=(DENVER, NEAR)))) == "show-remote"
    near_only = alone(NEAR, join_after=dict.fromkeys((DENVER, FAR), 200.0))
    assert near_only.pg.remote_in_step == ()
    assert rule(near_only) == "join-later"


# -- any order


def writer_of(facts: Facts) -> Writer:
    return Writer(
        prefix="/p/",
        cluster=facts.cluster,
        node=COLUMBUS,
        site="columbus",
        incarnation=f"disk-{COLUMBUS}",
        lease=OUR_LEASE,
    )


@dataclass
class Primary:
    """A leader's PostgreSQL with its standbys, as far as acknowledging goes: positions only."""

    names: tuple[str, ...] = ()
    written: int = 1_000
    acknowledged: int = 1_000
    flushed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NODES, 0))
    unflushing: frozenset[str] = frozenset()  # standbys that write nothing to their disks
    breaks_off: bool = False  # the next change of names is the last thing that is done

    async def set_names(self, names: tuple[str, ...]) -> None:
        if self.breaks_off:
            raise NodeError("cut off")
        self.names = names
        self.settle()

    async def hide_remote(self, _: tuple[str, ...]) -> None:
        pass

    async def bring_in(self, name: str, *, within: float) -> int:
        del within
        self.names = (name, *(n for n in self.names if n != name))
        position = self.written
        self.settle()
        if self.breaks_off or name in self.unflushing:
            raise NodeError("it did not flush")
        self.flush(name)
        return position

    def flush(self, name: str) -> None:
        if name not in self.unflushing:
            self.flushed[name] = self.written
            self.settle()

    def settle(self) -> None:
        """Commits return when everybody who is waited for has them."""
        self.acknowledged = max(
            self.acknowledged, min((self.flushed[n] for n in self.names), default=self.written)
        )


class Model:
    """The real steps against a real picture of etcd, whose answers may be lost, or whose writes may come late."""

    def __init__(self) -> None:
        self.etcd = MemoryEtcd(MemoryStore(SystemClock()))
        self.primary = Primary()
        self.etcd.store.txn(
            (), (Put(key="/p/term", value=Term(term=3).encode(), lease=0),), read_on_failure=False
        )
        postgres: Any = self.primary
        self.steps = Steps(postgres, postgres, writer_of, self._write, lambda _: None)

    async def _write(self, transaction: Transaction) -> int:
        result = await self.etcd.txn(transaction.compares, transaction.writes)
        self.check()
        if not result.succeeded:
            raise NodeError("overtaken")
        return result.revision

    async def picture(self) -> Facts:
        sync_told, term_told = (await self.etcd.get("/p/sync")).one, (await self.etcd.get("/p/term")).one
        assert term_told is not None
        picture = replace(
            four(),
            leader=None,
            term=entry(Term.decode(term_told.value), mod_revision=term_told.mod_revision),
            sync=entry(Sync.decode(sync_told.value), mod_revision=sync_told.mod_revision)
            if sync_told
            else None,
        )
        return at_leader(cluster=picture, pg=serving(*self.primary.names))

    def named(self) -> Sync | None:
        kvs = self.etcd.store.get_prefix("/p/sync").kvs
        return Sync.decode(kvs[0].value) if kvs else None

    def check(self) -> None:
        """`only-in-step-leads`: whoever is named has every acknowledged commit, and will have each one to come."""
        for standby in self.named().standbys if self.named() else ():
            assert self.primary.flushed[standby.node] >= self.primary.acknowledged
            assert standby.node in self.primary.names
            assert standby.lsn <= self.primary.flushed[standby.node]


moves = st.one_of(
    st.tuples(st.just("commit"), st.just(())),
    st.tuples(st.just("flush"), st.sampled_from(NODES)),
    st.tuples(st.just("join"), st.sampled_from(NODES)),
    st.tuples(st.just("leave"), st.sets(st.sampled_from(NODES), min_size=1)),
    st.tuples(st.just("stall"), st.sampled_from(NODES)),
    st.tuples(st.just("mend"), st.just(())),
    st.tuples(st.just("break off"), st.just(())),
    st.tuples(st.just("etcd"), st.sampled_from(list(Fault))),
    st.tuples(st.just("etcd wakes"), st.just(())),
)


async def play(script: list[tuple[str, Any]]) -> Model:
    model = Model()
    primary = model.primary
    for what, whom in script:
        primary.breaks_off = what == "break off" or (primary.breaks_off and what in ("commit", "flush"))
        facts = await model.picture()
        try:
            if what == "join":
                await model.steps.join(facts, Join(node=whom))
            elif what == "leave":
                await model.steps.leave(facts, Leave(nodes=tuple(sorted(whom)), reason="a test"))
        except (NodeError, EtcdUnknown):
            pass
        match what:
            case "commit":
                primary.written += 1
                primary.settle()
            case "flush":
                primary.flush(whom)
            case "stall":
                primary.unflushing |= {whom}
            case "mend":
                primary.unflushing = frozenset()
            case "etcd":
                model.etcd.fail(whom)
            case "etcd wakes":
                model.etcd.wake()
            case _:
                pass
        model.check()
    return model


@given(st.lists(moves, min_size=3, max_size=30))
def test_whatever_comes_in_and_leaves_in_whatever_order_nobody_is_named_who_lacks_a_commit(
    script: list[tuple[str, Any]],
):
    asyncio.run(play(script))


async def test_whoever_may_be_on_the_way_into_step_is_waited_for_when_another_comes_in():
    """The first one's write came to nothing that we know of, and is applied while the second one comes in."""
    model = await play(
        [("etcd", Fault.LATE), ("join", DENVER), ("commit", ()), ("join", FAR), ("etcd wakes", ())]
    )
    assert set(model.primary.names) == {DENVER, FAR}


async def test_all_three_come_into_step_one_after_the_other_and_leave_in_another_order():
    joined = [("join", node) for node in NODES]
    model = await play([("commit", ()), *joined, ("commit", ())])
    named = model.named()
    assert named is not None
    assert [s.node for s in named.standbys] == list(NODES)
    assert model.primary.acknowledged < model.primary.written  # the last commit waits for all of them
    left = await play([*joined, ("leave", {FAR}), ("leave", {NEAR}), ("commit", ()), ("flush", DENVER)])
    assert left.primary.names == (DENVER,)
    assert left.primary.acknowledged == left.primary.written


async def test_whom_an_earlier_leave_took_out_unheard_is_hidden_before_its_name_goes():
    """Seed 5187 of the simulation: DENVER left `sync` by a write that nobody heard of; with FAR its name went as well,
    and what then committed was told to be on both.
    """
    done: list[tuple[str, tuple[str, ...]]] = []

    class Told:
        async def hide_remote(self, nodes: tuple[str, ...]) -> None:
            done.append(("hidden", nodes))

        async def set_names(self, names: tuple[str, ...]) -> None:
            done.append(("waited for", names))

    async def written(_: Transaction) -> int:
        return 1

    told: Any = Told()
    facts = at_leader(cluster=four(NEAR, FAR), pg=serving(NEAR, DENVER, FAR))
    await Steps(told, told, writer_of, written, lambda _: None).leave(
        facts, Leave(nodes=(FAR,), reason="gone")
    )
    assert done == [("hidden", tuple(sorted((DENVER, FAR)))), ("waited for", (NEAR,))]
