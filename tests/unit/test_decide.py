"""The table of decisions: one fact a test, then properties over arbitrary facts."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitecontrol.leadership.decide import TABLE, decide
from sitecontrol.leadership.effects import (
    Advance,
    Checkpoint,
    Claim,
    Clone,
    Effect,
    Fence,
    GiveUp,
    HandOver,
    Join,
    Leave,
    MoveEtcdLeader,
    Narrow,
    Open,
    Promote,
    Reclaim,
    Rewind,
    RollBack,
    ShutDownForSwap,
    StartPrimary,
    StartStandby,
)
from sitecontrol.leadership.facts import Facts, LeaseFacts, Peer, PgFacts, PgState, StandbyFacts
from sitecontrol.leadership.swapping import obstacles
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Desired, Initialize, InStep, Phase, Role, Sync, Term
from sitecontrol.view import Snapshot
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
    member,
    primary,
    standby,
    swap,
    sync,
)


def rule(facts: Facts, lane: Lane = Lane.POSTGRES) -> str:
    return decide(lane, facts).rule


def effect(facts: Facts, lane: Lane = Lane.POSTGRES) -> Effect | None:
    return decide(lane, facts).effect


NO_ETCD = {"etcd_heard_at": 90.0, "lease": LeaseFacts(id=OUR_LEASE, ends_at=92.0)}
NOBODY_LEADS = cluster(leader=None)


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
    assert rule(facts) == "recovering"


def test_an_agent_that_was_just_restarted_gets_time_to_write_a_canary():
    facts = at_columbus(**NO_ETCD, pg=primary(canary_at=None, since=99.5))
    assert effect(facts) is None
    assert isinstance(effect(replace(facts, pg=primary(canary_at=None, since=98.0))), Fence)


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
    assert effect(facts) == Clone(leader=COLUMBUS)
    assert effect(replace(facts, pg=standby(timeline=2))) == Rewind(leader=COLUMBUS)


def test_leftovers_of_a_first_start_that_was_cut_off_are_made_anew_or_cloned_over():
    leftovers = standby(state=PgState.PRIMARY, unfinished=True, system_id="9", open_term=None)
    assert rule(at_columbus(cluster=Snapshot(read_at=1.0), pg=leftovers)) == "bootstrap"
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


# -- starting, following, coming back ------------------------------------------------------------------------------


def test_the_preferred_site_makes_the_first_data_directory():
    nothing = Snapshot(read_at=1.0)
    assert rule(at_columbus(cluster=nothing, pg=standby(state=PgState.ABSENT))) == "bootstrap"
    assert rule(at_denver(cluster=nothing, pg=standby(state=PgState.ABSENT))) == "await-bootstrap"


def test_a_node_that_has_data_never_bootstraps():
    assert rule(at_columbus(cluster=Snapshot(read_at=1.0))) == "data-without-records"


def test_data_of_another_cluster_is_refused():
    foreign = cluster(initialize=entry(Initialize(system_id="8")))
    assert rule(at_denver(cluster=foreign, pg=standby(state=PgState.STOPPED))) == "foreign-data"


def test_an_empty_node_clones_the_leader():
    assert effect(
        at_denver(cluster=cluster(sync=entry(sync(COLUMBUS))), pg=standby(state=PgState.ABSENT))
    ) == Clone(leader=COLUMBUS)


DENVER_LEADS = cluster(
    leader=entry(leader(DENVER, 4), THEIR_LEASE), term=entry(Term(term=4)), sync=entry(sync(DENVER, term=4))
)


def test_an_old_leader_rewinds():
    facts = at_columbus(cluster=DENVER_LEADS, pg=primary(state=PgState.STOPPED, open_term=None))
    assert effect(facts) == Rewind(leader=DENVER)


def test_an_old_leader_keeps_its_copy_until_the_new_one_has_narrowed():
    claimed_only = replace(DENVER_LEADS, sync=entry(sync(COLUMBUS, DENVER)))
    facts = at_columbus(cluster=claimed_only, pg=primary(state=PgState.STOPPED, open_term=None))
    assert rule(facts) == "await-leader"


def test_a_failed_rewind_is_followed_by_a_clone():
    facts = at_columbus(cluster=DENVER_LEADS, pg=primary(state=PgState.STOPPED, open_term=None), repairs=1)
    assert effect(facts) == Clone(leader=DENVER)


def test_a_half_made_data_directory_is_cloned():
    facts = at_columbus(cluster=DENVER_LEADS, pg=primary(state=PgState.UNUSABLE, open_term=None))
    assert effect(facts) == Clone(leader=DENVER)


def test_after_a_clean_hand_over_the_old_leader_follows_without_a_rewind():
    handed = replace(DENVER_LEADS, sync=entry(sync(DENVER, COLUMBUS, term=4)), swap=entry(swap(Phase.HANDED)))
    stopped = primary(state=PgState.STOPPED, open_term=None, clean_shutdown_lsn=2_000)
    assert effect(at_columbus(cluster=handed, pg=stopped)) == StartStandby(leader=DENVER)


def test_a_standby_is_re_pointed_to_a_new_leader():
    assert effect(
        at_columbus(cluster=DENVER_LEADS, pg=standby(incarnation="x", follows=COLUMBUS))
    ) == StartStandby(leader=DENVER)


# -- in step -----------------------------------------------------------------------------------------------------


def test_a_standby_that_vanished_leaves_step():
    assert effect(at_columbus(pg=primary(standbys=())), Lane.STEP) == Leave(
        nodes=(DENVER,), reason="gone, silent, or with another data directory"
    )


def test_a_standby_gets_a_moment_to_reconnect_after_the_leader_restarted():
    assert effect(at_columbus(pg=primary(standbys=(), since=99.5)), Lane.STEP) is None


def test_a_standby_with_another_data_directory_leaves_step():
    members = {DENVER: entry(member(DENVER, incarnation="new-disk"), THEIR_LEASE)}
    assert isinstance(effect(at_columbus(cluster=cluster(members=members)), Lane.STEP), Leave)


def test_nobody_leaves_step_without_etcd():
    assert effect(at_columbus(**NO_ETCD, pg=primary(standbys=())), Lane.STEP) is None


def silent_since(moved_at: float) -> PgFacts:
    silent = StandbyFacts(
        name=DENVER, streaming=True, flush_lsn=900, replay_lsn=900, moved_at=moved_at, still=9
    )
    return primary(standbys=(silent,), looked_at=100.0)


def test_a_standby_that_flushes_nothing_leaves_step():
    assert isinstance(effect(at_columbus(pg=silent_since(99.0)), Lane.STEP), Leave)


def test_a_leader_that_may_be_deaf_takes_nobody_out_of_step():
    """Etcd fell silent with the standby: what we write may still arrive, and would leave nobody who may lead."""
    deaf = at_columbus(pg=silent_since(99.0), etcd_heard_at=99.4)
    assert deaf.etcd_here
    assert effect(deaf, Lane.STEP) is None


def test_a_streaming_standby_joins():
    alone = cluster(sync=entry(sync(COLUMBUS)))
    facts = at_columbus(cluster=alone, pg=primary(names=(), remote_in_step=()))
    assert effect(facts, Lane.STEP) == Join(node=DENVER)


def test_after_a_hand_over_the_old_leader_joins_only_when_the_swap_has_noted_that_it_follows():
    def streaming(phase: Phase) -> Facts:
        arrived = cluster(
            leader=entry(leader(DENVER, 4), THEIR_LEASE),
            term=entry(Term(term=4)),
            sync=entry(sync(DENVER, term=4)),
            swap=entry(swap(phase)),
            members={COLUMBUS: entry(member(COLUMBUS, term=4), OUR_LEASE)},
        )
        follower = replace(primary().standbys[0], name=COLUMBUS)
        serving = primary(
            open_term=4, incarnation=f"disk-{DENVER}", names=(), remote_in_step=(), standbys=(follower,)
        )
        return at_denver(cluster=arrived, pg=serving)

    assert effect(streaming(Phase.OPENED), Lane.STEP) is None
    assert effect(streaming(Phase.FOLLOWING), Lane.STEP) == Join(node=COLUMBUS)


def test_a_node_that_still_tells_of_itself_from_before_it_was_rewound_does_not_join():
    stale = {DENVER: entry(member(DENVER, role=Role.STOPPED), THEIR_LEASE)}
    facts = at_columbus(
        cluster=cluster(sync=entry(sync(COLUMBUS)), members=stale), pg=primary(names=(), remote_in_step=())
    )
    assert effect(facts, Lane.STEP) is None


def test_a_name_that_is_not_in_sync_is_cleared():
    alone = cluster(sync=entry(sync(COLUMBUS)))
    facts = at_columbus(cluster=alone, pg=primary(remote_in_step=()))
    assert rule(facts, Lane.STEP) == "clear-strangers"


# -- swapping ----------------------------------------------------------------------------------------------------


def swapping(phase: Phase, **change):
    return cluster(swap=entry(swap(phase)), **change)


def test_a_swap_to_a_node_out_of_step_is_rolled_back():
    facts = at_columbus(cluster=swapping(Phase.REQUESTED, sync=entry(sync(COLUMBUS))), swap_phase_since=99.9)
    rolled_back = effect(facts, Lane.SWAP)
    assert isinstance(rolled_back, RollBack)
    assert "not in step" in rolled_back.reason


def test_a_swap_while_nobody_leads_is_refused_and_when_paused_with_what_ends_that():
    paused = entry(Desired(paused=True))
    cure = "and automatic swaps are paused: `sitectl resume` lets a node that is in step take the lead"
    told = {
        f"{named}, {wanted}": obstacles(at_denver(cluster=cluster(leader=lead, desired=desired)), DENVER)
        for named, lead in (("nobody", None), ("columbus", entry(leader(COLUMBUS), THEIR_LEASE)))
        for wanted, desired in (("paused", paused), ("on", None))
    }
    assert told == {
        "nobody, paused": (f"nobody leads at the moment, {cure}",),
        "nobody, on": ("nobody leads at the moment",),
        "columbus, paused": (),
        "columbus, on": (),
    }


def test_a_held_swap_shuts_down_when_the_windows_are_drained():
    held = {"columbus-1": entry(dispatcher("columbus-1", "columbus", held_for="s1"))}
    facts = at_columbus(cluster=swapping(Phase.HELD, dispatchers=held), swap_phase_since=99.95)
    assert isinstance(effect(facts), ShutDownForSwap)


def test_a_held_swap_waits_for_the_windows_for_a_limited_time():
    facts = at_columbus(cluster=swapping(Phase.HELD), swap_phase_since=99.9)
    assert effect(facts) is None or not isinstance(effect(facts), ShutDownForSwap)
    assert isinstance(effect(replace(facts, swap_phase_since=99.6)), ShutDownForSwap)


SHUT_DOWN = primary(state=PgState.STOPPED, open_term=None, clean_shutdown_lsn=2_000)


def test_a_target_that_falls_silent_while_everything_waits_for_it_gives_the_swap_up():
    facts = at_columbus(cluster=swapping(Phase.HELD), pg=SHUT_DOWN, swap_phase_since=99.0)
    heard = {DENVER: Peer(received_lsn=1_999, asked_at=98.4)}
    assert rule(replace(facts, peers=heard), Lane.SWAP) == "target-silent"
    assert isinstance(effect(replace(facts, swap_phase_since=98.0), Lane.SWAP), RollBack)
    assert (
        rule(replace(facts, peers={DENVER: Peer(received_lsn=1_999, asked_at=99.9)}), Lane.SWAP)
        == "await-drain"
    )


def test_the_hand_over_waits_until_the_target_has_the_last_record():
    facts = at_columbus(cluster=swapping(Phase.HELD), pg=SHUT_DOWN, swap_phase_since=99.5)
    behind, complete = Peer(received_lsn=1_999, asked_at=99.9), Peer(received_lsn=2_000, asked_at=99.9)
    assert effect(replace(facts, peers={DENVER: behind}), Lane.SWAP) is None
    assert effect(replace(facts, peers={DENVER: complete}), Lane.SWAP) == HandOver(shutdown_lsn=2_000)
    assert rule(facts) == "shut-down-awaits-hand-over"


def test_a_swap_past_its_deadline_is_rolled_back_even_when_it_could_be_handed_over():
    complete = {DENVER: Peer(received_lsn=2_000, asked_at=99.9)}
    facts = at_columbus(cluster=swapping(Phase.HELD), pg=SHUT_DOWN, swap_phase_since=89.0, peers=complete)
    assert isinstance(effect(facts, Lane.SWAP), RollBack)


@pytest.mark.parametrize(
    ("phase", "setting"),
    [
        (Phase.REQUESTED, "swap_prepare_within"),
        (Phase.CHECKED, "swap_deadline"),
        (Phase.HELD, "swap_deadline"),
    ],
)
def test_each_phase_before_the_hand_over_is_rolled_back_past_its_own_deadline(phase: Phase, setting: str):
    facts = at_columbus(cluster=swapping(phase))
    limit = getattr(facts.settings, setting)
    assert not isinstance(effect(replace(facts, swap_phase_since=100.0 - limit), Lane.SWAP), RollBack)
    late = effect(replace(facts, swap_phase_since=99.9 - limit), Lane.SWAP)
    assert isinstance(late, RollBack)
    assert (phase.value in late.reason, f"failover.{setting}" in late.reason) == (True, True)


def test_a_long_checkpoint_takes_nothing_from_the_time_that_requests_may_be_held():
    facts = at_columbus(cluster=swapping(Phase.REQUESTED), swap_phase_since=50.0)
    assert effect(facts, Lane.SWAP) == Advance(phase=Phase.CHECKED)


def test_after_a_rollback_the_old_leader_starts_again_however_long_it_was_down():
    facts = at_columbus(pg=replace(SHUT_DOWN, down_since=90.0), swap_ended_at=99.9)
    assert isinstance(effect(facts), StartPrimary)


def test_a_swap_whose_leader_died_is_ended_by_the_next_one():
    facts = at_denver(cluster=replace(DENVER_LEADS, swap=entry(swap(Phase.HELD))))
    assert isinstance(effect(facts, Lane.SWAP), RollBack)


# -- upkeep ------------------------------------------------------------------------------------------------------


def test_an_open_leader_moves_etcds_own_leader_out_of_its_site():
    facts = at_columbus(etcd_leader_here=True, etcd_leader_target=7)
    assert effect(facts, Lane.UPKEEP) == MoveEtcdLeader(member_id=7)


@pytest.mark.parametrize(
    "change",
    [
        {"etcd_leader_here": False},
        {"etcd_leader_target": None},
        {"pg": primary(open_term=None)},
        {"cluster": NOBODY_LEADS},
        {"cluster": DENVER_LEADS},
    ],
    ids=["it is elsewhere", "there is no other member", "not open yet", "nobody leads", "another leads"],
)
def test_etcds_own_leader_stays_where_it_is(change):
    facts = replace(at_columbus(etcd_leader_here=True, etcd_leader_target=7), **change)
    assert effect(facts, Lane.UPKEEP) is None


def test_a_promoted_leader_takes_a_checkpoint_whoever_started_its_agent_since():
    """Kept in the agent's memory it was lost with the agent, and no returning node could be rewound."""
    behind = at_columbus(pg=primary(timeline=4, control_timeline=3, since=97.0))
    assert effect(behind, Lane.UPKEEP) == Checkpoint()
    assert effect(replace(behind, pg=replace(behind.pg, since=98.5)), Lane.UPKEEP) is None
    assert effect(replace(behind, pg=replace(behind.pg, control_timeline=4)), Lane.UPKEEP) is None
    assert effect(replace(behind, pg=replace(behind.pg, open_term=None)), Lane.UPKEEP) is None


# -- properties --------------------------------------------------------------------------------------------------

snapshots = st.builds(
    Snapshot,
    read_at=st.just(1.0),
    initialize=st.none() | st.sampled_from([entry(Initialize(system_id=s)) for s in ("0", "7", "8")]),
    leader=st.none()
    | st.builds(
        lambda node, term, lease: entry(leader(node, term), lease),
        st.sampled_from([COLUMBUS, DENVER]),
        st.integers(1, 5),
        st.sampled_from([OUR_LEASE, THEIR_LEASE, 99]),
    ),
    term=st.none()
    | st.builds(
        lambda t, r: entry(Term(term=t, released_by=r)), st.integers(1, 5), st.none() | st.just(COLUMBUS)
    ),
    sync=st.none()
    | st.builds(
        lambda node, others, term: entry(sync(node, *(o for o in others if o != node), term=term)),
        st.sampled_from([COLUMBUS, DENVER]),
        st.sampled_from([(), (COLUMBUS,), (DENVER,)]),
        st.integers(1, 5),
    ),
    swap=st.none()
    | st.builds(
        lambda phase, direction, term: entry(swap(phase, *direction, term=term)),
        st.sampled_from(list(Phase)),
        st.sampled_from([(COLUMBUS, DENVER), (DENVER, COLUMBUS)]),
        st.integers(1, 5),
    ),
    members=st.sampled_from([{}, cluster().members]),
)
postgreses = st.builds(
    lambda base, state, **change: base(state=state, **change),
    st.sampled_from([primary, standby]),
    st.sampled_from(list(PgState)),
    since=st.floats(80, 100),
    incarnation=st.sampled_from([None, f"disk-{COLUMBUS}", f"disk-{DENVER}", "x"]),
    timeline=st.integers(0, 2),
    received_lsn=st.sampled_from([0, 499, 500, 1_000]),
    was_primary=st.booleans(),
    open_term=st.none() | st.integers(1, 5),
    canary_at=st.none() | st.floats(80, 100),
    clean_shutdown_lsn=st.none() | st.just(900),
)
any_facts = st.builds(
    lambda base, **change: base(**change),
    st.sampled_from([at_columbus, at_denver]),
    cluster=snapshots,
    cluster_read=st.booleans(),
    etcd_heard_at=st.none() | st.floats(80, 100),
    lease=st.builds(LeaseFacts, id=st.sampled_from([0, OUR_LEASE, THEIR_LEASE]), ends_at=st.floats(80, 102)),
    pg=postgreses,
    leader_absent_since=st.none() | st.floats(80, 100),
    follow_failed_since=st.none() | st.floats(80, 100),
    repairs=st.integers(0, 2),
    swap_phase_since=st.none() | st.floats(30, 100),
    peers=st.sampled_from([{}, {DENVER: Peer(received_lsn=900, asked_at=99.0)}]),
)


@given(any_facts)
def test_every_lane_decides_about_any_facts(facts):
    for lane in TABLE:
        decide(lane, facts)


def misses_nothing(facts: Facts) -> bool:
    """Failover rule 4 (docs/failover.md), told once more from the records: the table asks `Facts.may_lead`, and a
    test that asked it, too, would hold whatever it says.
    """
    if facts.cluster.sync is None:
        return False
    named, disk = facts.cluster.sync.record, facts.pg.incarnation
    if disk is None:
        return False
    if (named.leader, named.leader_incarnation) == (facts.node, disk):
        return True
    holds = max(facts.pg.received_lsn, facts.pg.replayed_lsn)
    return any(
        (must.node, must.incarnation) == (facts.node, disk)
        and must.timeline <= facts.pg.timeline
        and must.lsn <= holds
        for must in named.standbys
    )


def elections() -> Iterator[Facts]:
    """Nobody leads and nothing but rule 4 is in the way: every place in `sync`, disk and position about its bounds."""

    def place(node: str) -> tuple[InStep]:
        return (InStep(node=node, incarnation="disk", timeline=2, lsn=500),)

    for base, other in ((at_columbus, DENVER), (at_denver, COLUMBUS)):
        ours = base().node
        records = [
            None,
            Sync(term=3, leader=other, leader_incarnation="disk"),
            Sync(term=3, leader=other, leader_incarnation="disk", standbys=place(ours)),
            Sync(term=3, leader=ours, leader_incarnation="disk"),
            Sync(term=3, leader=ours, leader_incarnation="disk", standbys=place(other)),
        ]
        for record, disk, timeline, received, replayed in itertools.product(
            records, (None, "disk", "another disk"), (1, 2, 3), (499, 500, 501), (499, 500, 501)
        ):
            pg = standby(
                incarnation=disk,
                timeline=timeline,
                received_lsn=received,
                replayed_lsn=replayed,
                canary_at=None,
            )
            nobody = replace(NOBODY_LEADS, sync=record and entry(record))
            yield base(cluster=nobody, pg=pg, leader_absent_since=90.0)


def test_in_an_election_exactly_the_nodes_that_can_miss_nothing_claim():
    judged = [(isinstance(effect(facts), Claim), misses_nothing(facts), facts) for facts in elections()]
    assert {claims for claims, _, _ in judged} == {True, False}
    for claims, may, facts in judged:
        assert claims == may, facts


@given(any_facts)
def test_only_a_node_that_can_miss_nothing_claims(facts):
    if isinstance(effect(facts), Claim):
        assert misses_nothing(facts)
        assert facts.leader is None
        assert facts.etcd_here
        assert facts.lease_safe


@given(any_facts)
def test_only_the_holder_of_the_lead_promotes_narrows_or_opens(facts):
    if isinstance(effect(facts), Promote | Narrow | Open | StartPrimary | GiveUp | ShutDownForSwap):
        assert facts.lead


@given(any_facts)
def test_nobody_opens_before_sync_was_narrowed_in_the_present_term(facts):
    if isinstance(effect(facts), Open):
        assert facts.sync is not None
        assert (facts.sync.leader, facts.sync.term) == (facts.node, facts.term)
        assert {s.node for s in facts.sync.standbys} <= set(facts.pg.names)


@given(any_facts)
def test_a_lead_is_given_up_only_when_another_is_in_step(facts):
    if isinstance(effect(facts), GiveUp):
        assert facts.other_in_step


@given(any_facts)
def test_data_is_rewound_or_replaced_only_when_the_leader_alone_holds_everything(facts):
    if isinstance(effect(facts), Rewind | Clone):
        assert facts.sync is not None
        assert facts.leader is not None
        assert facts.sync.leader == facts.leader.record.node
        assert facts.our_place_in_step is None


@given(any_facts)
def test_an_open_primary_without_any_proof_is_fenced_or_waits_for_the_canary_by_which_it_served(facts):
    unproved = not facts.etcd_here and not facts.lease_safe and not facts.canary_fresh
    alone = facts.sync is not None and facts.sync.leader == facts.node and not facts.sync.standbys
    joined = bool(facts.pg.names)
    if (
        unproved
        and (joined or not alone)
        and facts.pg.state is PgState.PRIMARY
        and facts.pg.open_term is not None
    ):
        if facts.proved_by_canary_since:
            assert rule(facts) == "canary-late"
        else:
            assert isinstance(effect(facts), Fence)


@given(any_facts)
def test_a_hand_over_is_decided_only_when_all_was_flushed_and_there_is_time(facts):
    if isinstance(effect(facts, Lane.SWAP), HandOver):
        assert facts.pg.state is PgState.STOPPED
        assert facts.pg.clean_shutdown_lsn is not None
        assert facts.phase_age <= facts.settings.swap_deadline
