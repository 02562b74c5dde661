"""The table of decisions: properties over arbitrary facts."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitecontrol.leadership.decide import TABLE, decide
from sitecontrol.leadership.effects import (
    Claim,
    Clone,
    Fence,
    GiveUp,
    HandOver,
    Narrow,
    Open,
    Promote,
    Rewind,
    ShutDownForSwap,
    StartPrimary,
)
from sitecontrol.leadership.facts import Facts, LeaseFacts, Peer, PgState
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Initialize, InStep, Phase, Position, Reached, Sync, Term
from sitecontrol.view import Snapshot
from tests.decisions_page import situations
from tests.unit.decided import NOBODY_LEADS, effect, rule
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    THEIR_LEASE,
    at_columbus,
    at_denver,
    cluster,
    entry,
    leader,
    primary,
    standby,
    swap,
    sync,
)

# -- properties --------------------------------------------------------------------------------------------------


def reached(node: str, timeline: int, lsn: int) -> Reached:
    return Reached(system_id="7", term=3, nodes=(Position(node=node, timeline=timeline, lsn=lsn),))


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
        st.sampled_from([(COLUMBUS, DENVER), (DENVER, COLUMBUS), (COLUMBUS, COLUMBUS), (COLUMBUS, "nobody")]),
        st.integers(1, 5),
    ),
    members=st.sampled_from([{}, cluster().members]),
    reached=st.none()
    | st.builds(
        lambda node, timeline, lsn: entry(reached(node, timeline, lsn)),
        st.sampled_from([COLUMBUS, DENVER]),
        st.integers(1, 2),
        st.sampled_from([500, 1_000, 1_001]),
    ),
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
    failed_starts=st.integers(0, 3),
    start_failed_at=st.none() | st.floats(80, 100),
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
    holds = max(facts.pg.received_lsn, facts.pg.replayed_lsn)
    had = facts.cluster.reached.record.nodes if facts.cluster.reached else ()
    short = any(p.node == facts.node and (p.timeline, p.lsn) > (facts.pg.timeline, holds) for p in had)
    if (named.leader, named.leader_incarnation) == (facts.node, disk):
        return facts.pg.was_primary or not short  # a primary is judged when it has started, before it opens
    return not short and any(
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
        had = [
            None,
            entry(reached(other, 3, 900)),
            entry(reached(ours, 2, 501)),
            entry(reached(ours, 3, 500)),
        ]
        for record, told, disk, timeline, received, replayed in itertools.product(
            records, had, ("disk", "another disk", None), (1, 2, 3), (499, 500, 501), (499, 500, 501)
        ):
            pg = standby(
                incarnation=disk,
                timeline=timeline,
                received_lsn=received,
                replayed_lsn=replayed,
                canary_at=None,
            )
            nobody = replace(NOBODY_LEADS, sync=record and entry(record), reached=told)
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
def test_nobody_claims_just_after_its_own_start_failed_while_another_who_is_complete_is_heard(facts):
    failed = facts.pg.start_failed_at
    if isinstance(effect(facts), Claim) and facts.pg.failed_starts and failed is not None:
        named = facts.cluster.sync.record
        others = {named.leader, *(s.node for s in named.standbys)} - {facts.node}
        starts = facts.pg.state is PgState.STOPPED and facts.now - failed < 2.0
        assert not (starts and others & facts.cluster.members.keys())


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
def test_a_lead_is_given_up_only_when_another_is_in_step_or_we_fall_short_of_what_we_had(facts):
    if isinstance(effect(facts), GiveUp):
        assert facts.other_in_step or facts.short_of is not None


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
        assert facts.swap is not None
        assert facts.peers[facts.swap.to_node].received_lsn >= facts.pg.clean_shutdown_lsn
        assert facts.phase_age <= facts.settings.swap_deadline


@given(any_facts)
def test_nothing_is_shut_down_for_and_nothing_handed_to_who_is_not_in_step_with_its_agent_heard(facts):
    if isinstance(effect(facts), ShutDownForSwap) or isinstance(effect(facts, Lane.SWAP), HandOver):
        named, to = facts.cluster.sync.record, facts.cluster.swap.record.to_node
        told = facts.cluster.members[to].record
        assert to != facts.node
        assert (to, told.incarnation) in {(s.node, s.incarnation) for s in named.standbys}


@pytest.mark.parametrize(
    "holds",
    [
        test_only_a_node_that_can_miss_nothing_claims,
        test_nobody_claims_just_after_its_own_start_failed_while_another_who_is_complete_is_heard,
        test_only_the_holder_of_the_lead_promotes_narrows_or_opens,
        test_nobody_opens_before_sync_was_narrowed_in_the_present_term,
        test_a_lead_is_given_up_only_when_another_is_in_step_or_we_fall_short_of_what_we_had,
        test_data_is_rewound_or_replaced_only_when_the_leader_alone_holds_everything,
        test_an_open_primary_without_any_proof_is_fenced_or_waits_for_the_canary_by_which_it_served,
        test_a_hand_over_is_decided_only_when_all_was_flushed_and_there_is_time,
        test_nothing_is_shut_down_for_and_nothing_handed_to_who_is_not_in_step_with_its_agent_heard,
    ],
    ids=lambda test: test.__name__.removeprefix("test_"),
)
def test_in_every_situation_that_is_drawn(holds):
    """Of most that is arbitrary the first rows dispose, as of nonsense: what is likely is looked at one by one."""
    for facts in situations():
        for peers in ({}, {DENVER: Peer(received_lsn=1_999, asked_at=99.9)}):
            holds.hypothesis.inner_test(replace(facts, peers=peers))


@given(any_facts)
def test_nothing_that_falls_short_of_what_it_had_is_promoted_or_opened(facts):
    if isinstance(effect(facts), Open | Promote | Narrow):
        assert facts.cluster.reached is None or all(
            (p.timeline, p.lsn) <= (facts.pg.timeline, max(facts.pg.received_lsn, facts.pg.replayed_lsn))
            for p in facts.cluster.reached.record.nodes
            if p.node == facts.node
        )
