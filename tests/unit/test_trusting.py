"""A person says which node holds everything: when that is refused, what is told before, and what comes of it."""

from dataclasses import replace
from typing import Any

import pytest

from sitecontrol.agent.state import AgentState
from sitecontrol.belief import believe
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.trusting import comes_of_trust, in_the_way_of_trust
from sitecontrol.leadership.why import document
from sitecontrol.records import Deed, HistoryEntry, Role
from sitecontrol.snapshot import Bad, Snapshot
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    WALL,
    entry,
    leader,
    member,
    standby,
    sync,
)
from tests.unit.test_mending import bad, nobody_leads, with_bad
from tests.unit.test_nodes import Bench, in_cluster

ALL_ANSWER = {"columbus": True, "denver": True, "witness": True}


def stuck(**change: Any) -> Facts:
    """At Denver: Columbus is gone, and what stands under `sync` is garbage."""
    return nobody_leads("sync", **({"members": {DENVER: entry(member(DENVER), 22)}} | change))


def test_it_is_asked_for_just_when_nobody_leads_and_nobody_knows_who_holds_everything():
    assert decide(Lane.POSTGRES, stuck()).rule == "in-step-unknown"
    assert in_the_way_of_trust(stuck()) == ()
    assert in_the_way_of_trust(stuck(sync=None)) == ()


NEWER = {"sync": Bad(why="format 2", mod_revision=9, lease=0, newer=True)}


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (in_cluster(stuck(), leader=entry(leader(COLUMBUS), 11)), "columbus-a leads, and writes `sync` itself"),
        (in_cluster(stuck(), bad={}), "`sync` is believed, and tells who holds every acknowledged message: columbus-a"),
        (replace(in_cluster(stuck(), bad=NEWER), later_version_at=95.0), "a later version of this program wrote"),
        (in_cluster(stuck(), bad=bad("sync", "term"), term=None), "`initialize` or `term` is not known"),
        (replace(stuck(), etcd_heard_at=None), "denver-a does not reach etcd"),
        (replace(stuck(), pg=standby()), "whoever led still writes through to us"),
        (replace(stuck(), pg=standby(state=PgState.UNUSABLE)), "PostgreSQL of denver-a is unusable"),
        (replace(stuck(), pg=standby(incarnation=None)), "what it holds is not known"),
        (replace(stuck(), pg=standby(system_id="8", canary_at=None)), "belongs to another cluster"),
    ],
)  # fmt: skip
def test_it_is_refused(facts: Facts, why: str):
    assert why in "; ".join(in_the_way_of_trust(facts))


def told(facts: Facts) -> str:
    return "\n".join(comes_of_trust(facts))


def test_it_is_told_which_node_would_lead_and_that_nobody_knows_what_a_silent_one_holds():
    said = told(stuck())
    assert "denver-a (timeline 1, 0/3E8) counts as the only one that holds every acknowledged message" in said
    assert "takes the lead in term 4" in said
    assert "columbus-a is not heard: acknowledged messages that it alone has are lost" in said


def test_the_last_record_that_was_believed_tells_whether_anything_is_lost():
    assert "columbus-a, denver-a held everything: if no later one was overwritten, nothing" in told(stuck())
    assert "columbus-a held everything: what they acknowledged, and denver-a lacks, is lost" in told(
        stuck(sync=entry(sync(COLUMBUS)))
    )
    assert "has never read who held every acknowledged message" in told(stuck(sync=None))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"received_lsn": 1_500}, "500 bytes more than denver-a: acknowledged messages among them are lost"),
        ({"received_lsn": 1_000}, "no further than denver-a"),
        ({"timeline": 2, "received_lsn": 10}, "another timeline than ours"),
        ({"received_lsn": 10, "replayed_lsn": 1_001}, "1 bytes more than denver-a"),
    ],
)
def test_what_another_node_tells_of_its_position_is_compared_with_ours(change: dict[str, Any], said: str):
    there = entry(member(COLUMBUS, role=Role.STOPPED, **change), 11)
    assert said in told(stuck(members={COLUMBUS: there, DENVER: entry(member(DENVER), 22)}))


def test_it_is_told_who_led_last_and_may_acknowledge_more():
    began = HistoryEntry(term=3, node=COLUMBUS, site="columbus", at=WALL, kind="failover", by="agent")
    said = told(stuck(history={"0000000003": entry(began)}))
    assert "columbus-a led last, in term 3: see that its PostgreSQL has ended" in said


@pytest.mark.parametrize("last_read", [{}, {"sync": None}])
def test_the_row_and_what_is_in_the_way_name_the_cure(last_read: dict[str, Any]):
    facts = replace(stuck(**last_read), etcd_members=ALL_ANSWER)
    assert "sitectl node trust" in decide(Lane.POSTGRES, facts).sentence
    told = document(facts)["site_lost"]
    assert told["would_lead"] == []
    assert "sitectl node trust" in " ".join(told["in_the_way"])
    state = AgentState(prefix="/", facts=facts, version="1")
    assert "sitectl node trust" in " ".join(state.reasons)


# -- over the agent's API ------------------------------------------------------------------------------------------


def stuck_bench() -> Bench:
    """Records in memory: nobody leads, and garbage under `sync`."""
    bench = Bench(stuck())
    bench.log.delete("leader")
    bench.log.put("sync", b"\x00garbage")
    see(bench, Snapshot())
    return bench


def see(bench: Bench, before: Snapshot | None = None) -> None:
    """The agent looks at what stands there now."""
    facts = bench.state.facts
    seen = believe(before or facts.cluster, bench.log.snapshot)
    bench.state.facts = replace(facts, cluster=replace(seen, read_at=100.0))


async def test_a_dry_run_changes_nothing_and_the_act_writes_sync_and_tells_who_said_it():
    bench = stuck_bench()
    assert bench.log.snapshot.bad.keys() == {"sync"}
    status, dry = await bench.post("/node/trust", node=DENVER, dry_run=True)
    assert (status, dry["would"], dry["leader"]) == (200, "trust", None)
    assert bench.log.snapshot.bad.keys() == {"sync"}
    status, done = await bench.post("/node/trust", node=DENVER, by="anna", reason="columbus burnt down")
    assert (status, done["consequences"]) == (202, dry["consequences"])
    assert bench.told[-1] == Deed.TRUSTED
    entry = bench.log.entries[-1]
    assert (entry["by"], entry["reason"], entry["about"]) == ("anna", "columbus burnt down", DENVER)
    assert "columbus-a is not heard" in " ".join(entry["evidence"].values())
    [kept] = [e.record for key, e in bench.log.snapshot.history.items() if "-trusted-" in key]
    assert (kept.kind, kept.node, kept.reason) == ("forced", DENVER, "columbus burnt down")
    assert bench.log.flaws == ()
    see(bench)
    assert bench.state.facts.cluster.bad == {}
    assert decide(Lane.POSTGRES, bench.state.facts).rule == "claim"
    again, refused = await bench.post("/node/trust", node=DENVER)
    assert again == 409
    assert "`sync` is believed" in refused["detail"]


@pytest.mark.parametrize("key", ["leader", "term", "sync", "swap"])
async def test_what_changed_meanwhile_is_not_written_over(key: str):
    bench = stuck_bench()
    bench.log.put(key, b"\x00another")
    status, told = await bench.post("/node/trust", node=DENVER)
    assert (status, told["title"]) == (409, "The trust is refused")
    assert "ask again" in told["detail"]
    assert Deed.TRUSTED not in bench.told


async def test_it_needs_the_operators_token_and_the_nodes_own_agent():
    bench = stuck_bench()
    assert (await bench.post("/node/trust", headers={}, node=DENVER))[0] == 401
    assert (await bench.post("/node/trust", node=COLUMBUS))[0] == 422
    assert Deed.TRUSTED not in bench.told


def test_a_forged_record_is_written_over_as_garbage_is():
    forged = with_bad("sync", leader=None, sync=None)
    assert in_the_way_of_trust(replace(stuck(), cluster=forged)) == ()
