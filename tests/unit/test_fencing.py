"""How long each step of a fencing took, counted from when the proof of leadership was gone."""

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from sitecontrol.agent.fencing import Fencing, proof_ended, sessions_ended
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Fence
from sitecontrol.leadership.facts import Facts, LeaseFacts
from sitecontrol.leadership.table import Lane
from tests.unit.leadership_facts import (
    DENVER,
    OUR_LEASE,
    THEIR_LEASE,
    at_columbus,
    cluster,
    entry,
    leader,
    primary,
)

UNPROVED = {
    "the canary was the last proof": at_columbus(
        etcd_heard_at=97.75, lease=LeaseFacts(id=OUR_LEASE, ends_at=99.2), pg=primary(canary_at=98.7)
    ),
    "the lease was": at_columbus(
        etcd_heard_at=90.0, lease=LeaseFacts(id=OUR_LEASE, ends_at=100.2), pg=primary(canary_at=90.0)
    ),
    "etcd's last word was": at_columbus(etcd_heard_at=98.6, lease=LeaseFacts(), pg=primary(canary_at=90.0)),
    "no canary was written yet": at_columbus(
        etcd_heard_at=None, lease=LeaseFacts(), pg=primary(canary_at=None, opened_at=98.5)
    ),
}


@pytest.mark.parametrize("what", UNPROVED)
def test_the_proof_is_gone_at_the_very_moment_from_which_a_fence_is_decided(what):
    facts = UNPROVED[what]
    moment = proof_ended(facts)
    assert moment < facts.now

    def fences(at: float) -> bool:
        return isinstance(decide(Lane.POSTGRES, replace(facts, now=at)).effect, Fence)

    assert not fences(moment - 0.001)
    assert fences(moment + 0.001)


def superseded() -> Facts:
    return at_columbus(cluster=cluster(leader=entry(leader(DENVER, 4), THEIR_LEASE)))


def test_a_fence_for_another_reason_counts_from_the_facts_that_show_it():
    facts = superseded()
    assert proof_ended(facts) == facts.now


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at


def test_each_step_is_told_in_milliseconds_from_when_the_proof_was_gone():
    hands = Hands()
    fencing, facts = Fencing(hands), UNPROVED["the canary was the last proof"]
    fencing.begin(facts)
    for at, step in ((100.01, "connections_ended"), (100.02, "postgres_ended")):
        hands.at = at
        fencing.reached(step)
    hands.at = 100.05
    fencing.look(is_open=False)
    assert fencing.last_ms == {
        "decided": 300.0,
        "connections_ended": 310.0,
        "postgres_ended": 320.0,
        "locked_out": 350.0,
    }


def test_a_step_counts_when_it_is_first_reached_and_only_while_something_was_fenced():
    hands = Hands()
    fencing = Fencing(hands)
    told = fencing.last_ms
    fencing.look(is_open=False)
    fencing.reached("postgres_ended")
    assert told == {}
    fencing.begin(superseded())
    fencing.look(is_open=True)
    assert "locked_out" not in told
    fencing.reached("connections_ended")
    hands.at = 101.0
    fencing.reached("connections_ended")
    assert told["connections_ended"] == 0.0


def test_dispatchers_that_were_never_let_in_are_locked_out_from_the_start():
    fencing = Fencing(Hands())
    fencing.begin(replace(superseded(), pg=primary(open_term=None)))
    assert fencing.last_ms == {"decided": 0.0, "locked_out": 0.0}


def test_a_second_fencing_forgets_the_first():
    fencing = Fencing(Hands())
    for _ in range(2):
        fencing.begin(superseded())
        assert list(fencing.last_ms) == ["decided"]
        fencing.reached("connections_ended")
        fencing.reached("postgres_ended")


class Parent:
    """A process with a child, as a postmaster with a session."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self._process = process

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def wait_exit(self) -> int | None:
        return await self._process.wait()


async def test_sessions_have_ended_when_the_postmaster_has_no_child_left_though_it_runs_itself():
    process = await asyncio.create_subprocess_shell(
        "sleep 100 & echo $!; wait; exec cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    over = asyncio.create_task(sessions_ended(Parent(process)))
    done, _ = await asyncio.wait([over], timeout=0.05)
    assert not done
    os.kill(child, signal.SIGKILL)
    async with asyncio.timeout(5):
        await over
    assert process.returncode is None
    await process.communicate(b"")


async def test_the_sessions_of_a_postmaster_that_has_ended_have_ended():
    process = await asyncio.create_subprocess_shell("exit 0")
    await process.wait()
    await sessions_ended(Parent(process))
