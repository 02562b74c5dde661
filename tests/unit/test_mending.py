"""What in etcd is not believed: which row writes it over, and that the write changes nothing but that very value."""

from dataclasses import replace
from typing import Any

import pytest

from sitecontrol.belief import believe
from sitecontrol.clock import SystemClock
from sitecontrol.etcd.api import Put
from sitecontrol.etcd.memory_store import MemoryStore
from sitecontrol.leadership.audit import Act
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Fence, Mend
from sitecontrol.leadership.facts import Facts, LeaseFacts, PgState
from sitecontrol.leadership.mending import STRAY_PATIENCE
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.records import Deed, Desired, Initialize, Leader, Phase, Record, Swap, Sync, Term
from sitecontrol.snapshot import Bad, Snapshot, read_all
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    WALL,
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

PREFIX = "/hotsite/test/"
SINGLE = ("initialize", "term", "leader", "sync", "swap", "desired")


def bad(*names: str) -> dict[str, Bad]:
    return {name: Bad(why="does not decode", mod_revision=9, lease=0) for name in names}


def with_bad(*names: str, **change: Any) -> Snapshot:
    return cluster(bad=bad(*names), **change)


def rule(facts: Facts, lane: Lane) -> str:
    return decide(lane, facts).rule


# -- the rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SINGLE)
def test_a_leader_serves_on_whatever_does_not_decode(name):
    assert rule(at_columbus(cluster=with_bad(name)), Lane.POSTGRES) == "leads"


@pytest.mark.parametrize("name", ["initialize", "term", "leader", "swap"])
def test_the_leader_writes_its_records_over(name):
    decided = decide(Lane.RECORDS, at_columbus(cluster=with_bad(name)))
    assert (decided.rule, decided.effect) == (f"mend-{name}", Mend(name=name))


def test_the_leader_writes_over_what_people_wanted_if_it_has_read_it():
    known = with_bad("desired", desired=entry(Desired()))
    assert rule(at_columbus(cluster=known), Lane.RECORDS) == "mend-desired"
    assert rule(at_columbus(cluster=with_bad("desired")), Lane.RECORDS) == "bad-records"


def test_what_people_want_counts_as_a_pause_until_it_was_read():
    assert at_columbus(cluster=with_bad("desired")).paused
    assert not at_columbus(cluster=with_bad("desired", desired=entry(Desired()))).paused


def test_sync_is_written_over_among_the_steps_with_those_alone_that_commits_wait_for():
    facts = at_columbus(cluster=with_bad("sync"))
    assert decide(Lane.STEP, facts).effect == Mend(name="sync", waited_for=(DENVER,))
    down = replace(facts, pg=primary(state=PgState.STOPPED))
    assert decide(Lane.STEP, down).effect == Mend(name="sync")


@pytest.mark.parametrize("name", ["term", "leader", "swap"])
def test_nobody_leaves_step_or_comes_in_while_a_record_is_bad(name):
    assert rule(at_columbus(cluster=with_bad(name)), Lane.STEP) == "awaits-mending"


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize(
    "lease", [LeaseFacts(id=OUR_LEASE, ends_at=100.1), LeaseFacts(id=77, ends_at=101.8), LeaseFacts()]
)
def test_who_cannot_prove_that_it_leads_writes_nothing_over(name, lease):
    facts = at_columbus(cluster=with_bad(name, desired=entry(Desired())), lease=lease)
    assert decide(Lane.RECORDS, facts).effect is None
    assert decide(Lane.STEP, facts).effect is None


@pytest.mark.parametrize("name", [*SINGLE, f"members/{DENVER}", "observations/witness"])
def test_a_standby_writes_nothing_over(name):
    facts = at_denver(cluster=with_bad(name))
    assert decide(Lane.RECORDS, facts).effect is None
    assert decide(Lane.STEP, facts).effect is None
    assert rule(facts, Lane.POSTGRES) == "follows"


def test_while_nobody_leads_the_one_who_may_writes_the_term_over():
    nobody = with_bad("term", leader=None)
    assert rule(at_denver(cluster=nobody), Lane.RECORDS) == "mend-term"
    barred = at_denver(cluster=replace(nobody, sync=entry(sync(COLUMBUS))))
    assert rule(barred, Lane.RECORDS) == "bad-records"


# -- nothing is elected on garbage ---------------------------------------------------------------------------------


def nobody_leads(*names: str, absent_for: float = 20.0, **change: Any) -> Facts:
    picture = with_bad(*names, leader=None, **change)
    return at_denver(
        cluster=picture, leader_absent_since=100.0 - absent_for, pg=standby(canary_at=60.0, upstream=False)
    )


def test_nobody_leads_while_it_is_not_known_who_is_in_step():
    assert rule(nobody_leads("sync"), Lane.POSTGRES) == "in-step-unknown"
    assert rule(nobody_leads("sync", sync=None), Lane.POSTGRES) == "in-step-unknown"


def test_whoever_led_has_a_moment_to_write_its_record_over():
    assert rule(nobody_leads("leader", absent_for=STRAY_PATIENCE - 1), Lane.POSTGRES) == "stray-leader"
    assert rule(nobody_leads("leader", absent_for=STRAY_PATIENCE + 1), Lane.POSTGRES) == "claim"


@pytest.mark.parametrize("name", ["initialize", "term"])
def test_records_that_were_never_read_are_named_and_nothing_is_made_anew(name):
    facts = at_columbus(cluster=with_bad(name, leader=None, **{name: None}))
    assert rule(facts, Lane.POSTGRES) == "records-unread"
    empty = at_columbus(
        cluster=Snapshot(read_at=100.0, bad=bad(name)), pg=primary(state=PgState.ABSENT, open_term=None)
    )
    assert rule(empty, Lane.POSTGRES) == "records-unread"


def test_a_leader_that_never_stopped_serving_takes_its_term_up_again_whatever_sync_says():
    facts = at_columbus(cluster=with_bad("sync", leader=None, sync=None))
    assert rule(facts, Lane.POSTGRES) == "reclaim"


def test_data_that_etcd_names_as_the_leaders_is_not_stopped_for_another_clusters_identifier():
    foreign = cluster(initialize=entry(Initialize(system_id="8")))
    assert rule(at_columbus(cluster=foreign), Lane.POSTGRES) == "leads"
    assert rule(at_columbus(cluster=foreign), Lane.RECORDS) == "mend-initialize"
    other = replace(foreign, leader=entry(leader(DENVER), 22))
    assert isinstance(decide(Lane.POSTGRES, at_columbus(cluster=other)).effect, Fence)


# -- what is written -----------------------------------------------------------------------------------------------


class Etcd:
    """A store with the records of a healthy cluster, and what Columbus believes of it."""

    def __init__(self) -> None:
        self.store = MemoryStore(SystemClock())
        self.lease = self.store.grant(600)
        self.believed = Snapshot()
        for name, record, lease in (
            ("initialize", Initialize(system_id="7"), 0),
            ("term", Term(term=3), 0),
            ("leader", leader(COLUMBUS), self.lease),
            ("sync", sync(COLUMBUS, DENVER), 0),
            ("swap", swap(Phase.CHECKED), 0),
            ("desired", Desired(paused=True), 0),
        ):
            self.put(name, record.encode(), lease)
        member = cluster().members[COLUMBUS].record
        self.put(f"members/{COLUMBUS}", member.encode(), self.lease)

    def put(self, name: str, value: bytes, lease: int = 0) -> None:
        self.store.txn((), (Put(key=PREFIX + name, value=value, lease=lease),), read_on_failure=False)
        self.look()

    def look(self) -> None:
        read = read_all(self.store.get_prefix(PREFIX), PREFIX)
        self.believed = replace(believe(self.believed, read), read_at=1.0)

    def writer(self) -> Writer:
        return Writer(
            prefix=PREFIX,
            cluster=self.believed,
            node=COLUMBUS,
            site="columbus",
            incarnation=f"disk-{COLUMBUS}",
            lease=self.lease,
        )

    def mend(self, name: str, *waited_for: str) -> Transaction:
        return self.writer().mend(name, system_id="7", waited_for=waited_for, at=WALL)

    def apply(self, transaction: Transaction) -> bool:
        done = self.store.txn(transaction.compares, transaction.writes, read_on_failure=False).succeeded
        self.look()
        return done

    def now(self, name: str, kind: type[Record]) -> Record:
        kv = self.store.get(PREFIX + name).one
        assert kv is not None
        return kind.decode(kv.value)


KINDS: dict[str, type[Record]] = {
    "initialize": Initialize,
    "term": Term,
    "leader": Leader,
    "sync": Sync,
    "swap": Swap,
    "desired": Desired,
}


@pytest.mark.parametrize("name", SINGLE)
def test_mending_writes_what_was_believed_and_tells_it_in_the_audit_log(name):
    etcd = Etcd()
    before = etcd.now(name, KINDS[name])
    etcd.put(name, b"garbage")
    assert etcd.apply(etcd.mend(name, DENVER))
    assert etcd.now(name, KINDS[name]) == before or name == "sync"
    assert not etcd.believed.bad
    assert etcd.believed.log_end.number == 1
    assert etcd.believed.leader is not None
    assert etcd.believed.leader.lease == etcd.lease


@pytest.mark.parametrize("name", SINGLE)
def test_two_bad_records_are_mended_one_after_the_other(name):
    etcd = Etcd()
    for each in SINGLE:
        etcd.put(each, b"garbage")
    for each in (name, *(other for other in SINGLE if other != name)):
        assert etcd.apply(etcd.mend(each, DENVER))
    assert not etcd.believed.bad


@pytest.mark.parametrize("name", SINGLE)
def test_a_mend_that_is_applied_late_changes_nothing(name):
    etcd = Etcd()
    etcd.put(name, b"garbage")
    late = etcd.mend(name)
    etcd.put(name, b"other garbage")
    assert not etcd.apply(late)


@pytest.mark.parametrize("name", ["term", "leader", "sync", "swap"])
def test_what_was_reasoned_from_a_value_that_was_overwritten_is_not_written(name):
    etcd = Etcd()
    etcd.put(name, b"garbage")
    for transaction in (etcd.writer().narrow(), etcd.writer().rewrite_sync(()), etcd.writer().give_up()):
        assert not etcd.apply(transaction)


@pytest.mark.parametrize("name", ["term", "sync"])
def test_nobody_takes_the_lead_by_a_value_that_was_overwritten(name):
    etcd = Etcd()
    etcd.store.revoke(etcd.lease)
    etcd.lease = etcd.store.grant(600)
    etcd.put(name, b"garbage")
    assert not etcd.apply(etcd.writer().claim("failover", {}, WALL))


def test_a_mended_sync_names_no_standby_that_commits_do_not_wait_for():
    etcd = Etcd()
    etcd.put("sync", b"garbage")
    assert etcd.apply(etcd.mend("sync"))
    mended = etcd.now("sync", Sync)
    assert isinstance(mended, Sync)
    assert (mended.leader, mended.standbys) == (COLUMBUS, ())


def test_an_identifier_that_only_the_data_contradicts_is_written_over():
    etcd = Etcd()
    etcd.believed = Snapshot()
    etcd.put("initialize", Initialize(system_id="8").encode())
    assert etcd.apply(etcd.mend("initialize"))
    assert etcd.now("initialize", Initialize) == Initialize(system_id="7")


def test_a_swap_that_was_never_read_ends():
    etcd = Etcd()
    etcd.believed = Snapshot()
    etcd.put("swap", b"garbage")
    assert etcd.apply(etcd.mend("swap"))
    assert etcd.store.get(PREFIX + "swap").one is None


def test_whoever_takes_the_lead_writes_over_a_stray_leader():
    etcd = Etcd()
    etcd.store.revoke(etcd.lease)
    etcd.lease = etcd.store.grant(600)
    etcd.put("leader", leader(DENVER).encode())
    assert etcd.believed.leader is None
    assert etcd.apply(etcd.writer().claim("failover", {}, WALL))
    assert etcd.believed.leader is not None


def test_a_person_can_say_again_what_was_overwritten():
    etcd = Etcd()
    etcd.put("desired", b"garbage")
    act = Act(what=Deed.RESUMED, by="anna", at=WALL)
    assert etcd.apply(etcd.writer().want(Desired(), act))
    assert not etcd.believed.bad
