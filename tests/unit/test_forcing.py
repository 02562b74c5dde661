"""A person gives the lead to a node that may lack acknowledged messages: when that is refused, and what is told."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sitecontrol.cli.session import Exit
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.trusting import comes_of_force, in_the_way_of_force, proofs, unproved
from sitecontrol.records import Deed, Desired, HistoryEntry, Role, Term
from sitecontrol.snapshot import Snapshot
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    WALL,
    at_denver,
    cluster,
    entry,
    leader,
    member,
    standby,
    sync,
)
from tests.unit.test_nodes import Bench, in_cluster
from tests.unit.test_sitectl_acts import answering, call
from tests.unit.test_sitectl_contract import ON_NODE
from tests.unit.test_trusting import see, stuck

UNSEEN = member(COLUMBUS, role=Role.STOPPED, received_lsn=0, replayed_lsn=0)
BOTH = {COLUMBUS: entry(member(COLUMBUS, role=Role.STOPPED), 11), DENVER: entry(member(DENVER), 22)}


def left(**change: Any) -> Facts:
    """At Denver, which is not in step: Columbus, which alone was complete, is gone."""
    values: dict[str, Any] = {
        "leader": None, "sync": entry(sync(COLUMBUS)), "members": {DENVER: entry(member(DENVER), 22)},
    }  # fmt: skip
    return at_denver(
        cluster=cluster(**(values | change)),
        pg=standby(upstream=False, canary_at=40.0, canary_written=WALL - timedelta(seconds=90)),
        leader_absent_since=50.0,
    )


def test_it_is_there_for_a_node_that_holds_still_because_it_may_lack_something():
    assert decide(Lane.POSTGRES, left()).rule == "barred"
    assert in_the_way_of_force(left(), [COLUMBUS]) == ()
    assert in_the_way_of_force(stuck(), [COLUMBUS]) == (), "nor does it matter why nobody leads"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (in_cluster(left(), leader=entry(leader(COLUMBUS), 11)), "columbus-a leads"),
        (replace(left(), etcd_heard_at=None), "denver-a does not reach etcd"),
        (replace(left(), pg=standby()), "whoever led still writes through to us"),
        (replace(left(), pg=standby(state=PgState.UNUSABLE)), "PostgreSQL of denver-a is unusable"),
        (replace(left(), pg=standby(system_id="8", canary_at=None)), "belongs to another cluster"),
        (left(term=None), "`initialize` or `term` is not known"),
        (left(members=BOTH), "columbus-a holds every acknowledged message, and leads by itself (claim: "),
        (left(sync=entry(sync(COLUMBUS, DENVER))), "denver-a holds every acknowledged message, and leads by itself"),
        (
            left(sync=entry(sync(DENVER, COLUMBUS)), members={COLUMBUS: entry(UNSEEN, 11)}),
            "columbus-a is in step, and what it holds is not known yet",
        ),
        (left(members={COLUMBUS: entry(member(COLUMBUS, role=Role.LEADER), 11)}), "columbus-a says that it serves"),
        (left(), "nothing proves that PostgreSQL of columbus-a is stopped, and nobody has said so"),
    ],
)  # fmt: skip
def test_it_is_refused(facts: Facts, why: str):
    said = [COLUMBUS] if "nobody has said so" not in why else [DENVER]
    assert why in "; ".join(in_the_way_of_force(facts, said))


def test_a_pause_makes_no_complete_node_count_as_gone():
    paused = entry(Desired(paused=True, paused_by="ann", paused_reason="storm"))
    said = "; ".join(
        in_the_way_of_force(left(members=BOTH, desired=paused, sync=entry(sync(DENVER, COLUMBUS))), [])
    )
    assert "columbus-a" in said


def test_who_may_have_led_last_is_asked_for_unless_its_own_word_shows_that_it_serves_nobody():
    assert unproved(left()) == (COLUMBUS,)
    assert "gave the lead up by itself" in str(
        proofs(left(term=entry(Term(term=3, released_by=COLUMBUS))))[COLUMBUS]
    )
    assert "says that it is stopped" in str(proofs(left(members=BOTH))[COLUMBUS])
    began = HistoryEntry(term=3, node="boston-a", site="boston", at=WALL, kind="failover", by="agent")
    assert unproved(left(history={"0000000003": entry(began)})) == ("boston-a", COLUMBUS)
    assert unproved(left(sync=entry(sync(DENVER)))) == ()
    assert unproved(left(sync=None)) == (COLUMBUS,), "nobody knows who led: each other node may have"


def test_what_is_known_of_the_loss_is_told():
    said = "\n".join(comes_of_force(left()))
    assert "denver-a (timeline 1, 0/3E8) counts as the only one that holds every acknowledged message" in said
    assert "says that columbus-a held everything: what they acknowledged, and denver-a lacks, is lost" in said
    assert (
        "has was written at 2025-12-31 23:58:30+00:00, by the clock of its writer: what was acknowledged"
        in said
    ), "and not when it was seen, 60 seconds ago"
    assert "columbus-a is not heard: acknowledged messages that it alone has are lost" in said
    assert "nothing proves that PostgreSQL of columbus-a is stopped: see to it, and say so (--stopped" in said
    never = replace(left(), pg=standby(upstream=False, canary_at=40.0))
    assert "when denver-a last heard of whoever led is not known" in "\n".join(comes_of_force(never))


# -- over the agent's API ------------------------------------------------------------------------------------------

ASKED = {"node": DENVER, "reason": "columbus burnt down", "by": "anna"}


def bench_left() -> Bench:
    bench = Bench(left())
    bench.log.delete("leader")
    bench.log.put("sync", sync(COLUMBUS, term=1).encode())
    see(bench, Snapshot())
    return bench


async def test_it_takes_a_reason_and_a_word_that_whoever_led_is_stopped_and_all_of_it_is_kept():
    bench = bench_left()
    assert (await bench.post("/failover", node=DENVER, stopped=[COLUMBUS]))[0] == 422
    status, dry = await bench.post("/failover", **ASKED, dry_run=True)
    assert (status, dry["would"], dry["unproved"], dry["obstacles"]) == (200, "failover", [COLUMBUS], [])
    status, refused = await bench.post("/failover", **ASKED)
    assert (status, "nobody has said so" in refused["detail"]) == (409, True)
    assert Deed.FORCED not in bench.told
    status, done = await bench.post("/failover", **ASKED, stopped=[COLUMBUS])
    assert (status, done["consequences"]) == (202, dry["consequences"])
    kept = bench.log.entries[-1]
    assert (kept["what"], kept["by"], kept["reason"]) == (Deed.FORCED, "anna", "columbus burnt down")
    assert kept["evidence"]["stopped columbus-a"] == "it is stopped, by the word of anna"
    [told] = [e.record for key, e in bench.log.snapshot.history.items() if "-forced-" in key]
    assert (told.kind, told.node, told.evidence) == ("forced", DENVER, kept["evidence"])
    assert bench.log.flaws == ()
    see(bench)
    assert bench.state.facts.cluster.bad == {}
    assert decide(Lane.POSTGRES, bench.state.facts).rule == "claim"
    again, refused = await bench.post("/failover", **ASKED, stopped=[COLUMBUS])
    assert (again, "leads by itself" in refused["detail"]) == (409, True)


@pytest.mark.parametrize("key", ["leader", "term", "sync", "swap"])
async def test_what_changed_meanwhile_is_not_written_over(key: str):
    bench = bench_left()
    bench.log.put(key, b"\x00another")
    status, told = await bench.post("/failover", **ASKED, stopped=[COLUMBUS])
    assert (status, "ask again" in told["detail"]) == (409, True)
    assert Deed.FORCED not in bench.told


async def test_it_needs_the_operators_token_and_the_nodes_own_agent():
    bench = bench_left()
    assert (await bench.post("/failover", headers={}, **ASKED, stopped=[COLUMBUS]))[0] == 401
    assert (await bench.post("/failover", **(ASKED | {"node": COLUMBUS}), stopped=[DENVER]))[0] == 422


# -- the command ---------------------------------------------------------------------------------------------------

FORCE = ("failover", "--force", "--to", DENVER, "--reason", "fire")
FOUND = ON_NODE | {"leader": None, "unproved": [COLUMBUS], "consequences": ["what it lacks is lost"]}


def forced(folder: Path, *words: str, typed: str = "") -> tuple[Any, list[Any]]:
    leads = (200, {"leader": DENVER, "sync": [], "retired": []})
    with answering(failover=(200, FOUND), cluster=leads, status=(200, {})) as agent:
        port = agent.server_port
        said = call(folder, *words, columbus=1, denver=port, typed=typed)
        return said, [
            body for path, body in agent.acts if path == "/failover" and body.get("dry_run") is not True
        ]


def test_the_statement_and_the_clusters_name_are_typed(tmp_path: Path):
    said, acts = forced(tmp_path, *FORCE, typed="columbus-a is stopped\nhotsite\n")
    assert said.exit_code == Exit.DONE, said.stderr
    assert "- what it lacks is lost" in said.stdout
    assert [act["stopped"] for act in acts] == [[COLUMBUS]]
    assert [line.split()[0] for line in said.stdout.splitlines() if line.startswith("  ")] == [
        "forced",
        "leads",
    ]


@pytest.mark.parametrize("typed", ["", "yes\nhotsite\n", "columbus-a is stopped\nyes\n", "hotsite\n"])
def test_anything_else_that_is_typed_changes_nothing(typed: str, tmp_path: Path):
    said, acts = forced(tmp_path, *FORCE, typed=typed)
    assert (said.exit_code, acts) == (Exit.REFUSED, [])
    assert "not confirmed; nothing was changed" in said.stderr


def test_yes_is_no_word_that_somebody_is_stopped(tmp_path: Path):
    said, acts = forced(tmp_path, *FORCE, "--yes")
    assert (said.exit_code, acts) == (Exit.REFUSED, [])
    assert "say so with --stopped columbus-a" in said.stderr
    said, acts = forced(tmp_path, *FORCE, "--yes", "--stopped", COLUMBUS)
    assert (said.exit_code, [act["stopped"] for act in acts]) == (Exit.DONE, [[COLUMBUS]])


def test_without_force_it_says_what_it_is(tmp_path: Path):
    said, acts = forced(tmp_path, "failover", "--to", DENVER, "--reason", "fire", "--yes")
    assert (said.exit_code, acts) == (Exit.USAGE, [])
    assert "takes the lead by itself" in said.stderr
