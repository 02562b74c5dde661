"""When an adapter is pointed to our site and when it is looked at; and that none of it reaches the agent's loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from sitecontrol.agent.metrics import AgentCollector
from sitecontrol.agent.state import AgentState
from sitecontrol.traffic import moving
from sitecontrol.traffic.api import AdapterFailed, Move
from sitecontrol.traffic.memory import MemoryAdapter
from sitecontrol.traffic.mover import GRACE, Mover
from sitecontrol.traffic.moving import LONGEST_PAUSE, Act, Progress, State
from tests.unit.held_clock import HeldClock
from tests.unit.leadership_facts import at_columbus
from tests.waiting import eventually

CHECK_EVERY = 10.0
HERE = Move(site="columbus", term=7, reason="failover: the other site is gone")
POINTED = Progress(state=State.OK, term=7, pointed=True)


# -- the decisions


def test_in_a_new_term_it_is_pointed_first_and_looked_at_from_then_on() -> None:
    progress = moving.begin(Progress(), 7)
    assert (progress.state, moving.next_act(progress)) == (State.MOVING, Act.POINT)
    progress = moving.succeeded(progress, Act.POINT)
    assert (progress.state, moving.next_act(progress)) == (State.OK, Act.CHECK)
    assert moving.pause(progress, CHECK_EVERY) == CHECK_EVERY


def test_within_a_term_it_is_not_pointed_again_when_we_serve_again_after_a_moment() -> None:
    again = moving.begin(moving.end(POINTED), 7)
    assert moving.next_act(again) is Act.CHECK
    assert moving.next_act(moving.begin(moving.end(POINTED), 8)) is Act.POINT


def test_what_is_found_wrong_is_told_and_put_right_at_once() -> None:
    progress = moving.succeeded(POINTED, Act.CHECK, wrong="it points to denver")
    assert (progress.state, progress.reason) == (State.FAILED, "it points to denver")
    assert moving.next_act(progress) is Act.POINT
    assert moving.pause(progress, CHECK_EVERY) == 0
    assert moving.succeeded(progress, Act.POINT) == POINTED


def test_what_fails_is_tried_again_after_a_pause_that_doubles_up_to_a_limit() -> None:
    progress, pauses = moving.begin(Progress(), 7), []
    for _ in range(2_000):
        progress = moving.failed(progress, "no answer")
        pauses.append(moving.pause(progress, CHECK_EVERY))
    assert pauses[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, LONGEST_PAUSE]
    assert max(pauses) == LONGEST_PAUSE


def test_a_look_that_fails_does_not_make_it_point_again() -> None:
    assert moving.next_act(moving.failed(POINTED, "no answer")) is Act.CHECK


def test_who_is_not_live_has_no_alarm() -> None:
    ended = moving.end(moving.failed(POINTED, "no answer"))
    assert (ended.state, ended.reason, ended.failures) == (State.IDLE, "", 0)


def test_two_moves_are_the_same_when_site_and_term_are() -> None:
    assert replace(HERE, reason="another") == HERE
    assert replace(HERE, term=8) != HERE


# -- the mover


@asynccontextmanager
async def moves(*adapters: MemoryAdapter, clock: HeldClock) -> AsyncIterator[Mover]:
    mover = Mover(adapters, check_every=CHECK_EVERY, clock=clock)
    try:
        yield mover
    finally:
        await mover.stop()


async def turns() -> None:
    """Let everything run that does not wait for the clock."""
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


async def test_every_adapter_is_pointed_once_a_term_however_often_the_loop_looks(clock: HeldClock) -> None:
    first, second = MemoryAdapter("first"), MemoryAdapter("second")
    async with moves(first, second, clock=clock) as mover:
        for _ in range(5):
            mover.look(HERE)
            await turns()
        assert first.pointed == second.pointed == [HERE]
        assert first.pointed[0].reason == HERE.reason
        mover.look(replace(HERE, term=8))
        await turns()
        assert [move.term for move in first.pointed] == [7, 8]


async def test_who_is_not_live_touches_nothing(clock: HeldClock) -> None:
    adapter = MemoryAdapter()
    async with moves(adapter, clock=clock) as mover:
        mover.look(None)
        await turns()
        assert adapter.pointed == []
        mover.look(HERE)
        await turns()
        mover.look(None)
        await turns()
        adapter.stands = None
        await clock.advance(10 * CHECK_EVERY)
        await turns()
        assert adapter.pointed == [HERE]
        assert mover.told["memory"].state is State.IDLE


async def test_what_somebody_else_changed_is_put_right_at_the_next_look(clock: HeldClock) -> None:
    adapter = MemoryAdapter()
    async with moves(adapter, clock=clock) as mover:
        mover.look(HERE)
        await turns()
        adapter.stands = Move(site="denver", term=6)
        await clock.advance(CHECK_EVERY)
        await turns()
        assert adapter.stands == HERE
        assert mover.told["memory"].state is State.OK


async def test_a_failing_adapter_is_an_alarm_and_keeps_no_other_waiting(clock: HeldClock) -> None:
    broken, good = MemoryAdapter("broken"), MemoryAdapter("good")
    broken.failure = AdapterFailed("the server said no")
    async with moves(broken, good, clock=clock) as mover:
        mover.look(HERE)
        await turns()
        assert good.pointed == [HERE]
        assert (mover.told["broken"].state, mover.told["broken"].reason) == (
            State.FAILED,
            "the server said no",
        )
        broken.failure = None
        await clock.advance(moving.FIRST_PAUSE)
        await turns()
        assert broken.pointed == [HERE]
        assert mover.told["broken"].state is State.OK


async def test_a_fault_in_an_adapter_is_an_alarm_and_not_the_agents_end(clock: HeldClock) -> None:
    adapter = MemoryAdapter()
    adapter.failure = ZeroDivisionError("of all things")
    async with moves(adapter, clock=clock) as mover:
        mover.look(HERE)
        await turns()
        assert mover.told["memory"].reason == "ZeroDivisionError: of all things"


async def test_an_adapter_that_does_not_keep_its_deadline_is_cut_off(clock: HeldClock) -> None:
    adapter = MemoryAdapter(deadline=0.01 - GRACE)
    adapter.answers.clear()
    async with moves(adapter, clock=clock) as mover:
        mover.look(HERE)
        await eventually(lambda: mover.told["memory"].state is State.FAILED)
        assert mover.told["memory"].reason.startswith("no end within")


async def test_what_is_under_way_for_an_earlier_term_is_given_up(clock: HeldClock) -> None:
    adapter = MemoryAdapter(deadline=1_000)
    adapter.answers.clear()
    async with moves(adapter, clock=clock) as mover:
        mover.look(HERE)
        await turns()
        mover.look(replace(HERE, term=9))
        adapter.answers.set()
        await turns()
        assert [move.term for move in adapter.pointed] == [9]


async def test_a_later_term_that_stands_there_is_an_alarm_and_is_left(clock: HeldClock) -> None:
    adapter = MemoryAdapter()
    adapter.stands = Move(site="denver", term=8)
    async with moves(adapter, clock=clock) as mover:
        mover.look(HERE)
        await turns()
        assert mover.told["memory"].reason == "term 8 stands there already"
        assert adapter.stands == Move(site="denver", term=8)


# -- what an agent tells of it


def metrics(told: dict[str, Progress]) -> str:
    registry = CollectorRegistry()
    state = AgentState(prefix="/p/", facts=at_columbus(), version="1", traffic=told)
    registry.register(AgentCollector(state))
    return generate_latest(registry).decode()


def test_the_status_and_the_metrics_tell_of_every_adapter() -> None:
    told = {"dns": POINTED, "command": moving.failed(POINTED, "no end within 10 s")}
    state = AgentState(prefix="/p/", facts=at_columbus(), version="1", traffic=told)
    assert state.status()["traffic"] == [
        {"adapter": "dns", "state": "ok", "reason": ""},
        {"adapter": "command", "state": "failed", "reason": "no end within 10 s"},
    ]
    text = metrics(told)
    assert 'hotsite_traffic_adapter_ok{adapter="dns"} 1.0' in text
    assert 'hotsite_traffic_adapter_ok{adapter="command"} 0.0' in text


def test_an_adapter_that_fails_does_not_make_the_node_unready() -> None:
    """It would stand in the way of a swap."""
    failing = {"dns": moving.failed(POINTED, "no answer")}
    state = AgentState(prefix="/p/", facts=at_columbus(), version="1")
    told = AgentState(prefix="/p/", facts=at_columbus(), version="1", traffic=failing)
    assert told.reasons == state.reasons


def test_who_is_not_live_has_no_metric_that_an_alarm_could_wait_for() -> None:
    assert "hotsite_traffic_adapter_ok{" not in metrics({"dns": moving.end(POINTED)})
