"""Records that etcd has lost: who holds everything by what the nodes tell, what is refused, and what is written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sitecontrol.agent.state import AgentState
from sitecontrol.cli.session import Exit
from sitecontrol.leadership.adopting import Node, Word, adoption
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Claim, Reclaim
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Deed, Initialize
from sitecontrol.snapshot import Bad, Snapshot
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    at_columbus,
    at_denver,
    entry,
    leader,
    primary,
    standby,
)
from tests.unit.test_nodes import Bench, in_cluster
from tests.unit.test_sitectl_acts import answering, call
from tests.unit.test_sitectl_contract import ADOPTED
from tests.unit.test_trusting import see

NEWER = {"sync": Bad(why="", mod_revision=3, lease=0, newer=True)}
EMPTY = Snapshot(serial=1, revision=3, read_at=100.0)
ANEW = at_denver(cluster=EMPTY, leader_absent_since=50.0)


def status(facts: Facts) -> dict[str, Any]:
    return AgentState(prefix="/", facts=replace(facts, cluster=EMPTY), version="1").status()


def node(name: str, **change: Any) -> Node:
    """Runs as a standby that receives from nobody, as most do when etcd is gone; None: it is not heard."""
    there = (
        at_columbus(pg=standby(upstream=False, incarnation=f"disk-{COLUMBUS}"))
        if name == COLUMBUS
        else at_denver()
    )
    told = status(replace(there, pg=replace(there.pg, **({"upstream": False} | change))))
    return Node(node=name, site=name.removesuffix("-a"), told=told, canary_max_age=1.0)


def silent(name: str) -> Node:
    return Node(node=name, site=name.removesuffix("-a"), told=None, canary_max_age=1.0)


def serving(**change: Any) -> Node:
    told = status(at_columbus(pg=primary(**change)))
    return Node(node=COLUMBUS, site="columbus", told=told, canary_max_age=1.0)


def by(*nodes: Node, facts: Facts = ANEW, word: Word = Word()) -> tuple[str | None, int | None, str]:  # noqa: B008 # frozen
    """Who would lead, in which term, and what is in the way."""
    found = adoption(facts, nodes, word)
    written = found.term.term if found.term else None
    assert (found.sync is None) is (found.term is None) is (found.initialize is None) is bool(found.obstacles)
    return found.node.node if found.node else None, written, "; ".join(found.obstacles)


def test_whoever_serves_holds_everything_and_goes_on_in_its_term():
    for other in (node(DENVER, received_lsn=9_000), silent(DENVER), node(DENVER, timeline=2)):
        assert by(serving(), other) == (COLUMBUS, 3, "")


def test_one_that_is_open_and_whose_commits_wait_may_have_been_overtaken():
    waits = serving(canary_at=90.0)
    assert "denver-a is not heard, and may hold more" in by(waits, silent(DENVER))[2]
    assert by(waits, node(DENVER, row_term=4, timeline=2))[0] == DENVER


def test_whoever_does_not_serve_begins_a_timeline_of_its_own_for_others_may_hold_more_of_the_one_that_it_is_on():
    serves = adoption(ANEW, (serving(), silent(DENVER)), Word())
    closed = adoption(ANEW, (node(COLUMBUS, timeline=4), silent(DENVER)), Word(node=COLUMBUS, gone=(DENVER,)))
    assert (serves.sync is not None, serves.sync and serves.sync.opens_above) == (True, None)
    assert (closed.sync is not None, closed.sync and closed.sync.opens_above) == (True, 4)


def of_an_earlier_version(there: Node) -> Node:
    """Its agent tells of no format: it would miss that a timeline of its own is to begin."""
    told = {name: value for name, value in (there.told or {}).items() if name != "writes_format"}
    return replace(there, told=told)


def test_whoever_is_to_begin_a_timeline_of_its_own_has_an_agent_that_knows_how():
    older = of_an_earlier_version(node(COLUMBUS, received_lsn=1_001))
    assert "the agent of columbus-a is of an earlier version" in by(older, node(DENVER))[2]
    assert by(older, node(DENVER), word=Word(node=DENVER)) == (DENVER, 103, "")
    assert by(node(COLUMBUS, received_lsn=1_001), of_an_earlier_version(node(DENVER))) == (COLUMBUS, 103, "")
    assert by(of_an_earlier_version(serving()), node(DENVER)) == (COLUMBUS, 3, ""), "it goes on as it is"


def test_on_one_timeline_it_is_whoever_wrote_it_or_of_those_that_run_whoever_received_most():
    assert by(node(COLUMBUS, received_lsn=1_001), node(DENVER)) == (COLUMBUS, 103, "")
    assert by(node(COLUMBUS), node(DENVER, received_lsn=1_001)) == (DENVER, 103, "")
    stopped = {"state": PgState.STOPPED, "received_lsn": 500, "replayed_lsn": 400}
    assert by(node(COLUMBUS, was_primary=True, **stopped), node(DENVER))[0] == COLUMBUS
    assert "cannot be decided" in by(node(COLUMBUS, **stopped), node(DENVER))[2], "it has at least that"
    both = {"state": PgState.STOPPED, "was_primary": True}
    assert "cannot be decided" in by(node(COLUMBUS, **both), node(DENVER, **both))[2]


def test_on_several_timelines_the_row_decides_and_where_it_does_not_a_person_does():
    assert by(node(COLUMBUS, timeline=3, row_term=5), node(DENVER, timeline=2, row_term=6))[:2] == (
        DENVER,
        106,
    )
    alike = (node(COLUMBUS, timeline=2), node(DENVER, timeline=1))
    assert "cannot be decided (columbus-a timeline 2, row of term 3, denver-a timeline 1" in by(*alike)[2]
    unread = (node(COLUMBUS, timeline=2, row_term=None), node(DENVER))
    assert "columbus-a timeline 2, its row cannot be read" in by(*unread)[2]
    assert by(*unread, word=Word(node=DENVER)) == (DENVER, 103, "")


def test_a_term_is_never_guessed():
    stopped = {"state": PgState.STOPPED, "row_term": None, "was_primary": True}
    alone = (node(COLUMBUS, **stopped), silent(DENVER))
    gone = Word(gone=(DENVER,))
    assert "say which one no other was after (--term)" in by(*alone, word=gone)[2]
    assert by(*alone, word=replace(gone, term=7)) == (COLUMBUS, 7, "")
    assert by(node(COLUMBUS, row_term=9), silent(DENVER), word=replace(gone, term=7))[1] == 9
    kept = replace(ANEW, cluster=replace(at_denver().cluster, leader=None, sync=None))
    assert by(node(COLUMBUS, **stopped), silent(DENVER), facts=kept, word=gone)[1] == 3, "etcd still has it"


@pytest.mark.parametrize(
    ("nodes", "facts", "word", "why"),
    [
        ((silent(COLUMBUS), node(DENVER)), ANEW, Word(), "columbus-a is not heard, and may hold more"),
        ((node(COLUMBUS), node(DENVER)), ANEW, Word(gone=(COLUMBUS,)), "columbus-a is heard: it is not gone"),
        ((node(COLUMBUS, system_id="8"), node(DENVER)), ANEW, Word(), "columbus-a 8, denver-a 7"),
        ((node(COLUMBUS, system_id=None), node(DENVER)), ANEW, Word(), "columbus-a unknown, denver-a 7"),
        ((silent(COLUMBUS), silent(DENVER)), ANEW, Word(), "no node that is heard has data"),
        (
            (node(COLUMBUS, unfinished=True), silent(DENVER)),
            ANEW,
            Word(gone=(DENVER,)),
            "no node that is heard has",
        ),
        (
            (node(COLUMBUS), node(DENVER, upstream=True)),
            ANEW,
            Word(),
            "denver-a receives from somebody who serves",
        ),
        ((serving(), node(DENVER)), ANEW, Word(node=DENVER), "columbus-a serves, so it holds everything"),
        (
            (node(COLUMBUS), silent(DENVER)),
            ANEW,
            Word(node=DENVER, gone=(DENVER,)),
            "denver-a is not heard, or has",
        ),
        (
            (serving(), node(DENVER)),
            replace(ANEW, etcd_heard_at=None),
            Word(),
            "denver-a does not reach etcd",
        ),
        ((serving(), node(DENVER)), at_denver(), Word(), "columbus-a leads, and writes the records itself"),
        (
            (serving(), node(DENVER)),
            in_cluster(at_denver(), leader=None),
            Word(),
            "there is nothing to adopt",
        ),
        (
            (serving(), node(DENVER)),
            replace(
                in_cluster(ANEW, bad={"sync": Bad(why="", mod_revision=3, lease=0, newer=True)}),
                later_version_at=100.0,
            ),
            Word(),
            "a later version of this program wrote `sync`",
        ),
        (
            (serving(), node(DENVER)),
            in_cluster(ANEW, initialize=entry(Initialize(system_id="0"), lease=5)),
            Word(),
            "a first start is under way",
        ),
    ],
)
def test_it_is_refused(nodes: tuple[Node, ...], facts: Facts, word: Word, why: str):
    assert why in by(*nodes, facts=facts, word=word)[2]


def test_two_that_serve_are_told():
    other = status(at_denver(pg=replace(primary(), incarnation="disk-denver-a")))
    both = (serving(), Node(node=DENVER, site="denver", told=other, canary_max_age=1.0))
    assert "columbus-a and denver-a both serve" in by(*both)[2]


def test_another_clusters_data_counts_for_nothing_when_etcd_knows_ours():
    known = in_cluster(ANEW, initialize=entry(Initialize(system_id="7")))
    assert by(node(COLUMBUS, system_id="8", received_lsn=9_000), node(DENVER), facts=known) == (
        DENVER,
        103,
        "",
    )


def test_what_comes_of_it_is_told():
    found = adoption(ANEW, (node(COLUMBUS, received_lsn=1_001), node(DENVER)), Word())
    said = "\n".join(found.comes)
    assert "columbus-a (timeline 1, 0/3E9) counts as the only one that holds everything" in said
    assert "takes the lead in term 104" in said
    assert "denver-a has no more than columbus-a, and follows" in said
    gone = adoption(ANEW, (silent(COLUMBUS), node(DENVER)), Word(gone=(COLUMBUS,)))
    assert "columbus-a is not heard: acknowledged messages that it alone has are lost" in gone.comes


# -- over the agent's API ------------------------------------------------------------------------------------------


def bench(facts: Facts, others: dict[str, dict[str, Any] | None]) -> Bench:
    """An etcd with nothing in it but what stands there since."""
    made = Bench(facts)
    for kv in made.log.kvs:
        made.log.delete(kv.key.removeprefix("/hotsite/test/"))

    async def ask_others() -> dict[str, dict[str, Any] | None]:
        return others

    made.state.ask_others = ask_others
    see(made, Snapshot())
    return made


async def test_the_records_are_written_and_whoever_serves_takes_its_term_up_again():
    made = bench(at_columbus(leader_absent_since=50.0), {DENVER: status(at_denver())})
    assert decide(Lane.POSTGRES, made.state.facts).rule == "data-without-records"
    status_, dry = await made.post("/cluster/adopt", reason="etcd lost", dry_run=True)
    assert (status_, dry["would"], dry["leader"], dry["term"]) == (200, "adopt", COLUMBUS, 3)
    assert made.log.snapshot.initialize is None
    assert (await made.post("/cluster/adopt"))[0] == 422, "a reason"
    status_, done = await made.post("/cluster/adopt", reason="etcd lost", by="anna")
    assert (status_, done["writes"]) == (202, dry["writes"])
    assert made.told == [Deed.ADOPTED]
    assert "system_id 7" in made.log.entries[-1]["evidence"]["columbus-a told"]
    assert made.log.flaws == ()
    see(made)
    assert made.state.facts.cluster.bad == {}
    assert isinstance(decide(Lane.POSTGRES, made.state.facts).effect, Reclaim)
    assert (await made.post("/cluster/adopt", reason="again"))[0] == 409


async def test_while_nobody_serves_whoever_holds_everything_takes_the_next_term():
    alone = at_denver(pg=standby(upstream=False, canary_at=40.0), leader_absent_since=50.0)
    made = bench(alone, {COLUMBUS: None})
    refused, told = await made.post("/cluster/adopt", reason="etcd lost")
    assert (refused, told["nodes"][0]["reached"]) == (409, False)
    assert (await made.post("/cluster/adopt", reason="etcd lost", gone=["boston-a"]))[0] == 422
    assert (await made.post("/cluster/adopt", reason="etcd lost", gone=[COLUMBUS]))[0] == 202
    see(made)
    assert made.state.facts.cluster.bad == {}
    assert isinstance(decide(Lane.POSTGRES, made.state.facts).effect, Claim)
    assert made.state.facts.term == 103


@pytest.mark.parametrize("key", ["initialize", "leader", "term", "sync", "swap"])
async def test_what_changed_meanwhile_is_not_written_over(key: str):
    made = bench(at_columbus(leader_absent_since=50.0), {DENVER: None})
    made.log.put(key, leader(COLUMBUS).encode())
    status_, told = await made.post("/cluster/adopt", reason="etcd lost")
    assert (status_, "ask again" in told["detail"]) == (409, True)
    assert made.told == []


async def test_it_needs_the_operators_token():
    made = bench(at_columbus(lease=replace(at_columbus().lease, id=OUR_LEASE)), {})
    assert (await made.post("/cluster/adopt", headers={}, reason="x"))[0] == 401


# -- the command ---------------------------------------------------------------------------------------------------


def adopted(
    folder: Path, *words: str, typed: str, answer: tuple[int, dict[str, Any]]
) -> tuple[Any, list[Any]]:
    leads = (200, {"leader": "denver-a"})
    with answering(**{"cluster/adopt": answer, "cluster": leads}) as agent:
        port = agent.server_port
        said = call(folder, "cluster", "adopt", "--reason", "x", *words, columbus=1, denver=port, typed=typed)
        return said, [body for _, body in agent.acts if not body["dry_run"]]


def test_the_clusters_name_is_typed_and_the_nodes_and_the_records_are_shown(tmp_path: Path):
    said, acts = adopted(tmp_path, "--gone", COLUMBUS, typed="hotsite\n", answer=(200, ADOPTED))
    assert said.exit_code == Exit.DONE, said.stderr
    assert [act["gone"] for act in acts] == [[COLUMBUS]]
    assert "initialize: system_id 7" in said.stdout
    assert "0/3E8" in said.stdout
    said, acts = adopted(tmp_path, typed="denver-a\n", answer=(200, ADOPTED))
    assert (said.exit_code, acts) == (Exit.REFUSED, [])


def test_a_refusal_shows_what_the_nodes_told(tmp_path: Path):
    refused = ADOPTED | {
        "title": "The adoption is refused",
        "detail": "they differ",
        "obstacles": ["they differ"],
    }
    said, acts = adopted(tmp_path, "--yes", typed="", answer=(409, refused))
    assert (said.exit_code, acts) == (Exit.REFUSED, [])
    assert "0/3E8" in said.stdout
    assert "they differ" in said.stderr


def test_one_that_receives_from_a_primary_which_is_heard_and_closed_is_in_nobodys_way():
    """As after a fence: it was started again, nobody was let in, and the standby came back to it."""
    closed = serving(open_term=None)
    assert by(closed, node(DENVER, upstream=True, follows=COLUMBUS)) == (COLUMBUS, 103, "")
    assert (
        "denver-a receives from somebody"
        in by(silent(COLUMBUS), node(DENVER, upstream=True, follows=COLUMBUS))[2]
    )
