"""The table of decisions, one fact a test: the first start, following, coming back, and who is in step."""

from dataclasses import replace

from sitecontrol.leadership.effects import (
    Clone,
    Join,
    Leave,
    Rewind,
    StartStandby,
)
from sitecontrol.leadership.facts import Facts, PgFacts, PgState, StandbyFacts
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Initialize, Phase, Role, Term
from sitecontrol.view import Bad, Snapshot
from tests.unit.decided import DENVER_LEADS, NO_ETCD, effect, rule
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
    member,
    primary,
    standby,
    swap,
    sync,
)

# -- starting, following, coming back ------------------------------------------------------------------------------


def test_the_preferred_site_makes_the_first_data_directory():
    nothing = Snapshot(read_at=1.0)
    assert rule(at_columbus(cluster=nothing, pg=standby(state=PgState.ABSENT))) == "bootstrap"
    assert rule(at_denver(cluster=nothing, pg=standby(state=PgState.ABSENT))) == "await-bootstrap"


def test_only_a_bad_record_of_the_cluster_itself_holds_the_first_start_up():
    def begins(name: str) -> bool:
        bad = {name: Bad(why="of nobody", mod_revision=1, lease=0)}
        nothing = at_columbus(cluster=Snapshot(read_at=1.0, bad=bad), pg=standby(state=PgState.ABSENT))
        return rule(nothing) == "bootstrap"

    assert begins("dispatchers/old")
    assert not begins("term")
    assert not begins("swap")


def test_a_node_that_has_data_never_bootstraps():
    assert rule(at_columbus(cluster=Snapshot(read_at=1.0))) == "data-without-records"


def test_data_of_another_cluster_is_refused():
    foreign = cluster(initialize=entry(Initialize(system_id="8")))
    assert rule(at_denver(cluster=foreign, pg=standby(state=PgState.STOPPED))) == "foreign-data"


def test_an_empty_node_clones_the_leader():
    assert effect(
        at_denver(cluster=cluster(sync=entry(sync(COLUMBUS))), pg=standby(state=PgState.ABSENT))
    ) == Clone(leader=COLUMBUS)


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
