"""If the live site died now: who would lead, how soon, what would be lost, and each thing that may stand in the way."""

from dataclasses import replace
from typing import Any

import pytest

from sitecontrol.agent.state import AgentState
from sitecontrol.cli.why import could_take_over, why_lines
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.remembered import KEPT, document, remember
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.why import headline, lost, node_loss, outlook, site_loss
from sitecontrol.records import Desired, Maintenance, Role
from sitecontrol.settings import FailoverSettings
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    SITE_OF,
    WALL,
    at_columbus,
    at_denver,
    cluster,
    dispatcher,
    entry,
    in_step,
    leader,
    member,
    standby,
    sync,
)
from tests.unit.test_sitectl_tables import shown

ALL_ANSWER = {"columbus": True, "denver": True, "witness": True}
WELL = {"etcd_members": ALL_ANSWER, "etcd_leader_place": "witness"}


def with_denver(**change: Any) -> Facts:
    """As Columbus knows it, with another word of Denver's."""
    told = {
        COLUMBUS: entry(member(COLUMBUS, role=Role.LEADER), 11),
        DENVER: entry(member(DENVER, **change), 22),
    }
    return at_columbus(cluster=cluster(members=told), **WELL)


def in_the_way(f: Facts) -> tuple[str, ...]:
    seen = outlook(f, site_loss(f))
    assert seen.would_lead == ()
    return seen.in_the_way


@pytest.mark.parametrize("facts", [at_columbus(**WELL), at_denver(**WELL)])
def test_all_being_well_the_other_site_would_lead_within_seconds_and_nothing_acknowledged_is_lost(
    facts: Facts,
):
    seen = outlook(facts, site_loss(facts))
    assert headline(seen) == "If columbus died now, denver-a would lead, in about 2.45 s, at most 4.65 s."
    assert seen.in_the_way == ()
    assert lost(facts, seen).startswith("Nothing that was acknowledged.")


def test_how_soon_follows_the_settings():
    slow = FailoverSettings(lease_ttl=10, canary_max_age=15.0)
    facts = at_columbus(settings=slow, **WELL)
    steps = {step.what: step.worst_s for step in outlook(facts, site_loss(facts)).steps}
    assert steps["the leader's lease runs out"] == 10.5
    assert steps["the leader's last canary grows old"] == 5.0


@pytest.mark.parametrize(("place", "first"), [("columbus", 1.5), (None, 0.0)])
def test_a_leader_of_etcd_in_the_lost_site_or_at_an_unknown_place_takes_longer(
    place: str | None, first: float
):
    facts = at_columbus(etcd_members=ALL_ANSWER, etcd_leader_place=place)
    step = outlook(facts, site_loss(facts)).steps[0]
    assert step.what.startswith("etcd elects")
    assert (step.typical_s, step.worst_s) == (first, 2.0)


# -- what is in the way


def test_without_a_standby_in_step_production_would_hold_until_the_leader_returns():
    facts = at_columbus(cluster=cluster(sync=entry(sync(COLUMBUS))), **WELL)
    assert in_the_way(facts) == ("denver-a is not in step: it might lack acknowledged messages",)
    assert "columbus-a. Production holds" in lost(facts, outlook(facts, site_loss(facts)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"incarnation": "another"}, "denver-a has another data directory than the one that is in step"),
        ({"timeline": 0}, "denver-a is on timeline 0, and what was acknowledged is on 1"),
        ({"received_lsn": 400, "replayed_lsn": 300}, "denver-a lacks 100 bytes of what was acknowledged"),
        (
            {"role": Role.STARTING, "received_lsn": 0, "replayed_lsn": 0},
            "PostgreSQL of denver-a is absent: what it holds is not known before it runs",
        ),
    ],
)
def test_each_thing_that_a_standby_lacks_is_named(change: dict[str, Any], told: str):
    assert in_the_way(with_denver(**change)) == (told,)


def test_what_a_standby_that_does_not_run_holds_is_not_guessed():
    facts = with_denver(role=Role.STOPPED)
    (prospect,) = [p for p in outlook(facts, site_loss(facts)).prospects if p.node == DENVER]
    assert (prospect.could_lead, prospect.rule) == (None, "replay-to-know")
    assert "is not known before it runs" in in_the_way(facts)[0]


def test_one_in_step_that_has_not_compared_its_history_in_this_term_would_lead_all_the_same():
    facts = with_denver(role=Role.STARTING)
    assert outlook(facts, site_loss(facts)).would_lead == (DENVER,)


def test_an_agent_that_is_not_heard_is_named():
    told = {COLUMBUS: entry(member(COLUMBUS, role=Role.LEADER), 11)}
    assert in_the_way(at_columbus(cluster=cluster(members=told), **WELL)) == (
        "the agent of denver-a is not heard",
    )


@pytest.mark.parametrize("facts", [at_columbus(**WELL), at_denver(**WELL)])
def test_a_pause_is_named_with_who_why_and_what_ends_it(facts: Facts):
    desired = entry(Desired(paused=True, paused_by="anna", paused_reason="storm"))
    paused = replace(facts, cluster=replace(facts.cluster, desired=desired))
    assert in_the_way(paused) == ("automatic swaps are paused by anna: storm (`sitectl resume`)",)


def test_a_witness_that_is_silent_already_leaves_no_majority_in_etcd():
    facts = at_columbus(etcd_members=ALL_ANSWER | {"witness": False}, etcd_leader_place="denver")
    assert in_the_way(facts) == (
        "etcd would have 1 of its 3 members, and needs 2 (silent to columbus-a: witness)",
    )
    assert outlook(facts, node_loss(facts)).would_lead == (DENVER,)  # its site's member of etcd stays


def test_an_agent_that_does_not_reach_etcd_says_so_and_guesses_nothing():
    facts = at_columbus(etcd_heard_at=90.0, **WELL)
    assert in_the_way(facts) == (f"etcd is not reached from {COLUMBUS}: nobody can take the lead without it",)
    assert [p.could_lead for p in outlook(facts, site_loss(facts)).prospects] == [False, None]


def test_a_standby_without_a_lease_of_its_own_cannot_take_the_lead():
    facts = at_denver(**WELL)
    assert in_the_way(replace(facts, lease=replace(facts.lease, id=0))) == ("denver-a has no lease in etcd",)


# -- what is not


def test_maintenance_and_what_is_behind_are_told_and_stop_no_failover():
    work = Maintenance(site="denver", since=WALL, until=WALL.replace(year=2027), by="bob", reason="disks")
    facts = with_denver(received_lsn=90_000_000, ready=False, reasons=("slow disk",))
    facts = replace(facts, cluster=replace(facts.cluster, desired=entry(Desired(maintenance=(work,)))))
    seen = outlook(facts, site_loss(facts))
    assert seen.would_lead == (DENVER,)
    notes = next(p.notes for p in seen.prospects if p.node == DENVER)
    assert notes[0] == "denver-a: slow disk"
    assert "bytes still to replay" in notes[1]
    assert "denver is in maintenance, by bob" in notes[2]


def test_texts_that_wait_for_a_carrier_in_the_lost_site_would_be_in_doubt():
    there = {"columbus-1": entry(dispatcher("columbus-1", "columbus", unanswered=7))}
    facts = at_columbus(cluster=cluster(dispatchers=there), **WELL)
    assert outlook(facts, site_loss(facts)).in_doubt == 7
    assert outlook(facts, node_loss(facts)).in_doubt == 0
    assert "7 texts wait" in lost(facts, outlook(facts, site_loss(facts)))


# -- other shapes


def test_a_standby_of_the_same_site_is_likelier_when_only_the_leader_is_lost_and_lost_with_the_site():
    near = "columbus-b"
    here = member(COLUMBUS, role=Role.STANDBY).model_copy(
        update={"node": near, "incarnation": f"disk-{near}"}
    )
    told = cluster().members | {near: entry(here, 33)}
    both = sync(COLUMBUS, DENVER).model_copy(update={"standbys": (in_step(DENVER), in_step(near))})
    facts = at_columbus(
        site_of=SITE_OF | {near: "columbus"}, cluster=cluster(members=told, sync=entry(both)), **WELL
    )
    assert outlook(facts, node_loss(facts)).would_lead == (near, DENVER)
    assert "unless denver-a is first" in headline(outlook(facts, node_loss(facts)))
    assert outlook(facts, site_loss(facts)).would_lead == (DENVER,)


def test_while_nobody_leads_it_is_told_who_could_take_the_lead_as_it_is():
    facts = at_denver(
        cluster=cluster(leader=None), pg=standby(canary_at=90.0), leader_absent_since=99.0, **WELL
    )
    seen = outlook(facts, site_loss(facts))
    assert seen.would_lead == (DENVER,)
    assert headline(seen).startswith("Nobody leads, and as it is now, denver-a would lead")


def test_the_answer_is_that_of_the_table_once_the_lease_has_run_out():
    """The very agent, two and a half seconds later: what it then decides is what was told."""
    before = at_denver(**WELL)
    later = replace(
        before,
        now=102.5,
        etcd_heard_at=102.5,
        leader_absent_since=102.0,
        lease=replace(before.lease, ends_at=104.0),
    )
    later = replace(later, cluster=replace(later.cluster, leader=None))
    for facts, changed in ((before, later), (before, replace(later, pg=standby(state=PgState.STOPPED)))):
        told = replace(facts, pg=changed.pg)
        (prospect,) = [p for p in outlook(told, site_loss(told)).prospects if p.node == DENVER]
        assert prospect.rule == decide(Lane.POSTGRES, changed).rule


# -- the last decisions


def test_decisions_are_remembered_with_their_evidence_and_repeated_ones_are_counted():
    facts = at_columbus()
    leads = decide(Lane.POSTGRES, facts)
    past = remember((), leads, facts, started=False)
    past = remember(past, leads, replace(facts, wall=WALL.replace(hour=1)), started=True)
    (told,) = document([past])
    assert (told["rule"], told["begun"], told["at"][11:13], told["last_at"][11:13]) == (
        "leads",
        1,
        "00",
        "01",
    )
    assert told["evidence"]["leader"] == "columbus-a (we), term 3"
    assert told["evidence"]["canary"] == "0.1 s old"


def test_no_more_than_the_last_decisions_of_a_lane_are_kept():
    rows = (at_columbus(), at_columbus(cluster=cluster(leader=entry(leader(DENVER), 22))))
    past: tuple[Any, ...] = ()
    for number in range(3 * KEPT):
        facts = rows[number % 2]
        past = remember(past, decide(Lane.POSTGRES, facts), facts, started=False)
    assert len(past) == KEPT
    assert past[-1].decision.rule == "superseded"


def test_a_lane_that_goes_to_and_fro_is_one_entry_for_each_row():
    """How far all have come is recorded every second: that pushes nothing else out of sight."""
    told = cluster(reached=None)
    behind = at_columbus(cluster=told, pg=replace(at_columbus().pg, whole_lsn=990))
    kept = at_columbus()
    past: tuple[Any, ...] = ()
    for _ in range(KEPT):
        past = remember(past, decide(Lane.REACHED, behind), behind, started=True)
        past = remember(past, decide(Lane.REACHED, kept), kept, started=False)
    assert [(entry.decision.rule, entry.begun) for entry in past] == [
        ("record-reached", KEPT),
        ("recorded", 0),
    ]


# -- for people


@pytest.mark.parametrize("site", [None, "columbus", "denver"])
def test_the_answer_fits_in_80_columns(site: str | None):
    facts = at_columbus(**WELL)
    state = AgentState(prefix="/p/", facts=facts, version="1")
    state.past[Lane.POSTGRES] = remember((), decide(Lane.POSTGRES, facts), facts, started=False)
    lines = shown(why_lines(state.why(), site=site))
    assert any("claim" in line for line in lines)
    assert any("postgres: leads" in line for line in lines)
    assert could_take_over(state.why(), site)


def test_what_stands_in_the_way_of_a_site_is_told_for_a_loss_and_for_a_swap():
    facts = at_columbus(cluster=cluster(sync=entry(sync(COLUMBUS))), **WELL)
    told = AgentState(prefix="/p/", facts=facts, version="1").why()
    text = " ".join(shown(why_lines(told, site="denver")))
    assert "When columbus is lost, denver could not take over." in text
    assert "By a planned swap to denver-a: denver-a is not in step" in text
    assert not could_take_over(told, "denver")
