"""An older copy of a node's data, put back with its name: it does not lead, says why, and names the cure."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sitecontrol.agent.executor import Executor
from sitecontrol.agent.lanes import Lanes
from sitecontrol.agent.memory import Memory
from sitecontrol.agent.monitor import Monitor
from sitecontrol.agent.state import AgentState
from sitecontrol.belief import FAR, believe
from sitecontrol.clock import SystemClock
from sitecontrol.leadership.audit import Act
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import (
    Checkpoint,
    Claim,
    Effect,
    GiveUp,
    Open,
    Promote,
    RecordReached,
    StartPrimary,
    StartStandby,
)
from sitecontrol.leadership.facts import Facts, LeaseFacts, PgFacts, PgState, StandbyFacts
from sitecontrol.leadership.reaching import EVERY, HOLDING
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.trusting import comes_of_trust, evidence, in_the_way_of_trust
from sitecontrol.leadership.why import document
from sitecontrol.records import Deed, Initialize, Phase, Position, Reached, Role, Sync, Term
from sitecontrol.settings import FailoverSettings
from sitecontrol.snapshot import Bad, Snapshot
from tests.unit.decided import effect, rule
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    THEIR_LEASE,
    WALL,
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
from tests.unit.test_mending import Etcd

DAY = 900  # bytes that the newest data have more than the image of last night
ALL_ANSWER = {"columbus": True, "denver": True, "witness": True}


def at(node: str, lsn: int = 1_000, timeline: int = 1) -> Position:
    return Position(node=node, timeline=timeline, lsn=lsn)


def reached(*nodes: Position, term: int = 3, system_id: str = "7", mod_revision: int = 6) -> Any:
    return entry(Reached(system_id=system_id, term=term, nodes=nodes), mod_revision=mod_revision)


def nobody_leads(**change: Any) -> Snapshot:
    values: dict[str, Any] = {
        "leader": None,
        "sync": entry(sync(COLUMBUS)),
        "reached": reached(at(COLUMBUS, 500 + DAY)),
        "members": {COLUMBUS: entry(member(COLUMBUS, role=Role.STOPPED), OUR_LEASE)},
    }
    return cluster(**(values | change))


def alone(pg: PgFacts, **change: Any) -> Facts:
    """At Columbus: it led alone, its machine was lost, and an image of last night was put back."""
    values = {"leader_absent_since": 80.0, "cluster": nobody_leads(), "pg": pg}
    return at_columbus(**(values | change))


def at_rest(**change: Any) -> PgFacts:
    values = {"state": PgState.STOPPED, "received_lsn": 480, "replayed_lsn": 480, "open_term": None}
    return primary(**(values | change))


def started(lsn: int, **change: Any) -> PgFacts:
    values: dict[str, Any] = {"received_lsn": lsn, "replayed_lsn": lsn, "open_term": None, "names": ()}
    return primary(**(values | change))


def leads_again(pg: PgFacts, **change: Any) -> Facts:
    """It has claimed the next term."""
    picture = nobody_leads(leader=entry(leader(COLUMBUS, 4), OUR_LEASE), **change)
    return at_columbus(cluster=picture, pg=pg)


# -- the first schedule: the leader, alone, comes back from an old image --------


def test_a_leader_at_rest_may_start_for_nobody_knows_yet_what_it_holds():
    assert isinstance(effect(alone(at_rest())), Claim)
    assert isinstance(effect(leads_again(at_rest())), StartPrimary)


def test_a_leader_that_has_less_than_it_had_lets_nobody_in_and_gives_its_name_and_the_lead_up():
    facts = leads_again(started(500))
    decided = decide(Lane.POSTGRES, facts)
    assert decided.rule == "older-copy-ends"
    assert isinstance(decided.effect, GiveUp)
    assert decided.effect.disown
    assert "sitectl node trust" in decided.sentence


def test_a_leader_that_has_all_that_it_had_opens():
    facts = leads_again(started(500 + DAY), sync=entry(sync(COLUMBUS, term=4)), term=entry(Term(term=4)))
    assert isinstance(effect(facts), Open)


def test_without_etcd_an_older_copy_stays_closed():
    facts = replace(leads_again(started(500)), etcd_heard_at=90.0)
    assert (rule(facts), effect(facts)) == ("older-copy-ends", None)


def test_a_later_timeline_is_no_older_copy():
    assert isinstance(effect(leads_again(started(500, timeline=2))), Open)


def test_a_data_directory_that_was_disowned_holds_and_names_the_cure():
    facts = alone(at_rest(incarnation="another"))
    assert (rule(facts), effect(facts)) == ("older-copy", None)
    assert "sitectl node trust" in HOLDING.sentence


def test_one_that_was_disowned_and_still_has_the_lead_is_ended_again():
    assert rule(leads_again(started(500, incarnation="another"))) == "older-copy-ends"
    ended = leads_again(at_rest(incarnation="another"))
    assert (rule(ended), type(effect(ended))) == ("lead-without-data", GiveUp)


# -- the second schedule: a standby comes back from an old image, and nobody else does --------


def standby_alone(lsn: int, **change: Any) -> Facts:
    picture = nobody_leads(
        sync=entry(sync(COLUMBUS, DENVER)),
        reached=reached(at(COLUMBUS, 1_500), at(DENVER, 1_400)),
        members={DENVER: entry(member(DENVER, received_lsn=lsn, replayed_lsn=lsn), THEIR_LEASE)},
    )
    pg = standby(received_lsn=lsn, replayed_lsn=lsn, upstream=False, canary_at=60.0, **change)
    return at_denver(cluster=picture, leader_absent_since=80.0, pg=pg)


def test_a_standby_that_has_less_than_it_had_does_not_take_the_lead():
    assert (rule(standby_alone(1_399)), effect(standby_alone(1_399))) == ("older-copy", None)


def test_a_standby_that_has_all_that_it_had_takes_the_lead_at_once():
    assert isinstance(effect(standby_alone(1_400)), Claim)


def test_a_standby_at_rest_replays_first():
    assert isinstance(effect(standby_alone(600, state=PgState.STOPPED)), StartStandby)


def test_a_recorded_leader_that_runs_in_recovery_replays_what_it_had_before_it_runs_for_the_lead():
    still, replayed = (
        alone(standby(incarnation=f"disk-{COLUMBUS}", received_lsn=n, replayed_lsn=n, canary_at=None))
        for n in (600, 500 + DAY)
    )
    assert rule(still) == "older-copy"
    assert isinstance(effect(replayed), Claim)
    at_rest_as_standby = alone(at_rest(was_primary=False))
    assert isinstance(effect(at_rest_as_standby), StartStandby)


def test_nothing_older_is_promoted():
    def leading(**change: Any) -> Facts:
        pg = standby(incarnation=f"disk-{COLUMBUS}", received_lsn=600, replayed_lsn=600, **change)
        return replace(leads_again(pg), lead_since=99.0)

    assert (rule(leading(since=99.0)), effect(leading(since=99.0))) == ("replay-before-promotion", None)
    stuck = replace(leading(since=10.0), lead_since=80.0)
    assert rule(stuck) == "give-up-unreplayed"
    full = replace(stuck, cluster=replace(stuck.cluster, reached=None), lead_since=99.0)
    assert isinstance(effect(full), Promote)


# -- what is recorded, by whom, how often --------


def recorded(**change: Any) -> RecordReached | None:
    values: dict[str, Any] = {"pg": primary(whole_lsn=990)}
    decided = effect(at_columbus(**(values | change)), Lane.REACHED)
    return decided if isinstance(decided, RecordReached) else None


BOTH = (at(COLUMBUS, 990), at(DENVER, 1_000))


def test_an_open_leader_records_the_ends_of_whole_records_of_itself_and_of_who_is_in_step():
    assert recorded() == RecordReached(nodes=BOTH)
    assert recorded(cluster=cluster(sync=entry(sync(COLUMBUS)))) == RecordReached(nodes=BOTH[:1])


def streams(**change: Any) -> StandbyFacts:
    values: dict[str, Any] = {
        "name": DENVER,
        "streaming": True,
        "flush_lsn": 1_000,
        "replay_lsn": 900,
        "moved_at": 100.0,
    }
    return StandbyFacts(**(values | change))


def test_of_a_standby_what_is_replayed_counts_and_of_two_by_one_name_nothing_does():
    assert recorded(pg=primary(whole_lsn=990, standbys=(streams(),))) == RecordReached(
        nodes=(at(COLUMBUS, 990), at(DENVER, 900))
    )
    for seen in ((streams(), streams()), (), (streams(streaming=False),), (streams(replay_lsn=400),)):
        facts = {"pg": primary(whole_lsn=990, standbys=seen)}
        assert recorded(**facts) == RecordReached(nodes=BOTH[:1])
        known = reached(at(DENVER, 700), term=2)
        assert recorded(**facts, cluster=cluster(reached=known)) == RecordReached(
            nodes=(BOTH[0], at(DENVER, 700))
        )


def test_it_is_written_once_a_second_and_only_when_somebody_has_come_further():
    known = cluster(reached=reached(at(COLUMBUS, 700), at(DENVER, 700)))
    assert recorded(cluster=known, reached_since=100.0 - EVERY + 0.1) is None
    assert recorded(cluster=known, reached_since=100.0 - EVERY) == RecordReached(nodes=BOTH)
    assert EVERY <= 1.0, "docs/failover.md says how old an image has to be that is known as one"
    assert recorded(cluster=cluster(reached=reached(*BOTH)), reached_since=10.0) is None


def test_what_another_leader_wrote_or_garbage_is_written_over_at_once():
    older = cluster(reached=reached(at(COLUMBUS, 1), term=2))
    assert recorded(cluster=older, reached_since=100.0) == RecordReached(nodes=BOTH)
    garbage = {"reached": Bad(why="does not decode", mod_revision=9, lease=0)}
    same = cluster(reached=reached(*BOTH), bad=garbage)
    assert recorded(cluster=same, reached_since=100.0) == RecordReached(nodes=BOTH)
    newer = {"reached": replace(garbage["reached"], newer=True)}
    assert recorded(cluster=cluster(bad=newer)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"pg": primary(whole_lsn=990, open_term=None)},
        {"pg": primary(whole_lsn=0)},
        {"etcd_heard_at": 90.0},
        {"lease": LeaseFacts(id=OUR_LEASE, ends_at=100.1)},
        {"cluster": cluster(swap=entry(swap(Phase.HELD)))},
        {"cluster": cluster(sync=entry(sync(COLUMBUS, DENVER, term=2)))},
        {"cluster": cluster(bad={"sync": Bad(why="garbage", mod_revision=9, lease=0)})},
    ],
)  # fmt: skip
def test_nobody_else_records_and_nobody_in_the_way_of_a_swap(change: dict[str, Any]):
    assert recorded(**change) is None


async def test_a_checkpoint_that_takes_its_time_keeps_no_record_waiting():
    """With a large memory it takes minutes: an image of that time would not be known as older."""
    begun: list[type[Effect]] = []
    both = asyncio.Event()

    async def takes_its_time(decided: Effect, _: Facts) -> None:
        begun.append(type(decided))
        if {Checkpoint, RecordReached} <= set(begun):
            both.set()
        await asyncio.Event().wait()

    promoted = at_columbus(pg=primary(whole_lsn=990, timeline=4, control_timeline=3, since=90.0))
    lanes = Lanes(takes_its_time, lambda: None, SystemClock())
    for lane in (Lane.UPKEEP, Lane.REACHED):
        lanes.offer(decide(lane, promoted), promoted)
    async with asyncio.timeout(5.0):
        await both.wait()
    await lanes.stop()


# -- what is believed --------


def believed(record: Any, before: Any = None, **change: Any) -> Snapshot:
    known = cluster(reached=before)
    return believe(known, cluster(reached=record, **change))


def test_a_position_out_of_all_proportion_is_not_believed_and_what_was_before_is():
    before = reached(at(DENVER, 700), mod_revision=5)
    for forged in (at(DENVER, 1_001 + FAR), at(DENVER, timeline=2_000)):
        seen = believed(reached(forged), before)
        assert "far beyond all that any node tells" in seen.bad["reached"].why
        assert seen.reached == before
    assert believed(reached(at(DENVER, FAR)), before).reached == reached(at(DENVER, FAR))


def test_another_clusters_record_or_one_of_a_term_to_come_is_not_believed():
    assert "is of the cluster 8: ours is 7" in believed(reached(system_id="8")).bad["reached"].why
    assert "is of term 4: the last one granted is 3" in believed(reached(term=4)).bad["reached"].why
    begun_anew = believe(Snapshot(), cluster(reached=reached(), initialize=entry(Initialize(system_id="9"))))
    assert begun_anew.reached is None


# -- what is written --------


def test_a_leader_writes_over_what_it_has_seen_and_nothing_that_is_late_is_applied():
    etcd = Etcd()
    late = etcd.writer().reached(BOTH, "7")
    assert etcd.apply(etcd.writer().reached(BOTH[:1], "7"))
    assert etcd.believed.reached is not None
    assert etcd.believed.reached.record == Reached(system_id="7", term=3, nodes=BOTH[:1])
    assert not etcd.apply(late)
    etcd.put("reached", b"garbage")
    assert etcd.believed.reached.record.nodes == BOTH[:1]
    assert "reached" in etcd.believed.bad
    assert etcd.apply(etcd.writer().reached(BOTH, "7"))
    assert not etcd.believed.bad


def test_whoever_does_not_lead_any_more_writes_nothing_and_the_record_outlives_its_lease():
    etcd = Etcd()
    assert etcd.apply(etcd.writer().reached(BOTH, "7"))
    late = etcd.writer().reached(BOTH[:1], "7")
    etcd.store.revoke(etcd.lease)
    assert not etcd.apply(late)
    assert etcd.now("reached", Reached) == Reached(system_id="7", term=3, nodes=BOTH)


def test_when_a_person_trusts_a_node_what_was_reached_counts_no_more():
    etcd = Etcd()
    assert etcd.apply(etcd.writer().reached(BOTH, "7"))
    etcd.store.revoke(etcd.lease)
    etcd.look()
    assert etcd.apply(etcd.writer().trust(Act(what=Deed.TRUSTED, by="anna", at=WALL), 4))
    assert etcd.believed.reached is None
    assert etcd.now("sync", Sync).opens_above == 4


def test_a_persons_word_outlives_a_rewrite_of_who_is_in_step():
    """Its leader takes its own term up again, and stops waiting for a standby before it has begun its own timeline."""
    etcd = Etcd()
    etcd.store.revoke(etcd.lease)
    etcd.look()
    assert etcd.apply(etcd.writer().trust(Act(what=Deed.TRUSTED, by="anna", at=WALL), 4))
    assert etcd.apply(etcd.writer().rewrite_sync(()))
    assert etcd.now("sync", Sync).opens_above == 4
    assert etcd.apply(etcd.mend("sync"))
    assert etcd.now("sync", Sync).opens_above == 4
    assert etcd.apply(etcd.writer().narrow())
    assert etcd.now("sync", Sync).opens_above is None


def test_it_is_remembered_since_when_the_record_is_as_it_is():
    memory = Memory()
    for now, revision in ((1.0, 6), (2.0, 6), (3.0, 7)):
        memory.look(now, cluster(reached=reached(mod_revision=revision)), primary(), COLUMBUS)
        assert memory.reached_since == {6: 1.0, 7: 3.0}[revision]


# -- how far a primary has come --------


def positions(*looks: tuple[int, int]) -> list[int]:
    """Flushed and inserted, look by look."""
    unused: Any = None
    monitor = Monitor(unused, unused, unused, unused, SystemClock(), FailoverSettings())
    found = []
    for flushed, inserted in looks:
        monitor.facts = replace(monitor.facts, whole_lsn=monitor._whole(flushed, inserted))
        found.append(monitor.facts.whole_lsn)
    return found


def test_the_end_of_a_record_is_what_was_inserted_at_the_last_look_if_it_is_flushed():
    assert positions((2_000, 2_100), (2_150, 2_300), (2_250, 2_400), (2_500, 2_600)) == [
        0,
        2_100,
        2_100,
        2_400,
    ]


def test_where_a_page_begins_its_header_is_no_record():
    assert positions((8_000, 8_192 + 24), (9_000, 9_000), (9_500, 9_600)) == [0, 0, 9_000]


async def test_giving_up_an_older_copy_takes_its_name_away_before_the_lead():
    done: list[str] = []

    class Own:
        async def end_at_once(self) -> None:
            done.append("ended")

        async def disown(self) -> None:
            done.append("disowned")

    class Records:
        def writer(self, _: Facts) -> Any:
            return SimpleNamespace(give_up=lambda: "given up")

        async def write(self, transaction: str) -> None:
            done.append(transaction)

    async def look() -> PgFacts:
        return at_rest()

    unused: Any = None
    own: Any = Own()
    records: Any = Records()
    executor = Executor(
        etcd=unused, scribe=records, postgres=own, bootstrapper=unused, steps=unused, row=unused, look=look,
        repaired=unused, proved=unused, hands_over=unused, clock=SystemClock(), settings=unused,
    )  # fmt: skip
    facts = leads_again(started(500))
    decided = effect(facts)
    assert decided is not None
    await executor.execute(decided, facts)
    assert done == ["ended", "disowned", "given up"]


# -- a person may accept the loss --------


DISOWNED = alone(at_rest(incarnation="another"))


def test_trust_is_possible_and_tells_what_is_lost():
    assert in_the_way_of_trust(DISOWNED) == ()
    told = "\n".join(comes_of_trust(DISOWNED))
    assert "columbus-a is recorded to have reached timeline 1, 0/578, 920 bytes more" in told
    assert evidence(DISOWNED)["sync"] == "it is believed"
    assert "0/578" in evidence(DISOWNED)["reached"]
    assert in_the_way_of_trust(standby_alone(600)) == ()


def test_trust_is_refused_while_another_is_heard_that_may_have_everything():
    facts = standby_alone(600)
    back = entry(member(COLUMBUS, received_lsn=1_500), OUR_LEASE)
    members = {**facts.cluster.members, COLUMBUS: back}
    refused = in_the_way_of_trust(replace(facts, cluster=replace(facts.cluster, members=members)))
    assert refused == ("columbus-a is heard, and may lead by the records: see `sitectl why`",)
    older = {**members, COLUMBUS: entry(member(COLUMBUS, received_lsn=1_499), OUR_LEASE)}
    assert in_the_way_of_trust(replace(facts, cluster=replace(facts.cluster, members=older))) == ()


def test_what_is_in_the_way_and_the_reasons_name_the_cure():
    for facts in (DISOWNED, standby_alone(600)):
        told = document(replace(facts, etcd_members=ALL_ANSWER))["site_lost"]
        assert told["would_lead"] == []
        assert "sitectl node trust" in " ".join(told["in_the_way"])
        state = AgentState(prefix="/", facts=facts, version="1")
        state.decisions[Lane.POSTGRES] = decide(Lane.POSTGRES, facts)
        assert "sitectl node trust" in " ".join(state.reasons)
        assert all(len(reason) <= 500 for reason in state.reasons)


def test_while_a_leader_lives_a_record_a_second_old_makes_nobody_an_older_copy():
    ahead = cluster(reached=reached(at(COLUMBUS, 2_000), at(DENVER, 1_900)))
    told = document(at_columbus(cluster=ahead, etcd_members=ALL_ANSWER))["site_lost"]
    assert told["would_lead"] == [DENVER]
