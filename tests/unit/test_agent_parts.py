"""The agent's parts that hold state: what is remembered, how lanes run, how the lease is kept."""

import asyncio

import pytest

from replication.errors import NodeError
from sitecontrol.agent.lanes import LONGEST_PAUSE, PAUSE_BEFORE_REPEAT, Lanes, pause_before_repeat
from sitecontrol.agent.memory import Memory
from sitecontrol.agent.monitor import Monitor, Running
from sitecontrol.agent.row import CONTROL, statements
from sitecontrol.agent.steps import Steps
from sitecontrol.clock import SystemClock
from sitecontrol.etcd.api import EtcdUnknown, TxnResult
from sitecontrol.etcd.memory import Fault, MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Clone, Effect, Fence, Join, Leave, Open, Promote, Rewind
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.table import Decision, Lane
from sitecontrol.leadership.transactions import REASONED_FROM, Transaction, Writer
from sitecontrol.records import Initialize, Phase, Role, Sync
from sitecontrol.settings import FailoverSettings
from sitecontrol.view import Entry, Snapshot
from tests.unit.held_clock import HeldClock
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    WALL,
    at_columbus,
    cluster,
    entry,
    member,
    standby,
    swap,
)


def decision(effect: Effect) -> Decision:
    return Decision(lane=Lane.POSTGRES, rule="test", sentence="A test.", effect=effect)


class Recorder:
    """Effects that start, and end when they are let go."""

    def __init__(self) -> None:
        self.started: list[Effect] = []
        self.ended: list[Effect] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.finished = asyncio.Event()

    async def execute(self, effect: Effect, facts) -> None:
        self.started.append(effect)
        self.begun.set()
        await self.go.wait()
        self.ended.append(effect)
        self.finished.set()


async def test_a_busy_lane_drops_what_is_decided_meanwhile():
    recorder = Recorder()
    lanes = Lanes(recorder.execute, lambda: None, SystemClock())
    lanes.offer(decision(Promote()), at_columbus())
    await recorder.begun.wait()
    lanes.offer(decision(Open()), at_columbus())
    await lanes.stop()
    assert recorder.started == [Promote()]


async def test_a_fence_ends_what_the_lane_is_doing_and_runs_after_it():
    recorder, fence = Recorder(), Fence(reason="test")
    lanes = Lanes(recorder.execute, lambda: None, SystemClock())
    lanes.offer(decision(Promote()), at_columbus())
    await recorder.begun.wait()
    recorder.begun.clear()
    lanes.offer(decision(fence), at_columbus())
    await recorder.begun.wait()
    recorder.go.set()
    await recorder.finished.wait()
    await lanes.stop()
    assert recorder.started == [Promote(), fence]
    assert recorder.ended == [fence]


def test_a_leader_is_absent_from_when_it_was_first_seen_absent():
    memory = Memory()
    nobody = cluster(leader=None)
    memory.look(10.0, nobody, standby(), DENVER)
    memory.look(12.0, nobody, standby(), DENVER)
    assert memory.leader_absent_since == 10.0
    memory.look(13.0, cluster(), standby(), DENVER)
    assert memory.leader_absent_since is None


def leader_has(lsn: int, timeline: int = 1):
    """The leader's own word of what it has."""
    word = member(COLUMBUS, role=Role.LEADER, timeline=timeline, received_lsn=lsn)
    return cluster(members={COLUMBUS: entry(word)})


def test_repairs_are_forgotten_only_after_following_well_for_a_while():
    memory, at = Memory(repairs=1), leader_has(1_000)
    memory.look(10.0, at, standby(), DENVER)
    memory.look(12.0, at, standby(), DENVER)
    assert memory.repairs == 1
    memory.look(16.0, at, standby(), DENVER)
    assert memory.repairs == 0


def test_a_standby_that_says_it_streams_at_each_try_but_does_not_move_does_not_follow():
    """A walreceiver says so before the leader has refused it, because the WAL that it needs is gone."""
    memory, ahead = Memory(), leader_has(2_000)
    for second in range(10):
        memory.look(10.0 + second, ahead, standby(upstream=second % 2 == 0), DENVER)
    assert memory.follow_failed_since == 10.0


def test_a_standby_follows_when_it_moves_or_has_all_that_the_leader_has_on_its_timeline():
    memory, ahead = Memory(), leader_has(2_000)
    memory.look(10.0, ahead, standby(), DENVER)
    memory.look(10.1, ahead, standby(received_lsn=1_001), DENVER)
    assert memory.follow_failed_since is None
    memory.look(12.0, ahead, standby(received_lsn=1_001), DENVER)
    assert memory.follow_failed_since is None
    memory.look(12.2, ahead, standby(received_lsn=1_001), DENVER)
    assert memory.follow_failed_since == 12.2
    memory.look(12.3, leader_has(1_001), standby(received_lsn=1_001), DENVER)
    assert memory.follow_failed_since is None
    memory.look(12.4, leader_has(1_001, timeline=2), standby(received_lsn=1_001), DENVER)
    assert memory.follow_failed_since == 12.4


def test_each_phase_of_a_swap_is_timed_from_when_it_was_first_seen_and_its_end_is_remembered():
    memory = Memory()
    memory.look(10.0, cluster(swap=entry(swap(Phase.REQUESTED))), standby(), DENVER)
    memory.look(11.0, cluster(swap=entry(swap(Phase.HELD))), standby(), DENVER)
    memory.look(11.5, cluster(swap=entry(swap(Phase.HELD))), standby(), DENVER)
    assert memory.swap_phase_since == 11.0
    memory.look(12.0, cluster(), standby(), DENVER)
    assert (memory.swap_phase_since, memory.swap_ended_at) == (None, 12.0)


async def test_an_effect_that_changed_nothing_is_not_repeated_at_once():
    """Else a fence that nothing comes of is carried out a hundred times a second."""
    recorder, done, clock = Recorder(), asyncio.Event(), HeldClock()
    recorder.go.set()
    lanes = Lanes(recorder.execute, done.set, clock)
    fence = Fence(reason="test")
    lanes.offer(decision(fence), at_columbus())
    await done.wait()
    lanes.offer(decision(fence), at_columbus())
    assert lanes.busy_with(Lane.POSTGRES) is None
    lanes.offer(decision(Open()), at_columbus())  # anything else is not held back
    assert lanes.busy_with(Lane.POSTGRES) == Open()
    await lanes.stop()
    await clock.advance(PAUSE_BEFORE_REPEAT)
    lanes.offer(decision(Open()), at_columbus())
    assert lanes.busy_with(Lane.POSTGRES) == Open()
    await lanes.stop()


def writer(**change) -> Writer:
    values = {
        "prefix": "/p/",
        "cluster": cluster(),
        "node": COLUMBUS,
        "site": "columbus",
        "incarnation": f"disk-{COLUMBUS}",
        "lease": OUR_LEASE,
    }
    return Writer(**(values | change))


MOVING = swap(Phase.HELD)


@pytest.mark.parametrize(
    "transaction",
    [
        writer().claim("failover", {}, WALL),
        writer().reclaim(),
        writer().give_up(),
        writer().narrow(),
        writer().rewrite_sync(()),
        writer().request(MOVING),
        writer().advance(MOVING, Phase.HELD, at=WALL),
        writer().hand_over(
            MOVING,
            target=entry(member(DENVER), 1),
            incarnation="i",
            site="denver",
            own_timeline=1,
            shutdown_lsn=1,
            at=WALL,
        ),
        writer().roll_back(MOVING, "test", WALL),
        writer().finish(MOVING, WALL),
        writer().begin_bootstrap(),
        writer().bootstrap("7", WALL, reserved_at=5),
    ],
)
def test_every_transaction_compares_all_that_was_reasoned_from(transaction):
    compared = {compare.key for compare in transaction.compares}
    assert {f"/p/{name}" for name in REASONED_FROM} <= compared


async def test_a_first_start_of_unknown_outcome_is_barred_before_the_next_try_begins():
    """The next try throws away the data directory that the late transaction names."""
    etcd = MemoryEtcd(MemoryStore(SystemClock()))
    lease = await etcd.grant(60)

    def of_the_picture(reservation: Entry[Initialize] | None) -> Writer:
        nothing = Snapshot(serial=1, revision=1, read_at=0.0, initialize=reservation)
        return writer(cluster=nothing, lease=lease)

    async def do(transaction: Transaction) -> TxnResult:
        return await etcd.txn(transaction.compares, transaction.writes)

    first = of_the_picture(None)
    reserved_at = (await do(first.begin_bootstrap())).revision
    etcd.fail(Fault.LATE)
    with pytest.raises(EtcdUnknown):
        await do(first.bootstrap("7", WALL, reserved_at=reserved_at))
    again = of_the_picture(entry(Initialize(system_id="0"), lease, reserved_at))
    reserved_again_at = (await do(again.begin_bootstrap())).revision
    etcd.wake()
    assert (await etcd.get("/p/term")).one is None
    assert (await do(again.bootstrap("8", WALL, reserved_at=reserved_again_at))).succeeded
    assert Initialize.decode((await etcd.get("/p/initialize")).kvs[0].value).system_id == "8"


def test_sync_is_a_new_write_even_when_it_says_so_already():
    known = cluster().sync.record
    put = writer().rewrite_sync(known.standbys).writes[0]
    assert Sync.decode(put.value).serial == known.serial + 1


async def test_a_standby_leaves_in_etcd_before_the_row_and_before_the_names():
    order: list[str] = []

    class Postgres:
        async def set_names(self, names):
            order.append(f"names {names}")

    class Row:
        async def hide_remote(self, nodes):
            order.append(f"row hides {nodes}")

    async def write(_: Transaction) -> int:
        order.append("etcd")
        return 1

    steps = Steps(Postgres(), Row(), lambda _: writer(), write, pytest.fail)
    await steps.leave(at_columbus(), Leave(nodes=(DENVER,), reason="test"))
    assert order == ["etcd", f"row hides {(DENVER,)}", "names ()"]


async def test_names_are_never_cleared_when_etcd_gives_no_answer():
    class Postgres:
        async def set_names(self, names):
            pytest.fail("the names were cleared")

    async def write(_: Transaction) -> int:
        raise TimeoutError

    steps = Steps(Postgres(), Postgres(), lambda _: writer(), write, pytest.fail)
    with pytest.raises(TimeoutError):
        await steps.leave(at_columbus(), Leave(nodes=(DENVER,), reason="test"))


async def test_a_standby_joins_in_etcd_only_after_it_flushed_past_a_position_taken_while_commits_wait():
    order: list[str] = []

    class Postgres:
        async def bring_in(self, node, *, within):
            order.append(f"{node} is waited for and flushed")
            return 4_711

    written: list[Transaction] = []

    async def write(transaction: Transaction) -> int:
        order.append("etcd")
        written.append(transaction)
        return len(written)

    alone = cluster(sync=entry(Sync(term=3, leader=COLUMBUS, leader_incarnation="x")))
    steps = Steps(Postgres(), object(), lambda _: writer(), write, pytest.fail)

    await steps.join(at_columbus(cluster=alone), Join(node=DENVER))
    assert order == [f"{DENVER} is waited for and flushed", "etcd"]
    assert Sync.decode(written[0].writes[0].value).standbys[0].lsn == 4_711


def test_an_agent_that_was_just_started_does_not_take_a_postgres_it_has_not_asked_yet_for_silent():
    async def never(*_: object) -> None:
        raise AssertionError("nothing was asked yet")

    class At100(SystemClock):
        def now(self) -> float:
            return 100.0

    unasked = Monitor(
        never,
        never,
        lambda: Running(system_id="7", incarnation=f"disk-{COLUMBUS}", follows=None),
        lambda: None,
        At100(),
        FailoverSettings(),
    )
    assert decide(Lane.POSTGRES, at_columbus(pg=unasked.facts)).rule == "mute"


def test_the_control_schema_is_split_into_whole_statements():
    found = statements(CONTROL)
    assert all(statement.rstrip().endswith(";") for statement in found)
    assert sum("create or replace function" in statement for statement in found) == 3


def test_a_clone_that_fails_waits_longer_each_time_and_nothing_else_does():
    """Each try costs the leader a checkpoint."""
    clone = Clone(leader=COLUMBUS)
    pauses = [pause_before_repeat(clone, failures) for failures in range(9)]
    assert pauses == [PAUSE_BEFORE_REPEAT, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_PAUSE, LONGEST_PAUSE]
    assert {pause_before_repeat(Rewind(leader=COLUMBUS), n) for n in range(9)} == {PAUSE_BEFORE_REPEAT}


async def test_a_clone_of_another_leader_is_not_held_back_by_those_that_failed():
    clock, done, tried = HeldClock(), asyncio.Event(), []

    async def fail(effect: Effect, _: Facts) -> None:
        tried.append(effect)
        raise NodeError("no room")

    lanes = Lanes(fail, done.set, clock)
    first, second = Clone(leader=COLUMBUS), Clone(leader=DENVER)
    for _ in range(3):
        lanes.offer(decision(first), at_columbus())
        await asyncio.sleep(0)
        await clock.advance(PAUSE_BEFORE_REPEAT)
        await done.wait()
        done.clear()
        await clock.advance(8.0)
    lanes.offer(decision(first), at_columbus())
    assert lanes.busy_with(Lane.POSTGRES) == first
    await asyncio.sleep(0)
    await clock.advance(PAUSE_BEFORE_REPEAT)
    await done.wait()
    await clock.advance(PAUSE_BEFORE_REPEAT)
    lanes.offer(decision(first), at_columbus())
    assert lanes.busy_with(Lane.POSTGRES) is None
    lanes.offer(decision(second), at_columbus())
    assert lanes.busy_with(Lane.POSTGRES) == second
    await lanes.stop()
    assert tried == [first] * 4
