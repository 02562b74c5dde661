"""A leader whose PostgreSQL cannot be started, or does not come out of recovery: whether it gives the lead up, and when
nobody else may lead, what is told of the way out, and that this way is open.
"""

from dataclasses import replace
from typing import Any

import pytest

from sitecontrol.agent.state import AgentState
from sitecontrol.leadership.alone import CURE
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Claim, GiveUp, Promote, StartPrimary, StartStandby
from sitecontrol.leadership.facts import Facts, LeaseFacts, PgFacts, PgState
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.trusting import in_the_way_of_force
from sitecontrol.leadership.why import document
from sitecontrol.records import Role, Term
from tests.unit.decided import effect, rule
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    at_columbus,
    at_denver,
    cluster,
    entry,
    member,
    primary,
    standby,
    sync,
)

ALONE = cluster(sync=entry(sync(COLUMBUS)))
STUCK = standby(since=85.0, upstream=False, incarnation=primary().incarnation)


def down(**change: Any) -> PgFacts:
    return primary(state=PgState.STOPPED, open_term=None, down_since=99.8, **change)


def test_a_leader_whose_postgresql_ended_as_soon_as_it_was_started_gives_up_at_once():
    assert isinstance(effect(at_columbus(pg=down())), StartPrimary)
    failed = at_columbus(pg=down(failed_starts=1, start_failed_at=99.9), lead_since=50.0)
    assert effect(failed) == GiveUp(reason="PostgreSQL cannot be started")


def test_what_failed_before_it_led_does_not_keep_it_from_trying():
    """As when automatic swaps are paused, and it takes up again what it gave up."""
    failed = down(failed_starts=1, start_failed_at=99.9)
    assert isinstance(effect(at_columbus(pg=failed, lead_since=99.95)), StartPrimary)
    assert isinstance(effect(at_columbus(pg=failed, swap_ended_at=99.95)), StartPrimary)


@pytest.mark.parametrize(
    ("pg", "name", "does"),
    [
        (primary(state=PgState.STARTING, open_term=None, down_since=50.0), "recovering-alone", None),
        (down(failed_starts=2, start_failed_at=97.9), "starts-in-vain", StartPrimary()),
        (STUCK, "promotes-in-vain", Promote()),
        (
            standby(
                state=PgState.STOPPED, was_primary=False, failed_starts=2, incarnation=primary().incarnation
            ),
            "recovers-in-vain",
            StartStandby(leader=COLUMBUS),
        ),
    ],
)
def test_alone_it_keeps_the_lead_goes_on_trying_and_names_the_way_out(pg: PgFacts, name: str, does: object):
    """As after `narrow`: `sync` names nobody but the winner, whose PostgreSQL then does not come up."""
    facts = at_columbus(cluster=ALONE, pg=pg, lead_since=80.0)
    assert (rule(facts), effect(facts)) == (name, does)
    state = AgentState(prefix="/p/", facts=facts, version="1")
    state.decisions[Lane.POSTGRES] = decide(Lane.POSTGRES, facts)
    assert any(CURE in reason for reason in state.reasons)
    assert CURE in state.cluster()["decision"]["sentence"]


RESTS = ((1, 0.0), (2, 2.0), (3, 4.0), (4, 5.0), (9_999, 5.0))  # failures in a row -> seconds


@pytest.mark.parametrize(("failures", "rest"), RESTS[1:])
@pytest.mark.parametrize("was_primary", [True, False])
def test_alone_it_rests_between_starts_that_fail_but_never_for_long(
    failures: int, rest: float, *, was_primary: bool
):
    def after(ago: float) -> Facts:
        pg = down(was_primary=was_primary, failed_starts=failures, start_failed_at=100.0 - ago)
        return at_columbus(cluster=ALONE, pg=pg, lead_since=80.0)

    name = "starts-in-vain" if was_primary else "recovers-in-vain"
    assert {rule(after(ago)) for ago in (rest - 0.1, rest + 0.1)} == {name}, "with the way out, all the while"
    assert effect(after(rest - 0.1)) is None
    assert isinstance(effect(after(rest + 0.1)), StartPrimary if was_primary else StartStandby)


@pytest.mark.parametrize(("failures", "rest"), RESTS)
def test_who_is_started_only_to_see_what_it_holds_rests_in_the_same_way(failures: int, rest: float):
    def after(ago: float) -> Facts:
        pg = standby(state=PgState.STOPPED, failed_starts=failures, start_failed_at=100.0 - ago)
        return at_denver(cluster=cluster(leader=None), pg=pg, leader_absent_since=90.0)

    if rest:
        assert (rule(after(rest - 0.1)), effect(after(rest - 0.1))) == ("replay-to-know", None)
    assert (rule(after(rest + 0.1)), effect(after(rest + 0.1))) == (
        "replay-to-know",
        StartStandby(leader=DENVER),
    )


def test_a_rest_ends_as_soon_as_somebody_else_could_take_over():
    """What is held back is our own next start, and neither giving the lead up nor another's claim."""
    resting = down(failed_starts=4, start_failed_at=99.9)
    assert effect(at_columbus(cluster=ALONE, pg=resting, lead_since=50.0)) is None
    assert isinstance(effect(at_columbus(pg=resting, lead_since=50.0)), GiveUp)


# -- two of which neither can be started --------


def gave_up(failures: int = 1, ago: float = 0.5, **change: Any) -> Facts:
    """At Columbus: its PostgreSQL cannot be started. Denver, complete as well, took the lead and just gave it up."""
    picture = {"leader": None, "term": entry(Term(term=4, released_by=DENVER))}
    pg = down(failed_starts=failures, start_failed_at=100.0 - ago)
    return at_columbus(cluster=cluster(**(picture | change)), pg=pg, leader_absent_since=99.9)


def test_who_could_not_be_started_leaves_the_lead_to_another_who_is_complete_each_time_for_longer():
    found = {
        failures: [rule(gave_up(failures, ago)) for ago in (rest - 0.1, rest + 0.1)]
        for failures, rest in ((1, 2.0), (2, 4.0), (3, 8.0), (5, 32.0), (6, 60.0), (9_999, 60.0))
    }
    assert all(rules == ["rest-after-failed-start", "claim"] for rules in found.values()), found


def test_alone_it_takes_the_lead_at_once_and_tries_again():
    gone = {COLUMBUS: cluster().members[COLUMBUS]}
    assert isinstance(effect(gave_up(members=gone)), Claim), "the other is not heard any more"
    assert isinstance(effect(gave_up(sync=entry(sync(COLUMBUS)))), Claim), "the other holds not everything"


def test_who_has_failed_at_nothing_takes_the_lead_from_one_that_cannot_be_started_at_once():
    left = cluster(leader=None, term=entry(Term(term=3, released_by=COLUMBUS)))
    runs = at_denver(cluster=left, leader_absent_since=99.9)
    assert isinstance(effect(runs), Claim)
    assert isinstance(effect(replace(gave_up(), pg=down())), Claim), "nor does one rest that was only stopped"


def test_that_it_rests_is_told_with_the_way_out():
    facts = replace(gave_up(), etcd_members=dict.fromkeys(("columbus", "denver", "witness"), True))
    state = AgentState(prefix="/p/", facts=facts, version="1")
    state.decisions[Lane.POSTGRES] = decide(Lane.POSTGRES, facts)
    assert any("PostgreSQL's log tells why" in reason for reason in state.reasons)
    [told] = [node for node in document(facts)["site_lost"]["nodes"] if node["node"] == COLUMBUS]
    assert (told["rule"], told["could_lead"]) == ("rest-after-failed-start", False)
    assert "PostgreSQL's log tells why" in told["obstacles"][0]


def test_with_another_in_step_it_gives_the_lead_up_instead():
    assert effect(at_columbus(pg=STUCK, lead_since=80.0)) == GiveUp(reason="the promotion does not end")


def test_whoever_was_complete_before_it_narrowed_sync_may_not_lead_by_itself():
    """Perhaps the winner had opened."""
    assert rule(left_behind()) == "barred"


def test_when_the_winners_agent_is_stopped_a_person_may_give_the_lead_to_who_was_complete_before():
    assert any("nothing proves" in why for why in in_the_way_of_force(left_behind(), []))
    assert in_the_way_of_force(left_behind(), [COLUMBUS]) == ()


def left_behind() -> Facts:
    """At Denver, when the agent of Columbus was stopped, which had taken the lead and narrowed `sync`."""
    picture = cluster(
        leader=None,
        term=entry(Term(term=3)),
        sync=entry(sync(COLUMBUS)),
        members={DENVER: entry(member(DENVER, role=Role.STANDBY), 22)},
    )
    facts = at_denver(cluster=picture, pg=standby(upstream=False, canary_at=40.0), leader_absent_since=50.0)
    return replace(facts, lease=LeaseFacts(id=22, ends_at=101.8))
