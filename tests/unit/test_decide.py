"""The table of decisions, one fact a test: leading and electing."""

from dataclasses import replace

import pytest

from sitecontrol.leadership.effects import (
    Claim,
    Clone,
    Fence,
    GiveUp,
    Leave,
    Narrow,
    Open,
    Promote,
    Reclaim,
    Rewind,
    ShutDownForSwap,
    StartPrimary,
    StartStandby,
)
from sitecontrol.leadership.facts import LeaseFacts, PgState
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Desired, Phase, Term
from sitecontrol.view import Snapshot
from tests.unit.decided import NO_ETCD, NOBODY_LEADS, effect, rule, swapping
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    THEIR_LEASE,
    at_columbus,
    at_denver,
    cluster,
    dispatcher,
    entry,
    leader,
    primary,
    standby,
    swap,
    sync,
)

# -- leading ---------------------------------------------------------------------------------------------------


def test_a_healthy_leader_holds_still():
    assert rule(at_columbus()) == "leads"


def test_a_leader_without_etcd_goes_on_while_its_canary_commits():
    assert effect(at_columbus(**NO_ETCD, pg=primary(canary_at=99.5))) is None


def test_a_leader_that_loses_etcd_and_canary_together_fences():
    gone = {"etcd_heard_at": 97.0, "lease": LeaseFacts(id=OUR_LEASE, ends_at=98.9)}
    assert isinstance(effect(at_columbus(**gone, pg=primary(canary_at=97.1))), Fence)


@pytest.mark.parametrize("state", [PgState.PRIMARY, PgState.MUTE])
def test_a_leader_that_serves_by_its_canary_waits_for_a_late_one_and_ends_nothing(state):
    """A second of a busy disk must not become an outage until etcd returns."""
    facts = at_columbus(**NO_ETCD, pg=primary(state=state, canary_at=95.0, since=98.0))
    assert rule(facts) == "canary-late"
    assert effect(facts) is None


def test_a_postgres_that_hangs_while_etcd_is_silent_is_ended_all_the_same():
    facts = at_columbus(**NO_ETCD, pg=primary(state=PgState.MUTE, canary_at=95.0, since=95.0))
    assert isinstance(effect(facts), Fence)


def test_a_leader_with_a_late_canary_obeys_etcd_as_soon_as_it_speaks():
    other = cluster(leader=entry(leader(DENVER, 4), THEIR_LEASE), term=entry(Term(term=4)))
    facts = at_columbus(lease=LeaseFacts(), cluster=other, pg=primary(canary_at=95.0))
    assert rule(facts) == "superseded"


def test_an_open_primary_fences_even_if_it_never_saw_etcd_since_its_agent_started():
    facts = at_columbus(**NO_ETCD, cluster_read=False, cluster=Snapshot(), pg=primary(canary_at=90.0))
    assert isinstance(effect(facts), Fence)


def test_an_agent_that_has_not_read_etcd_leaves_a_serving_postgres_alone():
    facts = at_columbus(cluster_read=False, cluster=Snapshot(), etcd_heard_at=None)
    assert rule(facts) == "etcd-unread"


def test_a_primary_that_sees_another_leader_fences():
    facts = at_columbus(
        cluster=cluster(leader=entry(leader(DENVER, 4), THEIR_LEASE), term=entry(Term(term=4)))
    )
    assert isinstance(effect(facts), Fence)


def test_leadership_is_the_lease_and_not_the_name():
    facts = at_columbus(cluster=cluster(leader=entry(leader(COLUMBUS), 99)))
    assert not facts.lead
    assert rule(facts) == "own-old-lease"


def test_a_crashed_leader_is_restarted_in_place_at_first():
    assert isinstance(effect(at_columbus(pg=primary(state=PgState.STOPPED, down_since=99.8))), StartPrimary)


def test_a_leader_that_does_not_come_back_in_time_gives_the_lead_up():
    assert isinstance(effect(at_columbus(pg=primary(state=PgState.STOPPED, down_since=98.0))), GiveUp)


def test_a_lead_is_never_given_up_when_nobody_else_is_in_step():
    alone = cluster(sync=entry(sync(COLUMBUS)))
    facts = at_columbus(cluster=alone, pg=primary(state=PgState.STOPPED, down_since=50.0))
    assert isinstance(effect(facts), StartPrimary)


@pytest.mark.parametrize("state", [PgState.STOPPED, PgState.STANDBY, PgState.PRIMARY])
def test_another_data_directory_than_took_the_lead_never_leads(state):
    """As when an older copy is put under the agent while its lease still lasts."""
    older = primary(state=state, incarnation="disk-older", open_term=None, down_since=99.9)
    assert isinstance(effect(at_columbus(pg=older)), GiveUp)
    alone = at_columbus(pg=older, cluster=cluster(sync=entry(sync(COLUMBUS))))
    assert rule(alone) == "lead-with-other-data"
    assert isinstance(effect(alone), Fence) == (state is not PgState.STOPPED)


def test_a_new_leader_promotes_narrows_and_opens_in_this_order():
    won = cluster(leader=entry(leader(DENVER, 4), THEIR_LEASE), term=entry(Term(term=4)))
    narrowed = replace(won, sync=entry(sync(DENVER, term=4)))
    promoted = primary(open_term=None, incarnation=f"disk-{DENVER}", names=(), remote_in_step=())
    assert isinstance(effect(at_denver(cluster=won)), Promote)
    assert isinstance(effect(at_denver(cluster=won, pg=promoted)), Narrow)
    assert isinstance(effect(at_denver(cluster=narrowed, pg=promoted)), Open)
    opened = replace(promoted, open_term=4)
    assert rule(at_denver(cluster=narrowed, pg=opened)) == "leads"


def test_a_target_of_a_swap_narrows_before_it_opens_because_nobody_is_waited_for_yet():
    handed = cluster(
        leader=entry(leader(DENVER, 4), THEIR_LEASE),
        term=entry(Term(term=4)),
        sync=entry(sync(DENVER, COLUMBUS, term=4)),
        swap=entry(swap(Phase.HANDED)),
    )
    promoted = primary(open_term=None, incarnation=f"disk-{DENVER}", names=(), remote_in_step=(), standbys=())
    assert isinstance(effect(at_denver(cluster=handed, pg=promoted)), Narrow)


def test_a_standby_that_commits_do_not_wait_for_leaves_step_at_once():
    assert isinstance(effect(at_columbus(pg=primary(names=())), Lane.STEP), Leave)


def test_one_lane_alone_writes_sync_while_a_new_leader_narrows_it():
    handed = cluster(
        leader=entry(leader(DENVER, 4), THEIR_LEASE),
        term=entry(Term(term=4)),
        sync=entry(sync(DENVER, COLUMBUS, term=4)),
        swap=entry(swap(Phase.HANDED)),
    )
    promoted = primary(open_term=None, incarnation=f"disk-{DENVER}", names=(), remote_in_step=(), standbys=())
    assert effect(at_denver(cluster=handed, pg=promoted), Lane.STEP) is None


def test_a_winner_whose_postgres_was_stopped_as_a_standby_recovers_before_it_is_promoted():
    won = cluster(leader=entry(leader(DENVER, 4), THEIR_LEASE), term=entry(Term(term=4)))
    assert effect(at_denver(cluster=won, pg=standby(state=PgState.STOPPED))) == StartStandby(leader=DENVER)


# -- electing ----------------------------------------------------------------------------------------------------


def test_a_standby_in_step_claims_when_the_leader_and_its_canary_are_gone():
    facts = at_denver(cluster=NOBODY_LEADS, pg=standby(canary_at=97.0), leader_absent_since=99.9)
    assert isinstance(effect(facts), Claim)


def test_a_fresh_canary_holds_an_election_back():
    assert rule(at_denver(cluster=NOBODY_LEADS, leader_absent_since=99.0)) == "canary-holds-back"


def test_a_fresh_canary_holds_an_election_back_for_a_limited_time():
    assert isinstance(effect(at_denver(cluster=NOBODY_LEADS, leader_absent_since=89.0)), Claim)


def test_a_leader_that_gave_up_is_followed_at_once():
    released = cluster(leader=None, term=entry(Term(term=3, released_by=COLUMBUS)))
    assert isinstance(effect(at_denver(cluster=released, leader_absent_since=99.99)), Claim)


def test_a_standby_that_is_not_in_step_never_claims():
    alone = cluster(leader=None, sync=entry(sync(COLUMBUS)))
    assert rule(at_denver(cluster=alone, pg=standby(canary_at=None))) == "barred"


@pytest.mark.parametrize(
    "change",
    [{"incarnation": "another-disk"}, {"timeline": 0}, {"received_lsn": 499, "replayed_lsn": 499}],
    ids=["another disk", "an older timeline", "less WAL than it must have"],
)
def test_a_node_in_step_by_name_alone_never_claims(change):
    facts = at_denver(cluster=NOBODY_LEADS, pg=standby(canary_at=None, **change))
    assert rule(facts) == "barred"


def test_nobody_claims_without_etcd():
    facts = at_denver(cluster=NOBODY_LEADS, etcd_heard_at=97.0, pg=standby(canary_at=None))
    assert effect(facts) is None


def test_a_pause_holds_an_election_back():
    paused = replace(NOBODY_LEADS, desired=entry(Desired(paused=True)))
    assert rule(at_denver(cluster=paused, pg=standby(canary_at=None))) == "paused"


def test_a_serving_leader_whose_lease_etcd_lost_takes_the_same_term_up_again():
    assert isinstance(effect(at_columbus(cluster=NOBODY_LEADS)), Reclaim)


def test_a_leader_that_gave_up_leaves_the_lead_to_the_others_for_a_moment():
    released = cluster(leader=None, term=entry(Term(term=3, released_by=COLUMBUS)))
    stopped = primary(state=PgState.STOPPED, open_term=None, down_since=95.0)
    just_now = at_columbus(cluster=released, pg=stopped, leader_absent_since=99.0)
    assert rule(just_now) == "gave-up"
    assert isinstance(effect(replace(just_now, leader_absent_since=96.0)), Claim)


def test_a_node_that_takes_the_lead_again_tries_to_start_before_it_gives_up_again():
    facts = at_columbus(pg=primary(state=PgState.STOPPED, down_since=50.0), lead_since=99.9)
    assert isinstance(effect(facts), StartPrimary)


def test_a_lead_is_not_given_up_to_a_node_whose_agent_is_silent():
    members = {COLUMBUS: cluster().members[COLUMBUS]}
    facts = at_columbus(cluster=cluster(members=members), pg=primary(state=PgState.STOPPED, down_since=50.0))
    assert isinstance(effect(facts), StartPrimary)


def test_a_leader_that_recovers_for_long_gives_up_when_another_is_in_step():
    assert isinstance(effect(at_columbus(pg=primary(state=PgState.STARTING, down_since=98.0))), GiveUp)


def test_a_leader_that_recovers_is_never_killed_when_it_is_alone():
    alone = cluster(sync=entry(sync(COLUMBUS)))
    facts = at_columbus(cluster=alone, pg=primary(state=PgState.STARTING, down_since=50.0, since=50.0))
    assert (rule(facts), effect(facts)) == ("recovering-alone", None)


def test_an_agent_that_was_just_restarted_gets_time_to_write_a_canary():
    facts = at_columbus(**NO_ETCD, pg=primary(canary_at=None, opened_at=99.5))
    assert effect(facts) is None
    assert isinstance(effect(replace(facts, pg=primary(canary_at=None, opened_at=98.0))), Fence)


def test_a_leader_that_is_alone_in_step_is_not_ended_for_a_late_canary():
    alone = cluster(sync=entry(sync(COLUMBUS)))
    assert effect(at_columbus(**NO_ETCD, cluster=alone, pg=primary(canary_at=90.0, names=()))) is None


def test_a_leader_that_somebody_was_joining_when_etcd_went_silent_is_not_alone():
    """The write that brings him into `sync` may be applied though nobody heard so."""
    joining = cluster(sync=entry(sync(COLUMBUS)))
    facts = at_columbus(**NO_ETCD, cluster=joining, pg=primary(canary_at=90.0, names=(DENVER,)))
    assert isinstance(effect(facts), Fence)


def test_a_leader_whose_disk_takes_no_wal_gives_up_when_another_is_in_step():
    facts = at_columbus(pg=primary(unflushed_since=94.0))
    assert effect(facts) == GiveUp(reason="the disk takes no WAL")
    alone = replace(facts, cluster=cluster(sync=entry(sync(COLUMBUS))))
    assert rule(alone) == "leads"
    assert rule(at_columbus(pg=primary(unflushed_since=96.0))) == "leads"


def test_a_crashed_leader_keeps_recovering_while_etcd_cannot_be_told_that_it_gives_up():
    facts = at_columbus(**NO_ETCD, pg=primary(state=PgState.STARTING, open_term=None, down_since=90.0))
    assert rule(facts) == "recovering"


def test_a_standby_that_hears_neither_etcd_nor_the_leader_says_so():
    assert rule(at_denver(etcd_heard_at=90.0, pg=standby(upstream=False))) == "follows-unheard"
    assert rule(at_denver(etcd_heard_at=90.0)) == "follows"


def test_what_arrives_holds_an_election_back_while_replay_stands_still():
    unseen = standby(canary_at=95.0, unreplayed_since=95.0, received_at=99.9)
    facts = at_denver(cluster=NOBODY_LEADS, leader_absent_since=99.0, pg=unseen)
    assert rule(facts) == "canary-holds-back"
    assert rule(replace(facts, pg=replace(unseen, received_at=98.0))) == "claim"
    assert rule(replace(facts, pg=replace(unseen, unreplayed_since=None))) == "claim"


def test_a_standby_that_cannot_start_is_rewound_and_then_cloned():
    facts = at_denver(
        cluster=cluster(sync=entry(sync(COLUMBUS))), pg=standby(state=PgState.STOPPED, failed_starts=2)
    )
    assert effect(facts) == Rewind(leader=COLUMBUS)
    assert effect(replace(facts, repairs=1)) == Clone(leader=COLUMBUS)


def test_a_standby_that_lacks_wal_of_the_leaders_own_timeline_is_cloned_without_a_useless_rewind():
    facts = at_denver(cluster=cluster(sync=entry(sync(COLUMBUS))), follow_failed_since=90.0)
    assert effect(facts) == Clone(leader=COLUMBUS, unless_followed=True)
    assert effect(replace(facts, pg=standby(timeline=2))) == Rewind(leader=COLUMBUS)


def test_leftovers_of_a_first_start_that_was_cut_off_are_made_anew_or_cloned_over():
    leftovers = standby(state=PgState.PRIMARY, unfinished=True, system_id="9", open_term=None)
    assert rule(at_columbus(cluster=Snapshot(read_at=1.0), pg=leftovers)) == "bootstrap"
    mute = replace(leftovers, state=PgState.MUTE)  # it runs, and the database that is asked is not made yet
    assert rule(at_columbus(cluster=Snapshot(read_at=1.0), pg=mute)) == "bootstrap"
    others = at_denver(cluster=cluster(sync=entry(sync(COLUMBUS))), pg=leftovers)
    assert isinstance(effect(others), Fence)
    assert effect(replace(others, pg=replace(leftovers, state=PgState.STOPPED))) == Clone(leader=COLUMBUS)


def test_a_finished_first_start_is_no_leftover_even_if_its_marker_was_not_removed():
    assert rule(at_columbus(pg=primary(unfinished=True))) == "leads"


def test_a_swap_does_not_shut_down_without_etcd():
    held = {"columbus-1": entry(dispatcher("columbus-1", "columbus", held_for="s1"))}
    facts = at_columbus(**NO_ETCD, cluster=swapping(Phase.HELD, dispatchers=held), swap_phase_since=99.9)
    assert not isinstance(effect(facts), ShutDownForSwap)


@pytest.mark.parametrize("make", [primary, standby])
def test_a_postgresql_that_does_not_answer_is_ended_when_nobody_leads_or_nobody_ever_would(make):
    facts = at_columbus(cluster=NOBODY_LEADS, pg=make(state=PgState.MUTE, open_term=None, since=96.9))
    assert isinstance(effect(facts), Fence)
    assert effect(replace(facts, pg=replace(facts.pg, since=97.5))) is None
    assert effect(replace(facts, etcd_heard_at=90.0)) is None  # nobody could take the lead meanwhile


def test_a_primary_that_is_barred_stops():
    narrowed = cluster(leader=None, sync=entry(sync(DENVER, term=4)), term=entry(Term(term=4)))
    assert isinstance(effect(at_columbus(cluster=narrowed)), Fence)
