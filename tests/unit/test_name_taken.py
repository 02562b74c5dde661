"""Two agents with one node's name, as after a configuration was copied: the second one stays out."""

from dataclasses import replace
from typing import Any

import pytest

from sitecontrol.agent.publisher import Publisher
from sitecontrol.agent.state import AgentState
from sitecontrol.clock import SystemClock
from sitecontrol.etcd.memory import MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Fence
from sitecontrol.leadership.facts import Facts, LeaseFacts, PgFacts, PgState, StandbyFacts
from sitecontrol.leadership.steps import joinable
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Member
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    THEIR_LEASE,
    at_columbus,
    at_denver,
    cluster,
    entry,
    member,
    primary,
    standby,
    sync,
)

KEY = f"/hotsite/test/members/{DENVER}"
SECOND = LeaseFacts(id=77, ends_at=101.8)  # while the first one's is THEIR_LEASE


def second(pg: PgFacts, **change: Any) -> Facts:
    """The agent that was started with Denver's configuration beside Denver's own."""
    return at_denver(lease=SECOND, pg=pg, **change)


def rule(facts: Facts) -> str:
    return decide(Lane.POSTGRES, facts).rule


def test_the_second_one_makes_no_copy_and_says_who_has_the_name():
    facts = second(PgFacts(state=PgState.ABSENT))
    assert rule(facts) == "name-taken"
    reasons = AgentState(prefix="/hotsite/test/", facts=facts, version="1").reasons
    assert any(
        "denver" in reason and "disk-denver-a" in reason and "site.node" in reason for reason in reasons
    )


@pytest.mark.parametrize("state", [PgState.STANDBY, PgState.STARTING, PgState.MUTE, PgState.PRIMARY])
def test_the_second_ones_postgres_is_stopped(state):
    facts = second(standby(state=state, incarnation="disk-other"))
    assert isinstance(decide(Lane.POSTGRES, facts).effect, Fence)


def test_an_agent_that_has_no_lease_yet_stays_out_as_well():
    assert rule(replace(second(PgFacts(state=PgState.ABSENT)), lease=LeaseFacts())) == "name-taken"


def test_our_own_record_from_before_our_lease_was_lost_is_no_other_agents():
    assert rule(second(standby())) == "follows"


def test_what_we_told_before_we_had_data_under_a_lease_that_we_lost_is_no_other_agents():
    """As in a first start during which the lease ran out: nobody else may end what it has made."""
    told = entry(member(DENVER, incarnation=None), THEIR_LEASE)
    ours = LeaseFacts(id=77, ends_at=101.8, former=THEIR_LEASE)
    facts = at_denver(
        cluster=cluster(members={DENVER: told}, sync=None, initialize=None, term=None, leader=None),
        pg=standby(),
    )
    assert rule(replace(facts, lease=SECOND)) == "name-taken-runs"
    assert not rule(replace(facts, lease=ours)).startswith("name-taken")
    assert not rule(replace(facts, lease=LeaseFacts(former=THEIR_LEASE))).startswith("name-taken")


def test_whom_sync_names_gives_way_to_nobody():
    taken = entry(member(DENVER, incarnation="disk-other"), THEIR_LEASE)
    known = cluster(members={DENVER: taken})
    assert rule(second(standby(), cluster=known)) == "follows"
    out = replace(known, sync=entry(sync(COLUMBUS)))
    assert isinstance(decide(Lane.POSTGRES, second(standby(), cluster=out)).effect, Fence)


def test_a_standby_that_streams_twice_under_one_name_does_not_come_into_step():
    one = StandbyFacts(name=DENVER, streaming=True, flush_lsn=1_000, replay_lsn=1_000, moved_at=100.0)
    facts = at_columbus(cluster=cluster(sync=entry(sync(COLUMBUS))), pg=primary(names=(), standbys=(one,)))
    assert joinable(facts) == DENVER
    assert joinable(replace(facts, pg=primary(names=(), standbys=(one, one)))) is None


# -- the record ----------------------------------------------------------------------------------------------------


class Told:
    """A publisher on an etcd in memory, with another agent's value under its key."""

    def __init__(self) -> None:
        self.etcd = MemoryEtcd(MemoryStore(SystemClock()))
        self.bad: int | None = None
        self.record = member(DENVER)

    async def write(self) -> bool:
        lease = await self.etcd.grant(600)

        def described() -> Member:
            return self.record

        def told() -> tuple[object, int]:
            return self.record, lease

        publisher = Publisher(self.etcd, KEY, told, described, lambda: self.bad, SystemClock())
        return await publisher.write(self.record, lease)

    async def now(self) -> bytes | None:
        kv = (await self.etcd.get(KEY)).one
        return kv.value if kv is not None else None


async def test_a_members_record_of_another_agent_is_not_written_over():
    told = Told()
    other = member(DENVER, incarnation="disk-other").encode()
    await told.etcd.put(KEY, other, lease=await told.etcd.grant(600))
    assert not await told.write()
    assert await told.now() == other


async def test_garbage_in_the_place_of_our_record_is_written_over():
    told = Told()
    told.bad = await told.etcd.put(KEY, b"garbage")
    assert await told.write()
    assert await told.now() == told.record.encode()


async def test_what_took_the_place_of_the_garbage_meanwhile_is_not_written_over():
    told = Told()
    told.bad = await told.etcd.put(KEY, b"garbage")
    other = member(DENVER, incarnation="disk-other").encode()
    await told.etcd.put(KEY, other, lease=await told.etcd.grant(600))
    assert not await told.write()
    assert await told.now() == other
