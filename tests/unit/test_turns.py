"""Several complete standbys, and nobody leads: one runs first, and the others when it does not."""

import itertools
from dataclasses import replace

import pytest

from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Claim, StartStandby
from sitecontrol.leadership.facts import Facts, LeaseFacts, PgState
from sitecontrol.leadership.swapping import obstacles
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.turns import TURN, before_us, target_in
from sitecontrol.leadership.why import headline, node_loss, outlook, site_loss
from sitecontrol.records import Role, Term
from tests.unit.leadership_facts import COLUMBUS, DENVER, dispatcher, entry, leader, standby, sync
from tests.unit.several_nodes import FAR, LEASES, NEAR, at_leader, four, serving, told, without_leader


def rule(facts: Facts, lane: Lane = Lane.POSTGRES) -> str:
    return decide(lane, facts).rule


def claims(facts: Facts) -> bool:
    return isinstance(decide(Lane.POSTGRES, facts).effect, Claim)


def heard(facts: Facts, *nodes: str, **change: object) -> Facts:
    """Only the records of these, each with `change`."""
    members = {node: told(node, **change) for node in nodes}
    return replace(facts, cluster=replace(facts.cluster, members=members))


# -- whose turn


def test_of_three_complete_standbys_the_one_in_the_lost_leaders_site_runs_and_the_others_wait():
    assert {node: rule(without_leader(node)) for node in (NEAR, DENVER, FAR)} == {
        NEAR: "claim",
        DENVER: "await-turn",
        FAR: "await-turn",
    }


def test_the_next_ones_run_one_after_the_other_when_the_first_does_not():
    second, third = TURN + 0.01, 2 * TURN + 0.01
    assert claims(without_leader(DENVER, absent_for=second))
    assert not claims(without_leader(FAR, absent_for=second))
    assert claims(without_leader(FAR, absent_for=third))


def test_one_whose_record_is_gone_is_not_waited_for():
    assert claims(heard(without_leader(DENVER), DENVER, FAR))


def test_within_a_site_whoever_has_received_more_comes_first_and_then_the_name():
    ahead = heard(without_leader(DENVER, lsn=1_000), FAR, received_lsn=1_001)
    assert before_us(ahead) == (FAR,)
    alike = heard(without_leader(FAR), DENVER)
    assert before_us(alike) == (DENVER,)
    assert before_us(heard(without_leader(DENVER), FAR)) == ()


def test_the_site_counts_for_more_than_what_was_received():
    assert claims(heard(without_leader(NEAR), DENVER, received_lsn=9_000))


def test_one_that_has_much_to_replay_comes_after_the_others():
    behind = standby(incarnation=f"disk-{NEAR}", received_lsn=50_000_000, replayed_lsn=1_000, canary_at=97.0)
    assert before_us(without_leader(NEAR, pg=behind)) == (DENVER, FAR)


@pytest.mark.parametrize(
    "change",
    [
        {"role": Role.STOPPED},
        {"incarnation": "another"},
        {"timeline": 0},
        {"received_lsn": 499},
    ],
    ids=["it does not run", "another data directory", "an older timeline", "it lacks acknowledged messages"],
)
def test_nobody_waits_for_one_that_could_not_lead(change: dict[str, object]):
    assert claims(heard(without_leader(DENVER), NEAR, **change))


def test_whoever_gave_the_lead_up_is_not_waited_for():
    facts = without_leader(DENVER)
    released = replace(
        facts.cluster, sync=entry(sync(FAR, NEAR, DENVER)), term=entry(Term(term=3, released_by=NEAR))
    )
    assert claims(heard(replace(facts, cluster=released), NEAR))


def test_the_recorded_leader_waits_for_nobody():
    facts = without_leader(DENVER)
    assert claims(replace(facts, cluster=replace(facts.cluster, sync=entry(sync(DENVER, NEAR, FAR)))))


def test_a_turn_begins_when_the_canary_by_which_all_are_held_back_has_grown_old():
    def at_ten(canary_at: float) -> Facts:
        pg = standby(incarnation=f"disk-{DENVER}", canary_at=canary_at)
        return without_leader(DENVER, absent_for=5.0, pg=pg)

    assert rule(at_ten(99.9)) == "canary-holds-back"
    assert rule(at_ten(98.9)) == "await-turn"
    assert rule(at_ten(97.9)) == "claim"


def test_whatever_the_three_hold_exactly_one_runs_at_once_and_all_within_three_turns():
    """Each knows itself at first hand, and the others by records that may be older."""
    others = (NEAR, DENVER, FAR)
    for have, records in itertools.product(
        itertools.product((600, 601), repeat=3), itertools.product((600, 601), repeat=3)
    ):
        known = {
            n: told(n, received_lsn=min(r, h), replayed_lsn=min(r, h))
            for n, r, h in zip(others, records, have, strict=True)
        }
        at = [
            replace(f, cluster=replace(f.cluster, members=known))
            for f in (without_leader(n, lsn=h) for n, h in zip(others, have, strict=True))
        ]
        assert sum(map(claims, at)) >= 1
        assert claims(at[0])
        assert all(claims(replace(f, leader_absent_since=100.0 - 2 * TURN - 0.01)) for f in at)
        if have == records:
            assert sum(map(claims, at)) == 1


# -- whom a third node follows


def test_a_third_node_in_step_takes_nothing_from_a_new_leader_that_has_yet_to_narrow():
    """Were that one lost before it opens, we might have to lead, and its timeline would be nobody's history."""
    won = four(leader=entry(leader(DENVER, 4), LEASES[DENVER]), term=entry(Term(term=4)))
    facts = without_leader(NEAR, cluster=won)
    assert rule(facts) == "await-narrow"
    stopped = replace(facts, pg=replace(facts.pg, state=PgState.STOPPED))
    assert rule(stopped) == "await-leader"
    narrowed = replace(facts, cluster=replace(won, sync=entry(sync(DENVER, term=4))))
    assert decide(Lane.POSTGRES, narrowed).effect == StartStandby(leader=DENVER)
    assert decide(Lane.POSTGRES, replace(stopped, cluster=narrowed.cluster)).effect == StartStandby(
        leader=DENVER
    )


# -- the target of a swap


def test_a_swap_to_a_site_goes_to_the_node_in_step_that_has_replayed_most():
    ahead = {FAR: told(FAR, replayed_lsn=90_000_000, received_lsn=90_000_000)}
    assert target_in(at_leader(), "denver") == DENVER
    assert target_in(at_leader(cluster=four(members=ahead)), "denver") == FAR
    assert target_in(at_leader(NEAR, FAR), "denver") == FAR
    assert target_in(at_leader(NEAR, DENVER, cluster=four(NEAR, DENVER, members=ahead)), "denver") == DENVER


def test_a_swap_to_the_live_site_is_one_to_the_leader_and_one_to_no_site_is_none():
    assert target_in(at_leader(), "columbus") == COLUMBUS
    assert obstacles(at_leader(), COLUMBUS) == (f"{COLUMBUS} leads already",)
    assert target_in(at_leader(), "boston") is None


def test_a_swap_within_a_site_goes_to_the_node_that_is_named():
    ready = {"columbus-1": entry(dispatcher("columbus-1", "columbus"))}
    assert obstacles(at_leader(cluster=four(dispatchers=ready)), NEAR) == ()


# -- what people are told


def test_who_would_lead_is_told_in_the_order_of_their_turns():
    facts = at_leader(etcd_members=dict.fromkeys(("columbus", "denver", "witness"), True))
    assert outlook(facts, node_loss(facts)).would_lead == (NEAR, DENVER, FAR)
    assert outlook(facts, site_loss(facts)).would_lead == (DENVER, FAR)
    ahead = four(members={FAR: told(FAR, received_lsn=2_000, replayed_lsn=2_000)})
    assert outlook(replace(facts, cluster=ahead), site_loss(facts)).would_lead == (FAR, DENVER)
    assert f"{NEAR} would lead (unless {DENVER} or {FAR} is first)" in headline(
        outlook(facts, node_loss(facts))
    )


def test_a_lost_sites_other_nodes_may_be_waited_for_a_moment():
    """Their records end with leases of their own, which may last longer than the leader's."""
    facts = at_leader()
    worst = {step.what: step.worst_s for step in outlook(facts, site_loss(facts)).steps}
    (waited,) = (seconds for what, seconds in worst.items() if "whose turn comes first" in what)
    assert waited == TURN
    assert "whose turn comes first" not in str(outlook(facts, node_loss(facts)).steps)
    far_only = at_leader(DENVER, FAR)
    assert "whose turn comes first" not in str(outlook(far_only, site_loss(far_only)).steps)


def test_the_leaders_own_agent_and_that_of_a_standby_tell_the_same_order():
    seen = outlook(at_leader(), node_loss(at_leader())).would_lead
    there = replace(
        at_leader(),
        node=FAR,
        site="denver",
        lease=LeaseFacts(id=LEASES[FAR], ends_at=101.8),
        pg=standby(incarnation=f"disk-{FAR}"),
    )
    assert outlook(there, node_loss(there)).would_lead == seen


def test_the_names_that_commits_wait_for_are_two_site_only_with_one_of_another_site():
    assert decide(Lane.STEP, at_leader(NEAR, pg=serving(NEAR))).rule != "show-remote"
    told_wrong = serving(NEAR, remote_in_step=(DENVER,))
    assert rule(at_leader(NEAR, pg=told_wrong), Lane.STEP) == "show-remote"
