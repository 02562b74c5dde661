"""Running work at whoever leads, while leaders come, go, move and hang."""

import asyncio
from math import inf

import asyncpg
import pytest

from dispatcher import leadership as module
from dispatcher.leadership import Lane, Unavailable
from dispatcher.store import NotLeader
from replication.errors import CommitUnknown
from sitecontrol.records import Phase
from tests.unit.fake_nodes import FakeConnection, settings, two_sites
from tests.waiting import eventually


async def where(store: FakeConnection, term: int) -> tuple[str, int]:
    store.refuse_unless_open(term)
    return store.node.name, term


async def test_work_runs_at_the_leader_in_its_term():
    async with two_sites() as sites:
        await sites.lead("denver-a", 7)
        assert await sites.leadership.run(where) == ("denver-a", 7)


async def test_work_is_held_until_a_leader_shows():
    async with two_sites() as sites:
        held = asyncio.create_task(sites.leadership.run(where))
        await eventually(lambda: sites.leadership.state.holding == 1)
        await sites.lead("columbus-a", 1)
        assert await held == ("columbus-a", 1)
        assert sites.leadership.state.holding == 0


async def test_work_is_held_until_the_leaders_database_says_open():
    async with two_sites() as sites:
        held = asyncio.create_task(sites.leadership.run(where))
        await sites.name_leader("columbus-a", 1)
        await eventually(lambda: sites.leadership.state.rule == "not-open")
        assert not held.done()
        sites.nodes["columbus-a"].term = 1
        assert await held == ("columbus-a", 1)


async def test_a_leader_whose_key_is_gone_serves_as_long_as_its_canary_is_fresh():
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        await sites.unname_leader()
        await eventually(lambda: sites.leadership.snapshot.leader is None)
        asked = sites.leadership.run(where)
        assert await asked == ("columbus-a", 1)
        sites.nodes["columbus-a"].canary_age_s = 1.2
        await eventually(lambda: sites.leadership.state.rule == "unproved")
        assert not sites.leadership.state.may_send
        sites.nodes["columbus-a"].canary_age_s = 0.2
        await eventually(lambda: sites.leadership.state.open)


async def test_a_leader_of_whom_etcd_says_nothing_any_more_needs_a_fresh_canary(monkeypatch):
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        sites.nodes["columbus-a"].canary_age_s = 5.0
        monkeypatch.setattr(module, "ETCD_SILENT_S", 0.05)
        await eventually(lambda: sites.leadership.state.rule == "unproved")
        monkeypatch.setattr(module, "ETCD_SILENT_S", 60.0)
        await sites.view.confirm_leader()
        await eventually(lambda: sites.leadership.state.open)


async def test_a_stale_canary_proves_nothing_against_a_leader_that_etcd_names():
    async with two_sites() as sites:
        sites.nodes["columbus-a"].canary_age_s = 5.0  # its agent was just started again
        await sites.lead("columbus-a", 1)
        assert await sites.leadership.run(where) == ("columbus-a", 1)


async def test_a_swap_holds_work_and_lets_it_go_at_the_new_leader_before_etcd_says_opened():
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        await sites.swap(Phase.HELD)
        await eventually(lambda: sites.leadership.state.rule == "swap")
        held = asyncio.create_task(sites.leadership.run(where))
        await eventually(lambda: sites.leadership.state.holding == 1)
        await sites.name_leader("denver-a", 2)
        await sites.swap(Phase.HANDED)
        sites.nodes["denver-a"].term = 2
        assert await held == ("denver-a", 2)


async def test_a_swap_that_is_rolled_back_lets_work_go_at_the_old_leader():
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        await sites.swap(Phase.HELD)
        await eventually(lambda: sites.leadership.state.rule == "swap")
        held = asyncio.create_task(sites.leadership.run(where))
        await sites.swap(Phase.ROLLED_BACK)
        assert await held == ("columbus-a", 1)


async def test_a_statement_in_flight_at_the_old_leader_is_abandoned_when_another_leads():
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)

        started = asyncio.Event()

        async def hangs_at_columbus(store: FakeConnection, term: int) -> tuple[str, int]:
            started.set()
            if store.node.name == "columbus-a":
                await store.hang()
            return await where(store, term)

        running = asyncio.create_task(sites.leadership.run(hangs_at_columbus, hold_for=inf))
        await started.wait()
        sites.nodes["columbus-a"].silent = True
        await sites.lead("denver-a", 2)
        assert await running == ("denver-a", 2)
        assert sites.metrics.unknown_commits == 1


async def test_a_refusal_is_run_again_once_the_leader_is_open():
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        sites.nodes["columbus-a"].term = None  # fenced, and we have not noticed
        held = asyncio.create_task(sites.leadership.run(where))
        await eventually(lambda: sites.leadership.state.rule == "not-open")
        sites.nodes["columbus-a"].term = 1
        assert await held == ("columbus-a", 1)


@pytest.mark.parametrize(
    "trouble",
    [CommitUnknown(), NotLeader(), ConnectionResetError(), asyncpg.CannotConnectNowError("starting")],
)
async def test_passing_trouble_is_met_by_running_again(trouble: Exception):
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        troubles = [trouble]

        async def op(_store: FakeConnection, term: int) -> int:
            if troubles:
                raise troubles.pop()
            return term

        assert await sites.leadership.run(op) == 1


async def test_an_error_of_the_work_itself_is_raised():
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)

        async def op(_store: FakeConnection, _term: int) -> None:
            raise asyncpg.CheckViolationError("no")

        with pytest.raises(asyncpg.CheckViolationError):
            await sites.leadership.run(op)


async def test_a_connection_whose_commit_is_unknown_is_never_used_again():
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        used: list[FakeConnection] = []

        async def op(store: FakeConnection, _term: int) -> None:
            used.append(store)
            if len(used) == 1:
                raise CommitUnknown

        await sites.leadership.run(op)
        assert used[0].closed
        assert used[1] is not used[0]


async def test_a_cancelled_callers_connection_is_never_used_again():
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        used: list[FakeConnection] = []

        async def op(store: FakeConnection, _term: int) -> None:
            used.append(store)
            await store.hang()

        caller = asyncio.create_task(sites.leadership.run(op))
        await eventually(lambda: bool(used))
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert used[0].closed


async def test_waiting_is_bounded_in_time():
    async with two_sites() as sites:
        with pytest.raises(Unavailable) as refused:
            await sites.leadership.run(where, hold_for=0.01)
        assert refused.value.retry_after_s > 0


async def test_waiting_is_bounded_in_number():
    async with two_sites(settings(hold_max=1)) as sites:
        held = asyncio.create_task(sites.leadership.run(where))
        await eventually(lambda: sites.leadership.state.holding == 1)
        with pytest.raises(Unavailable):
            await sites.leadership.run(where)
        await sites.lead("columbus-a", 1)
        await held


async def test_an_attempt_that_hangs_is_cut_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "ATTEMPT_S", 0.02)
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        with pytest.raises(Unavailable):
            await sites.leadership.run(lambda store, _term: store.hang(), hold_for=0.01)  # type: ignore[attr-defined]


async def test_the_last_known_leader_is_used_while_etcd_is_away():
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        sites.etcd.cut()
        assert await sites.leadership.run(where) == ("columbus-a", 1)


async def test_a_vanished_leader_key_changes_nothing():
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        await sites.etcd.delete(sites.settings.prefix + "leader")
        await eventually(lambda: sites.view.snapshot.leader is None)
        assert await sites.leadership.run(where) == ("columbus-a", 1)


async def test_a_lane_does_not_wait_for_another():
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        stuck = [
            asyncio.create_task(sites.leadership.run(lambda s, _t: s.hang(), lane=Lane.INTAKE))  # type: ignore[attr-defined]
            for _ in range(10)
        ]
        assert await sites.leadership.run(where, lane=Lane.CLAIM) == ("columbus-a", 1)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_leader_that_restarts_in_place_is_used_again():
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        node = sites.nodes["columbus-a"]
        node.crash()
        held = asyncio.create_task(sites.leadership.run(where))
        await eventually(lambda: not sites.leadership.state.open)
        node.reachable, node.term = True, 1
        assert await held == ("columbus-a", 1)


async def test_a_node_that_falls_silent_loses_all_its_connections(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "ASK_WITHIN_S", 0.05)
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        node = sites.nodes["columbus-a"]
        await eventually(lambda: len(node.standing) > 1)
        before = set(map(id, node.standing))
        node.silent = True
        await eventually(lambda: before.isdisjoint(map(id, node.standing)))


async def test_connections_that_the_other_end_closed_are_dialled_again_ahead_of_need():
    async with two_sites() as sites:
        await sites.lead("columbus-a", 1)
        node = sites.nodes["denver-a"]
        full = 1 + sum(module.LANES.values())
        await eventually(lambda: len(node.standing) == full)
        for connection in node.standing:
            connection.terminate()
        await eventually(lambda: len(node.standing) == full)
