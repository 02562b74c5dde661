"""Acts on one node: what stands in their way, what comes of them, and how they are asked for."""

from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from sitecontrol.agent.api import AgentApi
from sitecontrol.agent.memory import Memory
from sitecontrol.agent.state import AgentState
from sitecontrol.etcd.memory import MemoryEtcd
from sitecontrol.leadership import nodes
from sitecontrol.leadership.effects import Clone
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.slots import keeping
from sitecontrol.leadership.table import Decision
from sitecontrol.records import Deed, Desired, Phase
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    WALL,
    at_columbus,
    at_denver,
    cluster,
    entry,
    swap,
    sync,
)
from tests.unit.test_audit import PREFIX, Log, begun

OPERATOR = {"Authorization": "Bearer token"}


def without(facts: Facts, node: str) -> Facts:
    """Its agent is not heard."""
    members = {name: m for name, m in facts.cluster.members.items() if name != node}
    return replace(facts, cluster=replace(facts.cluster, members=members))


def in_cluster(facts: Facts, **change: Any) -> Facts:
    return replace(facts, cluster=replace(facts.cluster, **change))


# -- reclone


def test_a_standby_in_step_may_be_recloned_and_it_is_said_that_nobody_could_take_over_meanwhile() -> None:
    assert nodes.in_the_way_of_reclone(at_denver()) == ()
    assert "until it is in step again nobody could take over" in " ".join(nodes.comes_of_reclone(at_denver()))


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (at_columbus(), "columbus-a leads: move production away first"),
        (in_cluster(at_denver(), leader=None), "nobody leads"),
        (without(at_denver(), COLUMBUS), "is not heard: ours may be the only complete copy"),
        (in_cluster(at_denver(), sync=entry(sync(COLUMBUS, DENVER, term=2))), "ours may be the only complete copy"),
        (in_cluster(at_denver(), sync=entry(sync(DENVER))), "ours may be the only complete copy"),
        (in_cluster(at_denver(), sync=None), "ours may be the only complete copy"),
        (in_cluster(at_denver(), swap=entry(swap(Phase.HELD))), "swap s1 is in progress (held)"),
        (replace(at_denver(), etcd_heard_at=None), "does not reach etcd"),
    ],
)  # fmt: skip
def test_a_reclone_is_refused(facts: Facts, why: str) -> None:
    assert why in " ".join(nodes.in_the_way_of_reclone(facts))


# -- rejoin


def test_a_node_that_is_in_step_has_nothing_to_try_again_and_one_that_is_not_has() -> None:
    assert "there is nothing to try again" in nodes.in_the_way_of_rejoin(at_denver())[0]
    assert nodes.in_the_way_of_rejoin(in_cluster(at_denver(), sync=entry(sync(COLUMBUS)))) == ()


def test_of_a_node_that_streams_it_is_said_that_the_leader_tries_at_once_to_bring_it_into_step() -> None:
    assert nodes.comes_of_rejoin(in_cluster(at_denver(), leader=None)) == ()
    [told] = nodes.comes_of_rejoin(in_cluster(at_denver(), sync=entry(sync(COLUMBUS))))
    assert told.startswith(f"should {COLUMBUS} have {DENVER} wait after tries in vain")


def test_after_a_hurry_the_leader_has_been_waited_for_long_enough_and_repairs_begin_anew() -> None:
    memory = Memory(follow_failed_since=99.0, repairs=3)
    memory.hurry(WALL)
    assert memory.follow_failed_since is not None
    assert 100.0 - memory.follow_failed_since > 3_600
    assert memory.repairs == 0
    calm = Memory()
    calm.hurry(WALL)
    assert calm.follow_failed_since is None


# -- remove


def test_a_node_that_is_gone_may_be_removed_and_it_is_said_what_goes() -> None:
    facts = without(at_columbus(), DENVER)
    assert nodes.in_the_way_of_removal(facts, DENVER) == ()
    told = " ".join(nodes.comes_of_removal(facts, DENVER))
    assert "taken out of step" in told
    assert "the slot hotsite_denver_a goes" in told


@pytest.mark.parametrize(
    ("facts", "node", "why"),
    [
        (at_columbus(), DENVER, "its agent lives"),
        (at_columbus(), COLUMBUS, "columbus-a leads"),
        (in_cluster(without(at_columbus(), DENVER), leader=None), DENVER, "nobody leads"),
        (in_cluster(without(at_columbus(), DENVER), sync=entry(sync(DENVER))), DENVER, "only complete copy"),
        (in_cluster(without(at_columbus(), DENVER), sync=None), DENVER, "only complete copy"),
        (in_cluster(without(at_columbus(), DENVER), swap=entry(swap(Phase.HELD))), DENVER, "swap s1"),
        (replace(without(at_columbus(), DENVER), etcd_heard_at=None), DENVER, "does not reach etcd"),
    ],
)
def test_a_removal_is_refused(facts: Facts, node: str, why: str) -> None:
    assert why in " ".join(nodes.in_the_way_of_removal(facts, node))


def test_no_wal_is_kept_for_a_node_that_was_removed_until_its_agent_is_heard_again() -> None:
    retired = in_cluster(at_columbus(), desired=entry(Desired(retired=(DENVER,))))
    kept = keeping(without(retired, DENVER))
    assert kept is not None
    assert (kept.drop, kept.make) == (("hotsite_denver_a",), ())
    assert keeping(retired) is None


# -- over the agent's API


class Bench:
    """An agent's API over records in memory."""

    def __init__(self, facts: Facts) -> None:
        self.log: Log = begun()
        snapshot = self.log.snapshot
        seen = replace(
            facts.cluster, leader=snapshot.leader, term=snapshot.term, log_end=snapshot.log_end, revision=9
        )
        self.state = AgentState(prefix=PREFIX, facts=replace(facts, cluster=seen), version="1")
        self.begun: list[Decision] = []
        self.hurried = 0
        self.free = True
        self.state.begin = self._begin
        self.state.hurry = self._hurry
        self.etcd: Any = MemoryEtcd(self.log.store)

    def _begin(self, decision: Decision) -> bool:
        if self.free:
            self.begun.append(decision)
        return self.free

    def _hurry(self) -> None:
        self.hurried += 1

    async def post(
        self, path: str, headers: dict[str, str] = OPERATOR, **body: Any
    ) -> tuple[int, dict[str, Any]]:
        app = AgentApi(self.state, self.etcd, "token", CollectorRegistry()).app()
        async with TestClient(TestServer(app)) as client:
            answer = await client.post(path, json=body, headers=headers)
            return answer.status, await answer.json(content_type=None)

    @property
    def told(self) -> list[str]:
        return [entry["what"] for entry in self.log.entries]


def bench_at_denver(**change: Any) -> Bench:
    first = entry(sync(COLUMBUS, DENVER, term=1))
    return Bench(at_denver(cluster=cluster(**({"sync": first} | change))))


async def test_a_reclone_is_told_and_begun_and_a_dry_run_is_neither() -> None:
    bench = bench_at_denver()
    status, dry = await bench.post("/node/reclone", node=DENVER, dry_run=True)
    assert (status, dry["would"], dry["obstacles"]) == (200, "reclone", [])
    assert bench.begun == []
    assert Deed.RECLONE not in bench.told
    status, told = await bench.post("/node/reclone", node=DENVER, by="anna", reason="bit rot")
    assert (status, told["leader"], told["incarnation"]) == (202, COLUMBUS, "disk-denver-a")
    assert [decision.effect for decision in bench.begun] == [Clone(leader=COLUMBUS)]
    assert bench.told[-1] == Deed.RECLONE
    assert (bench.log.entries[-1]["by"], bench.log.entries[-1]["reason"]) == ("anna", "bit rot")


async def test_a_reclone_that_is_refused_or_that_finds_the_node_busy_begins_nothing() -> None:
    refused = bench_at_denver(sync=entry(sync(DENVER, term=1)))
    status, told = await refused.post("/node/reclone", node=DENVER)
    assert (status, told["title"]) == (409, "The reclone is refused")
    assert "only complete copy" in told["obstacles"][0]
    busy = bench_at_denver()
    busy.free = False
    status, told = await busy.post("/node/reclone", node=DENVER)
    assert status == 409
    assert "busy" in told["detail"]
    assert refused.begun == busy.begun == []


async def test_an_act_on_a_node_needs_the_operators_token_and_the_nodes_own_agent() -> None:
    bench = bench_at_denver()
    for path in ("/node/reclone", "/node/rejoin", "/node/remove"):
        assert (await bench.post(path, headers={}, node=DENVER))[0] == 401
        assert (await bench.post(path, node="boston-a"))[0] == 422
        assert (await bench.post(path, node=DENVER, force=True))[0] == 422
    assert (await bench.post("/node/reclone", node=COLUMBUS))[1]["title"] == "Another node's agent"


async def test_a_rejoin_ends_the_back_off() -> None:
    bench = bench_at_denver(sync=entry(sync(COLUMBUS, term=1)))
    assert (await bench.post("/node/rejoin", node=DENVER, dry_run=True))[0] == 200
    assert bench.hurried == 0
    assert (await bench.post("/node/rejoin", node=DENVER))[0] == 202
    assert bench.hurried == 1
    assert bench.told[-1] == Deed.REJOIN


async def test_a_removal_is_kept_among_what_people_want() -> None:
    facts = at_denver(cluster=cluster(sync=entry(sync(COLUMBUS, term=1))))
    bench = Bench(replace(without(facts, COLUMBUS), site_of={**facts.site_of, "boston-a": "boston"}))
    status, told = await bench.post("/node/remove", node="boston-a", by="anna")
    assert (status, told["obstacles"]) == (202, [])
    kept = bench.log.snapshot.desired
    assert kept is not None
    assert kept.record.retired == ("boston-a",)
    assert bench.told[-1] == Deed.REMOVED
    assert bench.log.flaws == ()
