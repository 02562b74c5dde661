"""Who was given the lead by a person's word opens on a timeline of its own."""

from dataclasses import replace

from sitecontrol.leadership.effects import Fence, Open, Promote, StartStandby
from sitecontrol.leadership.facts import Facts, PgFacts, PgState
from sitecontrol.leadership.steps import joinable
from sitecontrol.leadership.trusting import in_the_way_of_trust
from sitecontrol.records import Sync
from sitecontrol.snapshot import Bad
from tests.unit.decided import effect, rule
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    THEIR_LEASE,
    at_columbus,
    cluster,
    entry,
    member,
    primary,
    standby,
    sync,
)

DISK = primary().incarnation


def trusted(pg: PgFacts, above: int | None = 1) -> Facts:
    """It has just taken the lead, in term 3, after a word that was given in term 2."""
    named: Sync = sync(COLUMBUS, term=2).model_copy(update={"opens_above": above})
    return at_columbus(cluster=cluster(sync=entry(named)), pg=pg, lead_since=99.5)


def test_what_was_a_primary_is_started_in_recovery_and_promoted_and_opens_then():
    stopped = primary(state=PgState.STOPPED, open_term=None, down_since=99.0)
    assert effect(trusted(stopped)) == StartStandby(leader=COLUMBUS)
    recovering = standby(incarnation=DISK, upstream=False, since=99.9)
    assert effect(trusted(recovering)) == Promote()
    promoted = primary(timeline=2, open_term=None)
    assert rule(trusted(promoted)) == "narrow"
    narrowed = replace(trusted(promoted), cluster=cluster(sync=entry(sync(COLUMBUS))))
    assert isinstance(effect(replace(narrowed, pg=replace(promoted, names=()))), Open)


def test_who_never_stopped_serving_is_not_told_to_begin_anew():
    """It takes its term up again in a moment, over whatever stands under `sync`; that word would end it first."""
    unread = replace(
        cluster(leader=None, sync=None), bad={"sync": Bad(why="garbage", mod_revision=9, lease=0)}
    )
    serving = at_columbus(cluster=unread, pg=primary())
    assert rule(serving) == "reclaim"
    assert any("serves" in obstacle for obstacle in in_the_way_of_trust(serving))
    closed = replace(serving, pg=primary(state=PgState.STOPPED, open_term=None, down_since=90.0))
    assert in_the_way_of_trust(closed) == ()


def test_one_that_cannot_be_started_in_recovery_names_the_way_out_and_never_opens_on_the_old_timeline():
    failed = primary(
        state=PgState.STOPPED, open_term=None, down_since=90.0, failed_starts=2, start_failed_at=97.9
    )
    facts = trusted(failed)
    assert (rule(facts), effect(facts)) == ("recovers-in-vain", StartStandby(leader=COLUMBUS))
    assert effect(replace(facts, etcd_heard_at=50.0)) == StartStandby(leader=COLUMBUS)


def test_a_primary_that_runs_is_ended_first_and_lets_nobody_in():
    assert isinstance(effect(trusted(primary(open_term=None))), Fence)


def test_without_such_a_word_a_primary_is_started_again_in_place():
    stopped = primary(state=PgState.STOPPED, open_term=None, down_since=99.9)
    assert rule(trusted(stopped, above=None)) == "restart-in-place"


def test_who_is_not_on_our_timeline_yet_does_not_come_into_step():
    """It has more of the one before: PostgreSQL streams to it up to the fork, and what it has flushed is not ours."""
    ours = primary(timeline=2, names=(), remote_in_step=())
    told = {number: entry(member(DENVER, timeline=number), THEIR_LEASE) for number in (1, 2)}
    found = [
        joinable(at_columbus(cluster=cluster(sync=entry(sync(COLUMBUS)), members={DENVER: record}), pg=ours))
        for record in told.values()
    ]
    assert found == [None, DENVER]
