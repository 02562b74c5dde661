"""A record that says a later version wrote it: kept while an agent of one is about, and garbage when there is none."""

from typing import Any
from unittest.mock import patch

import pytest

from sitecontrol import records, snapshot
from sitecontrol.agent.memory import Memory
from sitecontrol.etcd.api import KeyValue
from sitecontrol.frozen import replace
from sitecontrol.leadership.audit import Act
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Claim, Leave, Mend
from sitecontrol.leadership.facts import LATER_VERSION_PATIENCE, Facts, LeaseFacts, PgState
from sitecontrol.leadership.mending import STRAY_PATIENCE
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.trusting import in_the_way_of_trust
from sitecontrol.records import BEGINS_ANEW, FORMAT, Deed, Desired, NewerRecord, Role, Sync
from sitecontrol.snapshot import Bad, Snapshot, put
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
    member,
    primary,
    standby,
    sync,
)
from tests.unit.test_mending import Etcd

SINGLE = ("initialize", "term", "leader", "sync", "swap", "desired")
LATER = FORMAT + 1
UNREAD = b'{"format": %d}' % LATER


def newer(name: str, **change: Any) -> Snapshot:
    bad = {name: Bad(why="of a later format", mod_revision=9, lease=0, newer=True)}
    return cluster(**({"desired": entry(Desired()), "bad": bad} | change))


def beside(denver: str, picture: Snapshot) -> Snapshot:
    """With Denver's agent of a version that writes a later format: in its own record, too, or not."""
    if denver == "tells it":
        told = entry(member(DENVER, writes_format=LATER), THEIR_LEASE)
        return replace(picture, members={**picture.members, DENVER: told})
    value = KeyValue(key="", value=UNREAD, create_revision=1, mod_revision=8, lease=THEIR_LEASE)
    return put(picture, f"members/{DENVER}", value)


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
    value = KeyValue(key="", value=UNREAD, create_revision=1, mod_revision=8, lease=0)
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


# -- the first record that an earlier version must not read: `sync` by a person's word --------


def test_a_persons_word_is_not_read_by_a_version_that_would_miss_what_it_asks_for():
    told = sync(COLUMBUS)
    by_word = told.model_copy(update={"opens_above": 4})
    assert Sync.decode(by_word.encode()) == by_word
    with patch.object(records, "FORMAT", 1):
        assert Sync.decode(told.encode()) == told
        with pytest.raises(NewerRecord, match="a later version wrote it"):
            Sync.decode(by_word.encode())
    assert Sync.decode(by_word.model_dump_json().encode()) == by_word, (
        "as it was written before it had a format"
    )


def test_beside_a_persons_word_an_agent_of_an_earlier_version_elects_nobody_and_writes_nothing_over():
    """It believes what it believed before, by which it may lead, and what it writes compares that."""
    etcd, ours = Etcd(), Etcd()
    ours.store = etcd.store
    etcd.store.revoke(etcd.lease)
    etcd.lease = etcd.store.grant(600)
    ours.lease = etcd.store.grant(600)
    told = member(DENVER, writes_format=BEGINS_ANEW)
    etcd.put(f"members/{DENVER}", told.encode(), ours.lease)
    for each in (etcd, ours):
        each.look()
    denver = replace(ours.writer(), node=DENVER, site="denver", incarnation=f"disk-{DENVER}")
    assert ours.apply(denver.trust(Act(what=Deed.TRUSTED, by="anna", at=WALL), 4))
    with patch.object(records, "FORMAT", 1), patch.object(snapshot, "FORMAT", 1):
        etcd.look()
        assert etcd.believed.bad["sync"].newer
        lease = LeaseFacts(id=etcd.lease, ends_at=101.8)
        pg = primary(state=PgState.STOPPED, open_term=None)
        facts = at_columbus(cluster=etcd.believed, leader_absent_since=50.0, lease=lease, pg=pg)
        assert facts.may_lead, "by what it believed before"
        assert decide(Lane.POSTGRES, facts).rule == "in-step-unknown"
        assert not mends(facts)
        assert not etcd.apply(etcd.writer().claim("failover", {}, WALL))
    ours.look()
    assert ours.now("sync", Sync).opens_above == 4
