"""Each invariant that one agent can see, broken; and what looks alike for a while, and is not."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from sitecontrol.agent.metrics import AgentCollector
from sitecontrol.agent.state import AgentState
from sitecontrol.cli.tables import status_lines
from sitecontrol.cli.why import why_lines
from sitecontrol.frozen import replace
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.invariants import CHECKED, CHECKS, SETTLES, SWAP_SETTLES, Broken, Doubts, look
from sitecontrol.records import Phase, Role, Term
from tests.simulation.faults import Fault, Kind
from tests.simulation.run import run
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    THEIR_LEASE,
    at_columbus,
    at_denver,
    cluster,
    entry,
    in_step,
    leader,
    member,
    primary,
    standby,
    swap,
    sync,
)
from tests.unit.test_mending import bad

AT_ONCE = 0.0


def looked(facts: Facts, seconds: float, *, every: float = 0.5) -> Doubts:
    """The doubts after looks at the same things for so long, with etcd heard at each."""
    doubts, at = Doubts(), 0.0
    while True:
        doubts = look(doubts, moved(facts, at))
        if at >= seconds:
            return doubts
        at = min(seconds, at + every)


def moved(facts: Facts, seconds: float) -> Facts:
    heard = None if facts.etcd_heard_at is None else facts.etcd_heard_at + seconds
    lease = replace(facts.lease, ends_at=facts.lease.ends_at + seconds)
    seen = replace(facts.cluster, read_at=facts.now + seconds)
    return replace(facts, now=facts.now + seconds, etcd_heard_at=heard, lease=lease, cluster=seen)


def both(columbus: dict[str, Any], denver: dict[str, Any]) -> dict[str, Any]:
    return {
        COLUMBUS: entry(member(COLUMBUS, **columbus), OUR_LEASE),
        DENVER: entry(member(DENVER, **denver), THEIR_LEASE),
    }


DENVER_LEADS = cluster(
    leader=entry(leader(DENVER, 4), THEIR_LEASE), term=entry(Term(term=4)), sync=entry(sync(DENVER, term=4))
)
TWO_LEAD = at_columbus(cluster=cluster(members=both({"role": Role.LEADER}, {"role": Role.LEADER})))
TERM_BACK = at_denver(pg=standby(row_term=7))
UNAWAITED = at_columbus(pg=primary(names=()))
OUT_OF_STEP = at_columbus(cluster=replace(DENVER_LEADS, sync=entry(sync(COLUMBUS))))
ELSEWHERE = at_columbus(cluster=cluster(members=both({"role": Role.LEADER}, {"timeline": 2})))
BEHIND = at_columbus(cluster=DENVER_LEADS)
ENDLESS = at_columbus(cluster=cluster(swap=entry(swap(Phase.HELD))), swap_phase_since=50.0)

SEEN = [
    (
        "two-lead",
        "one-writer",
        TWO_LEAD,
        AT_ONCE,
        "columbus-a and denver-a both say that they lead in term 3",
    ),
    (
        "term-went-back",
        "one-writer",
        TERM_BACK,
        SETTLES,
        "was opened in term 7, and the last one granted is 3",
    ),
    ("in-step-unawaited", "acked-survives", UNAWAITED, SETTLES, "commits do not wait for denver-a"),
    (
        "leads-out-of-step",
        "only-in-step-leads",
        OUT_OF_STEP,
        AT_ONCE,
        "`sync` of term 3 names only columbus-a",
    ),
    ("in-step-elsewhere", "only-in-step-leads", ELSEWHERE, SETTLES, "denver-a, which is on timeline 2"),
    (
        "open-behind-another",
        "no-stale-claim",
        BEHIND,
        SETTLES,
        "open in term 3, and denver-a leads in term 4",
    ),
    ("swap-goes-on", "swap-ends", ENDLESS, SWAP_SETTLES, "in phase held for longer than 5 s"),
]


def test_every_check_is_seen_to_fail_here():
    assert [name for name, *_ in SEEN] == [check.name for check in CHECKS]
    assert set(CHECKED) == {invariant for _, invariant, *_ in SEEN}


@pytest.mark.parametrize(
    ("name", "invariant", "facts", "after", "what"), SEEN, ids=[name for name, *_ in SEEN]
)
def test_it_is_told_once_it_lasts_longer_than_anything_can_be_behind(
    name: str, invariant: str, facts: Facts, after: float, what: str
):
    (broken,) = looked(facts, after).broken
    assert broken.invariant == invariant
    assert what in broken.what
    if after:
        assert looked(facts, after - 0.1).broken == ()


LASTING = [facts for _, _, facts, after, _ in SEEN if after]


@pytest.mark.parametrize("facts", LASTING)
def test_a_count_begins_anew_when_etcd_is_not_heard_and_when_the_agent_did_not_look(facts: Facts):
    """Then the picture may be as old as that lasted."""
    doubts = looked(facts, SWAP_SETTLES - 0.5)
    deaf = replace(moved(facts, SWAP_SETTLES), etcd_heard_at=None)
    assert look(doubts, deaf).broken == ()
    assert look(doubts, moved(facts, SWAP_SETTLES + 60.0)).broken == ()


@pytest.mark.parametrize("facts", LASTING)
def test_a_count_begins_anew_while_the_picture_stands_still(facts: Facts):
    """Its watch hangs, though etcd answers otherwise."""
    doubts, old = looked(facts, 0.5), moved(facts, 0.5).cluster
    for at in range(1, 60):
        doubts = look(doubts, replace(moved(facts, float(at)), cluster=old))
        assert doubts.broken == ()


def test_a_healthy_cluster_breaks_none():
    for facts in (at_columbus(), at_denver()):
        assert looked(facts, 60.0) == Doubts(looked_at=facts.now + 60.0)


@pytest.mark.parametrize(
    "facts",
    [
        at_columbus(cluster=cluster(members=both({"role": Role.LEADER}, {"role": Role.LEADER, "term": 4}))),
        replace(TERM_BACK, cluster=cluster(bad=bad("term"))),
        replace(TERM_BACK, cluster=cluster(term=None)),
        replace(UNAWAITED, pg=primary(names=(), open_term=None)),
        at_columbus(cluster=replace(DENVER_LEADS, sync=entry(sync(COLUMBUS, DENVER))), pg=standby()),
        replace(OUT_OF_STEP, cluster=replace(OUT_OF_STEP.cluster, bad=bad("sync")), pg=standby()),
        replace(ELSEWHERE, cluster=cluster(members=both({}, {"timeline": 2, "role": Role.STOPPED}))),
        replace(BEHIND, pg=primary(state=PgState.STOPPED, open_term=None)),
        replace(ENDLESS, cluster=cluster(swap=entry(swap(Phase.HELD)), leader=None)),
        replace(ENDLESS, swap_phase_since=99.0),
    ],
)
def test_what_may_look_alike_breaks_none(facts: Facts):
    assert look(Doubts(), facts).since == {}


def test_a_copy_of_the_data_directory_that_was_in_step_is_not_it():
    took = leader(DENVER, 4).model_copy(update={"incarnation": "restored"})
    snapshot = replace(DENVER_LEADS, leader=entry(took, THEIR_LEASE), sync=entry(sync(COLUMBUS, DENVER)))
    (broken,) = look(Doubts(), at_columbus(cluster=snapshot, pg=standby())).broken
    assert "denver-a (restored) leads in term 4" in broken.what
    assert in_step(DENVER).incarnation in broken.what


def test_nothing_is_told_before_etcd_was_read():
    assert look(Doubts(), replace(TWO_LEAD, cluster_read=False)).broken == ()


# -- where it is told ----------------------------------------------------------------------------------------------

TOLD = Broken(invariant="one-writer", what="both lead")


def shown(lines: Any) -> str:
    out = StringIO()
    Console(file=out, width=150).print(lines)
    return out.getvalue()


def test_a_broken_invariant_is_told_everywhere():
    state = AgentState(prefix="/p/", facts=at_columbus(), version="1", broken=(TOLD,))
    said = [{"invariant": "one-writer", "what": "both lead"}]
    assert state.status()["invariants_broken"] == said
    assert state.cluster()["invariants_broken"] == said
    assert state.why()["invariants_broken"] == said
    line = "invariant broken: one-writer: both lead"
    assert line in shown(status_lines(state.cluster()))
    assert line in shown(why_lines(state.why()))
    assert metric(state, "one-writer") == 1.0
    assert metric(state, "swap-ends") == 0.0


def metric(state: AgentState, invariant: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(AgentCollector(state))
    generate_latest(registry)
    return registry.get_sample_value("hotsite_invariant_broken", {"invariant": invariant})


# -- in the simulation, where each agent looks after every step ---------------------------------------------------


def blind(monkeypatch: pytest.MonkeyPatch, name: str, sees: Callable[[Facts], str | None]) -> None:
    checks = [replace(check, sees=sees, lasts=0.0) if check.name == name else check for check in CHECKS]
    monkeypatch.setattr("sitecontrol.leadership.invariants.CHECKS", checks)


def test_what_an_agent_says_is_broken_fails_the_simulation(monkeypatch: pytest.MonkeyPatch):
    blind(monkeypatch, "two-lead", lambda f: "the leader is lost" if f.leader is None else None)
    outcome = run(1, (Fault(5.0, 4.0, Kind.KILL_SITE, "columbus"),))
    assert outcome.violation is not None
    assert "sees that the leader is lost" in str(outcome.violation)
