"""The table of decisions, one fact a test: swaps, and upkeep."""

from dataclasses import replace
from typing import Any

import pytest

from sitecontrol.belief import believe
from sitecontrol.etcd.api import Put
from sitecontrol.etcd.memory_store import MemoryStore
from sitecontrol.leadership.effects import (
    Advance,
    Checkpoint,
    GiveUp,
    HandOver,
    MoveEtcdLeader,
    RollBack,
    ShutDownForSwap,
    StartPrimary,
)
from sitecontrol.leadership.facts import Facts, Peer, PgState
from sitecontrol.leadership.swapping import obstacles
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Desired, Phase, Term
from sitecontrol.snapshot import Snapshot, read_all
from tests.unit.decided import DENVER_LEADS, NOBODY_LEADS, effect, rule, swapping
from tests.unit.held_clock import HeldClock
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

# -- swapping ----------------------------------------------------------------------------------------------------


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


def test_a_dispatcher_whose_record_is_not_believed_is_not_known_to_be_drained():
    drained = {"columbus-1": dispatcher("columbus-1", "columbus", held_for="s1")}
    store = MemoryStore(HeldClock())
    lease = store.grant(60)

    def effect_beside(second: bytes | None) -> Any:
        """With what stands in etcd under the name of the second dispatcher."""
        records = {name: told.encode() for name, told in drained.items()}
        if second is not None:
            records["columbus-2"] = second
        puts = [Put(key=f"dispatchers/{name}", value=told, lease=lease) for name, told in records.items()]
        store.txn((), puts, read_on_failure=False)
        seen = believe(Snapshot(), read_all(store.get_prefix(""), ""))
        picture = swapping(Phase.HELD, dispatchers=seen.dispatchers, bad=seen.bad)
        return effect(at_columbus(cluster=picture, swap_phase_since=99.95))

    assert isinstance(effect_beside(None), ShutDownForSwap)
    assert effect_beside(b"\x00garbage") is None
    busy = dispatcher("columbus-2", "columbus", held_for="s1", unanswered=1)
    assert effect_beside(busy.encode()) is None
    done = dispatcher("columbus-2", "columbus", held_for="s1")
    assert isinstance(effect_beside(done.encode()), ShutDownForSwap)


def test_a_held_swap_waits_for_the_windows_for_a_limited_time():
    facts = at_columbus(cluster=swapping(Phase.HELD), swap_phase_since=99.9)
    assert effect(facts) is None or not isinstance(effect(facts), ShutDownForSwap)
    assert isinstance(effect(replace(facts, swap_phase_since=99.6)), ShutDownForSwap)


ALONE = {COLUMBUS: entry(member(COLUMBUS), OUR_LEASE)}
OTHER_DISK = ALONE | {DENVER: entry(member(DENVER, incarnation="disk-other"), THEIR_LEASE)}
LOST = {
    "nobody of that name": ({"swap": "nobody-a"}, "no node 'nobody-a' is configured"),
    "the leader itself": ({"swap": COLUMBUS}, "columbus-a leads already"),
    "out of step": ({"sync": entry(sync(COLUMBUS))}, "denver-a is not in step"),
    "another data directory": ({"members": OTHER_DISK}, "denver-a has another data directory"),
    "its agent is gone": ({"members": ALONE}, "the agent of denver-a is not heard"),
}


def lost(phase: Phase, change: dict[str, Any]) -> Snapshot:
    to = change.get("swap", DENVER)
    return cluster(**change | {"swap": entry(swap(phase, to_node=to))})


@pytest.mark.parametrize("phase", [Phase.CHECKED, Phase.HELD])
@pytest.mark.parametrize(("change", "why"), LOST.values(), ids=LOST)
def test_past_the_checks_a_target_that_can_be_handed_nothing_ends_the_swap_at_once_and_is_told_why(
    phase: Phase, change: dict[str, Any], why: str
):
    facts = at_columbus(cluster=lost(phase, change), swap_phase_since=99.9)
    assert rule(facts, Lane.SWAP) == "target-lost"
    rolled_back = effect(facts, Lane.SWAP)
    assert isinstance(rolled_back, RollBack)
    assert why in rolled_back.reason


@pytest.mark.parametrize("change", [change for change, _ in LOST.values()], ids=LOST)
def test_nothing_is_shut_down_for_a_target_that_can_be_handed_nothing(change: dict[str, Any]):
    """Neither at the look that rolls back, nor while that write is under way, however long ago requests were held."""
    facts = at_columbus(cluster=lost(Phase.HELD, change), swap_phase_since=99.0)
    assert effect(facts) is None


def test_a_target_that_leaves_step_during_the_shutdown_is_not_waited_for_any_longer():
    gone = lost(Phase.HELD, {"sync": entry(sync(COLUMBUS))})
    facts = at_columbus(cluster=gone, pg=SHUT_DOWN, swap_phase_since=99.5)
    heard = {DENVER: Peer(received_lsn=1_000, asked_at=99.9)}
    assert rule(replace(facts, peers=heard), Lane.SWAP) == "target-lost"


def test_what_would_only_have_kept_a_swap_from_beginning_does_not_end_it_past_the_checks():
    unready = {DENVER: entry(member(DENVER, ready=False, reasons=("no room",)), THEIR_LEASE)}
    facts = at_columbus(cluster=swapping(Phase.CHECKED, members=unready, dispatchers={}))
    assert obstacles(facts, DENVER) != ()
    assert rule(facts, Lane.SWAP) == "hold"


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


def promoting(**change: Any) -> Facts:
    """Denver was handed the lead twenty seconds ago and is still in recovery; Columbus is complete."""
    handed = cluster(
        leader=entry(leader(DENVER, 4), THEIR_LEASE),
        term=entry(Term(term=4)),
        sync=entry(sync(DENVER, COLUMBUS, term=4)),
    )
    return at_denver(**{"cluster": handed, "lead_since": 80.0} | change)


def test_a_lead_that_nobody_can_be_promoted_for_is_given_up_to_whoever_is_complete():
    assert isinstance(effect(promoting()), GiveUp)
    assert rule(promoting(lead_since=95.0)) == "promote"
    assert rule(promoting(pg=standby(since=95.0))) == "promote"
    assert rule(promoting(etcd_heard_at=90.0)) == "promote"
    alone = replace(promoting().cluster, sync=entry(sync(DENVER, term=3)))
    assert rule(promoting(cluster=alone)) == "promotes-in-vain"


def test_a_lead_is_not_given_up_while_there_is_something_to_replay_and_it_is_replayed():
    behind = {"received_lsn": 9_000, "replayed_lsn": 2_000}
    assert rule(promoting(pg=standby(unreplayed_since=99.5, **behind))) == "promote"
    assert isinstance(effect(promoting(pg=standby(unreplayed_since=80.0, **behind))), GiveUp)


def test_a_pause_does_not_keep_the_old_leader_from_the_lead_when_the_target_of_a_swap_was_lost():
    """An operator's swap goes on during a pause, so it has to end during one, too."""
    lost = cluster(
        leader=None,
        term=entry(Term(term=4)),
        sync=entry(sync(DENVER, COLUMBUS, term=4)),
        members={},
        desired=entry(Desired(paused=True)),
        swap=entry(swap(Phase.HANDED)),
    )
    stopped = primary(state=PgState.STOPPED, open_term=None, names=(), standbys=())
    facts = at_columbus(cluster=lost, leader_absent_since=90.0, pg=stopped)
    assert rule(facts) == "claim"
    assert rule(replace(facts, cluster=replace(lost, swap=None))) == "paused"
    assert rule(replace(facts, cluster=replace(lost, swap=entry(swap(Phase.OPENED))))) == "paused"


def test_the_lead_is_handed_to_the_data_directory_that_is_in_step_and_to_no_other():
    """While we are shut down nobody is taken out of step any more."""
    other = {DENVER: entry(member(DENVER, incarnation="disk-other"), THEIR_LEASE)}
    assert obstacles(at_columbus(cluster=cluster(members=other)), DENVER)[0] == (
        "denver-a has another data directory than the one that is in step"
    )
    stopped = primary(state=PgState.STOPPED, clean_shutdown_lsn=1_000, open_term=None)
    peers = {DENVER: Peer(received_lsn=1_000, asked_at=99.9)}
    ready = at_columbus(cluster=swapping(Phase.HELD), pg=stopped, peers=peers, swap_phase_since=99.0)
    assert rule(ready, Lane.SWAP) == "hand-over"
    assert rule(replace(ready, cluster=swapping(Phase.HELD, members=other)), Lane.SWAP) == "target-lost"
