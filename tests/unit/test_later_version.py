"""A record that says a later version wrote it: kept while an agent of one is about, and garbage when there is none."""

from typing import Any

import pytest

from sitecontrol.agent.memory import Memory
from sitecontrol.etcd.api import KeyValue
from sitecontrol.frozen import replace
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Claim, Leave, Mend
from sitecontrol.leadership.facts import LATER_VERSION_PATIENCE, Facts
from sitecontrol.leadership.mending import STRAY_PATIENCE
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.trusting import in_the_way_of_trust
from sitecontrol.records import FORMAT, Desired, Role
from sitecontrol.snapshot import Bad, Snapshot, put
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    THEIR_LEASE,
    at_columbus,
    at_denver,
    cluster,
    entry,
    member,
    primary,
    standby,
)

SINGLE = ("initialize", "term", "leader", "sync", "swap", "desired")
LATER = FORMAT + 1


def newer(name: str, **change: Any) -> Snapshot:
    bad = {name: Bad(why="format 2", mod_revision=9, lease=0, newer=True)}
    return cluster(**({"desired": entry(Desired()), "bad": bad} | change))


def beside(denver: str, snapshot: Snapshot) -> Snapshot:
    """With Denver's agent of a version that writes a later format: in its own record, too, or not."""
    if denver == "tells it":
        told = entry(member(DENVER, writes_format=LATER), THEIR_LEASE)
        return replace(snapshot, members={**snapshot.members, DENVER: told})
    value = KeyValue(key="", value=b'{"format": 2}', create_revision=1, mod_revision=8, lease=THEIR_LEASE)
    return put(snapshot, f"members/{DENVER}", value)


def mends(facts: Facts) -> bool:
    return any(isinstance(decide(lane, facts).effect, Mend) for lane in (Lane.RECORDS, Lane.STEP))


@pytest.mark.parametrize("name", SINGLE)
def test_it_is_written_over_where_no_later_version_is_heard(name: str):
    facts = at_columbus(cluster=newer(name))
    assert mends(facts)
    assert mends(replace(facts, later_version_at=facts.now - LATER_VERSION_PATIENCE - 0.1))


@pytest.mark.parametrize("denver", ["tells it", "is of it"])
@pytest.mark.parametrize("name", SINGLE)
def test_it_is_kept_while_an_agent_of_a_later_version_lives(name: str, denver: str):
    facts = at_columbus(cluster=beside(denver, newer(name)), now=100.0)
    assert decide(Lane.POSTGRES, facts).rule == "leads"
    assert decide(Lane.RECORDS, facts).effect is None
    assert decide(Lane.STEP, facts).effect is None


@pytest.mark.parametrize("name", SINGLE)
def test_it_is_kept_while_such_an_agent_may_be_starting_again(name: str):
    facts = at_columbus(cluster=newer(name), later_version_at=100.0 - LATER_VERSION_PATIENCE)
    assert not mends(facts)


@pytest.mark.parametrize("name", ["sync", "term", "swap"])
def test_a_lost_standby_leaves_step_though_one_value_said_that_a_later_version_wrote_it(name: str):
    """Commits would wait for ever: nothing else writes such a value over."""
    gone = {COLUMBUS: entry(member(COLUMBUS, role=Role.LEADER), OUR_LEASE)}
    facts = at_columbus(cluster=newer(name, members=gone), pg=primary(standbys=()))
    lane = Lane.STEP if name == "sync" else Lane.RECORDS
    assert decide(lane, facts).effect is not None
    assert mends(facts)
    mended = replace(facts, cluster=replace(facts.cluster, bad={}))
    assert isinstance(decide(Lane.STEP, mended).effect, Leave)


def test_who_takes_the_lead_beside_such_a_swap_ends_it_before_opening():
    alone = {DENVER: entry(member(DENVER), THEIR_LEASE)}
    dead = at_denver(cluster=newer("swap", leader=None, members=alone), pg=standby(canary_at=90.0))
    assert isinstance(decide(Lane.POSTGRES, dead).effect, Claim)
    led = replace(dead, cluster=newer("swap", leader=replace(cluster().leader, lease=THEIR_LEASE)))
    assert decide(Lane.RECORDS, led).effect == Mend(name="swap")


@pytest.mark.parametrize("denver", ["tells it", "is of it"])
def test_nobody_takes_the_lead_over_a_leader_of_a_later_version(denver: str):
    waited = 100.0 - STRAY_PATIENCE - 0.1
    at = newer("leader", leader=None)
    facts = at_columbus(cluster=at, leader_absent_since=waited, pg=primary(open_term=None, canary_at=90.0))
    assert decide(Lane.POSTGRES, facts).rule == "claim"
    assert decide(Lane.POSTGRES, replace(facts, cluster=beside(denver, at))).rule == "stray-leader"


def test_a_person_may_say_who_holds_everything_once_no_later_version_is_heard():
    at = newer("sync", leader=None, members={DENVER: entry(member(DENVER), THEIR_LEASE)})
    facts = at_denver(cluster=at, pg=standby(canary_at=90.0))
    assert in_the_way_of_trust(facts) == ()
    assert "a later version" in "; ".join(in_the_way_of_trust(replace(facts, later_version_at=95.0)))


def test_a_record_without_a_lease_is_no_agents_word():
    value = KeyValue(key="", value=b'{"format": 2}', create_revision=1, mod_revision=8, lease=0)
    assert not put(cluster(), "members/nobody", value).tells_of_later_version


def test_an_agent_that_was_just_started_waits_for_one_that_may_have_been_there():
    memory = Memory()
    memory.look(40.0, Snapshot(), primary(), COLUMBUS)
    assert memory.later_version_at is None
    memory.look(50.0, cluster(), primary(), COLUMBUS)
    memory.look(60.0, cluster(), primary(), COLUMBUS)
    assert memory.later_version_at == 50.0
    memory.look(70.0, beside("tells it", cluster()), primary(), COLUMBUS)
    memory.look(71.0, cluster(), primary(), COLUMBUS)
    assert memory.later_version_at == 70.0
