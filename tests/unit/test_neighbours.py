"""Where etcd's own leader runs, and that it is kept away from the live site: the look, and the move."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sitecontrol.agent.executor import Executor
from sitecontrol.agent.neighbours import ETCD_EVERY, Neighbours
from sitecontrol.clock import Clock
from sitecontrol.etcd.api import MemberStatus
from sitecontrol.etcd.memory import MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore
from sitecontrol.leadership.effects import MoveEtcdLeader
from sitecontrol.leadership.facts import Facts
from sitecontrol.records import Phase
from tests.unit.health_scenes import settings_of
from tests.unit.held_clock import HeldClock
from tests.unit.leadership_facts import at_columbus, cluster, entry, swap

COLUMBUS, DENVER, WITNESS = 1, 2, 3  # ids of the members
NAMES = ("etcd-columbus", "etcd-denver", "etcd-witness")


class Etcd(MemoryEtcd):
    """Three members, some of which may be silent."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(MemoryStore(clock, NAMES))
        self.silent: set[int] = set()
        self.asked = asyncio.Event()

    async def members(self, *, timeout: float | None = None) -> Sequence[MemberStatus]:
        found = [m for m in await super().members() if m.member_id not in self.silent]
        self.asked.set()
        return found


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def etcd(clock: HeldClock) -> Etcd:
    return Etcd(clock)


class Looking:
    """A running `Neighbours` of columbus-a, and what its agent knows."""

    def __init__(self, etcd: Etcd, clock: HeldClock) -> None:
        self._etcd = etcd
        self._clock = clock
        self.neighbours = Neighbours(settings_of(), etcd, _nobody, clock)
        self.facts: Facts = at_columbus()

    async def look(self) -> tuple[bool, int | None]:
        """What it says after the next look: whether etcd's leader is here, and where it could go."""
        self._etcd.asked.clear()
        await _turns()
        await self._clock.advance(ETCD_EVERY)
        await _turns()
        return self.neighbours.etcd_leader_here, self.neighbours.etcd_leader_target


async def _nobody(name: str) -> Any:
    raise AssertionError(f"{name} was connected to without a swap")


async def _turns() -> None:
    """Let everything run that does not wait for the clock."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def looking(etcd: Etcd, clock: HeldClock) -> AsyncIterator[Looking]:
    scene = Looking(etcd, clock)
    running = asyncio.create_task(scene.neighbours.run(lambda: scene.facts))
    try:
        yield scene
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_leader_of_etcd_in_the_live_site_is_seen_and_could_go_to_the_witness_first(
    etcd: Etcd, clock: HeldClock
):
    async with looking(etcd, clock) as scene:
        assert await scene.look() == (True, WITNESS)
        etcd.silent = {WITNESS}
        assert await scene.look() == (True, DENVER)
        etcd.silent = {WITNESS, DENVER}
        assert await scene.look() == (True, None)


@pytest.mark.parametrize("elsewhere", [DENVER, WITNESS])
async def test_a_leader_of_etcd_elsewhere_is_left_there(etcd: Etcd, clock: HeldClock, elsewhere: int):
    etcd.store.move_leader(elsewhere)
    async with looking(etcd, clock) as scene:
        here, _ = await scene.look()
        assert not here


async def test_what_was_seen_of_etcds_leader_in_an_earlier_term_moves_nothing_in_the_next(
    etcd: Etcd, clock: HeldClock
):
    async with looking(etcd, clock) as scene:
        assert (await scene.look())[0]
        scene.facts = at_columbus(cluster=cluster(leader=None))
        assert await scene.look() == (False, None)


async def test_every_agent_knows_which_of_etcds_members_answer_and_where_they_are_led(
    etcd: Etcd, clock: HeldClock
):
    async with looking(etcd, clock) as scene:
        scene.facts = at_columbus(cluster=cluster(leader=None))
        assert scene.neighbours.etcd_members == {}
        etcd.silent = {WITNESS}
        await scene.look()
        assert scene.neighbours.etcd_members == {"columbus": True, "denver": True, "witness": False}
        assert scene.neighbours.etcd_leader_place == "columbus"


async def test_etcds_leadership_is_moved_to_the_member_that_was_decided(etcd: Etcd, clock: HeldClock):
    unused: Any = None
    executor = Executor(
        etcd=etcd,
        scribe=unused,
        postgres=unused,
        bootstrapper=unused,
        steps=unused,
        row=unused,
        look=unused,
        repaired=unused,
        proved=unused,
        hands_over=unused,
        clock=clock,
        settings=settings_of(),
    )
    moving = asyncio.create_task(executor.execute(MoveEtcdLeader(member_id=WITNESS), at_columbus()))
    await _turns()
    assert {m.leader_id for m in await etcd.members()} == {WITNESS}
    assert not moving.done()  # the lane is busy until the members were asked again
    await clock.advance(ETCD_EVERY)
    await moving


async def test_a_target_that_is_not_configured_is_not_asked_and_ends_nothing(etcd: Etcd, clock: HeldClock):
    """Who reaches etcd can write any name there: with a `LookupError` from it the whole agent ended."""
    async with looking(etcd, clock) as scene:
        scene.facts = at_columbus(cluster=cluster(swap=entry(swap(Phase.HELD, to_node="nobody-a"))))
        await scene.look()
        assert scene.neighbours.peers == {}
