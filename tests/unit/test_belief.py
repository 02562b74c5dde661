"""What is believed of etcd: a story of writes by key, judged revision by revision as an agent would."""

import json
from dataclasses import replace

import pytest

from sitecontrol.belief import believe, newly_bad
from sitecontrol.etcd.api import KeyValue
from sitecontrol.records import (
    FORMAT,
    Desired,
    DispatcherRecord,
    HistoryEntry,
    Initialize,
    Observation,
    Phase,
    Record,
    Term,
)
from sitecontrol.snapshot import Bad, Snapshot, put, remove
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    SITE_OF,
    THEIR_LEASE,
    WALL,
    leader,
    member,
    swap,
    sync,
)

NOBODYS_LEASE = 99
GARBAGE = (
    b"",
    b"\x00\xff\xfe",
    b"null",
    b"[]",
    b"{}",
    b"{",
    b"[" * 60_000,
    b'"' + b"x" * 100_000 + b'"',
    b'{"term": "three"}',
    b'{"term": "3"}',
    b'{"term": true}',
    b'{"term": 3.5}',
    b'{"term": -1}',
    b'{"term": 0}',
    b'{"term": 100000000000000000000000000000000000000000}',
    b'{"term": NaN}',
    b'{"term": 1e400}',
)


class Story:
    """Columbus leads term 3 with Denver in step; then whatever is written, one revision at a time."""

    def __init__(self, *, known: bool = True) -> None:
        self._revision = 10
        self._read = Snapshot()
        self.believed = Snapshot()
        for name, record, lease in (
            ("initialize", Initialize(system_id="7"), 0),
            ("history/0000000003", began(3, COLUMBUS), 0),
            ("term", Term(term=3), 0),
            ("leader", leader(COLUMBUS), OUR_LEASE),
            ("sync", sync(COLUMBUS, DENVER), 0),
            (f"members/{COLUMBUS}", member(COLUMBUS), OUR_LEASE),
            (f"members/{DENVER}", member(DENVER), THEIR_LEASE),
            ("desired", Desired(paused=True), 0),
        ):
            self._set(name, record.encode(), lease)
        if known:
            self.look()

    def _set(self, name: str, value: bytes, lease: int) -> None:
        self._revision += 1
        kv = KeyValue(key=name, value=value, create_revision=1, mod_revision=self._revision, lease=lease)
        self._read = replace(put(self._read, name, kv), revision=self._revision)

    def look(self) -> Snapshot:
        self.believed = replace(believe(self.believed, self._read), read_at=1.0)
        return self.believed

    def write(self, *, lease: int = 0, **values: Record | bytes) -> Snapshot:
        """All of these by one transaction."""
        for name, value in values.items():
            self._set(name, value if isinstance(value, bytes) else value.encode(), lease)
        return self.look()

    def write_at(self, name: str, value: Record | bytes, lease: int = 0) -> Snapshot:
        self._set(name, value if isinstance(value, bytes) else value.encode(), lease)
        return self.look()

    def delete(self, *names: str) -> Snapshot:
        self._revision += 1
        for name in names:
            self._read = remove(self._read, name)
        self._read = replace(self._read, revision=self._revision)
        return self.look()


def began(term: int, node: str) -> HistoryEntry:
    return HistoryEntry(
        term=term, node=node, site=SITE_OF[node], at=WALL, kind="failover", by=f"agent {node}"
    )


def test_a_cluster_that_is_well_is_believed_as_it_is():
    story = Story()
    assert not story.believed.bad
    assert story.believed.leader is not None


# -- what does not decode ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["initialize", "term", "leader", "sync", "desired"])
@pytest.mark.parametrize("value", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_leaves_the_last_good_value_believed_and_is_named(name, value):
    story = Story()
    before = getattr(story.believed, name)
    after = story.write_at(name, value)
    assert getattr(after, name) == before
    assert list(after.bad) == [name]
    assert len(after.bad[name].why) <= 300


def test_a_swap_in_progress_outlives_garbage():
    story = Story()
    known = story.write(swap=swap(Phase.HELD)).swap
    assert story.write(swap=b"garbage").swap == known


@pytest.mark.parametrize("value", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_under_a_members_key_is_no_member(value):
    after = Story().write_at(f"members/{DENVER}", value, THEIR_LEASE)
    assert set(after.members) == {COLUMBUS}
    assert list(after.bad) == [f"members/{DENVER}"]


@pytest.mark.parametrize("folder", ["dispatchers", "observations", "history"])
def test_garbage_elsewhere_is_named_and_changes_nothing_else(folder):
    story = Story()
    before = story.believed
    after = story.write_at(f"{folder}/x", b"garbage")
    assert list(after.bad) == [f"{folder}/x"]
    assert (after.leader, after.term, after.sync) == (before.leader, before.term, before.sync)


READY = DispatcherRecord(name="denver-1", site="denver", ready=True, links=1, links_up=1)
SEEN = Observation(place="witness", at=WALL, blind=False, fit={"columbus": False})


@pytest.mark.parametrize(
    ("name", "record"), [("dispatchers/denver-1", READY), ("observations/witness", SEEN)]
)
def test_a_dispatchers_or_a_daemons_word_without_a_lease_counts_nothing_and_is_named(
    name: str, record: Record
):
    """Nothing would take it away: what a process left behind would count for ever."""
    folder, _, rest = name.partition("/")
    story = Story()
    assert rest in getattr(story.write_at(name, record, NOBODYS_LEASE), folder)
    after = story.write_at(name, record)
    assert getattr(after, folder) == {}
    assert list(after.bad) == [name]
    assert "is bound to no lease" in after.bad[name].why
    again = story.write_at(name, record, NOBODYS_LEASE)
    assert (list(getattr(again, folder)), dict(again.bad)) == ([rest], {})


def test_what_was_mended_is_bad_no_more():
    story = Story()
    story.write(term=b"garbage")
    assert not story.write(term=Term(term=3)).bad


def test_a_store_that_began_anew_is_not_judged_by_the_one_before():
    story = Story()
    fresh = replace(
        put(
            Snapshot(),
            "term",
            KeyValue(key="term", value=b"garbage", create_revision=1, mod_revision=2, lease=0),
        ),
        revision=2,
    )
    assert believe(story.believed, fresh).term is None


def test_only_what_was_not_told_yet_is_new():
    one = Bad(why="a", mod_revision=1, lease=0)
    other = Bad(why="b", mod_revision=2, lease=0)
    assert newly_bad({"term": one}, {"term": one, "sync": other}) == {"sync": other}
    assert newly_bad({"term": one}, {"term": other}) == {"term": other}


# -- the leader ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lease", [0, NOBODYS_LEASE, THEIR_LEASE])
@pytest.mark.parametrize("node", [COLUMBUS, DENVER])
@pytest.mark.parametrize("term", [2, 3, 4])
def test_a_forged_leader_takes_the_lead_from_nobody(lease, node, term):
    story = Story()
    before = story.believed.leader
    after = story.write(leader=leader(node, term), lease=lease)
    assert after.leader == before
    assert "leader" in after.bad


@pytest.mark.parametrize("value", [b"garbage", leader(DENVER, 3)])
def test_a_leader_that_was_overwritten_is_believed_until_its_lease_has_run_out(value):
    story = Story()
    assert story.write(leader=value).leader is not None
    after = story.delete(f"members/{COLUMBUS}")
    assert after.leader is None
    assert "leader" in after.bad


def test_a_leader_without_a_lease_is_none_to_an_agent_that_just_started_either():
    story = Story(known=False)
    after = story.write(leader=leader(COLUMBUS))
    assert after.leader is None
    assert "bound to no lease" in after.bad["leader"].why


def test_who_takes_the_next_term_by_the_lease_of_its_agent_leads():
    story = Story()
    story._set("term", Term(term=4).encode(), 0)
    story._set("history/0000000004", began(4, DENVER).encode(), 0)
    after = story.write(leader=leader(DENVER, 4), lease=THEIR_LEASE)
    assert after.leader is not None
    assert after.leader.record.node == DENVER
    assert not after.bad


def test_a_leader_with_a_new_lease_takes_its_term_up_again_before_its_agent_has_told_of_itself():
    story = Story()
    story.delete("leader", f"members/{COLUMBUS}", f"members/{DENVER}")  # etcd has lost all leases
    after = story.write(leader=leader(COLUMBUS), lease=NOBODYS_LEASE)
    assert after.leader is not None
    assert not after.bad


def test_a_leader_that_is_believed_stays_so_while_its_members_record_is_bad():
    story = Story()
    after = story.write_at(f"members/{COLUMBUS}", b"garbage")
    assert after.leader is not None
    assert list(after.bad) == [f"members/{COLUMBUS}"]


# -- the term ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forged", [1, 2, 4, 9_999_999_999])
def test_a_term_that_is_not_the_leaders_is_not_believed(forged):
    for story in (Story(), Story(known=False)):
        after = story.write(term=Term(term=forged))
        assert after.term is not None
        assert after.term.record.term == 3
        assert list(after.bad) == ["term"]


@pytest.mark.parametrize("forged", [Term(term=1), Term(term=2), Term(term=77), b"garbage"])
def test_while_nobody_leads_the_history_tells_the_term(forged):
    for story in (Story(), Story(known=False)):
        story.delete("leader")
        after = story.write(term=forged)
        assert after.term is not None
        assert after.term.record.term == 3


def test_a_term_whose_entry_of_the_history_is_bad_was_granted_all_the_same():
    story = Story(known=False)
    story.write_at("history/0000000004", b"garbage")
    story.delete("leader")
    after = story.write(term=b"garbage")
    assert after.term is not None
    assert after.term.record.term == 4


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("forged", [b"garbage", began(4, DENVER)])
def test_a_key_of_the_history_that_is_out_of_all_proportion_tells_of_no_term(known, forged):
    """A lead that is given up changes `term` while nobody leads; after the last term nobody could take it."""
    story = Story(known=known)
    story.write_at("history/9999999999", forged)
    story.delete("leader")
    after = story.write(term=Term(term=3, released_by=COLUMBUS))
    assert after.term is not None
    assert after.term.record == Term(term=3, released_by=COLUMBUS)
    assert "term" not in after.bad


def test_a_term_that_vanishes_while_a_node_leads_stays_believed():
    after = Story().delete("term")
    assert after.term is not None
    assert after.bad["term"].mod_revision == 0


def test_of_an_etcd_that_lost_everything_nothing_is_believed():
    after = Story().delete("initialize", "term", "leader", "sync", "desired", "history/0000000003")
    assert (after.initialize, after.term, after.leader, after.sync) == (None, None, None, None)
    assert not after.bad


# -- who is in step, and whose cluster it is -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "forged", [sync(DENVER, term=3), sync(DENVER, COLUMBUS, term=9), sync(COLUMBUS, DENVER, term=2)]
)
def test_a_sync_that_contradicts_the_term_is_not_believed(forged):
    story = Story()
    before = story.believed.sync
    after = story.write(sync=forged)
    assert after.sync == before
    assert list(after.bad) == ["sync"]


def test_the_leaders_own_words_of_who_is_in_step_are_believed():
    after = Story().write(sync=sync(COLUMBUS))
    assert after.sync is not None
    assert after.sync.record.standbys == ()
    assert not after.bad


def test_another_clusters_identifier_is_not_believed():
    after = Story().write(initialize=Initialize(system_id="8"))
    assert after.initialize is not None
    assert after.initialize.record.system_id == "7"
    assert "names the cluster 8" in after.bad["initialize"].why


def test_a_member_under_another_nodes_name_or_without_a_lease_is_none():
    story = Story()
    assert COLUMBUS not in story.write_at(f"members/{COLUMBUS}", member(DENVER), OUR_LEASE).members
    assert DENVER not in story.write_at(f"members/{DENVER}", member(DENVER)).members


# -- two versions side by side -------------------------------------------------------------------------------------


def later(record: Record, **more: object) -> bytes:
    return json.dumps({**json.loads(record.encode()), **more}).encode()


@pytest.mark.parametrize("more", [{"colour": "blue"}, {"deep": {"er": [1, 2]}}, {"format": 1}])
def test_fields_of_the_next_version_are_ignored(more):
    after = Story().write(sync=later(sync(COLUMBUS), **more))
    assert after.sync is not None
    assert after.sync.record == sync(COLUMBUS)
    assert not after.bad


def test_fields_of_the_next_version_are_ignored_also_within():
    value = json.loads(sync(COLUMBUS, DENVER).encode())
    value["standbys"][0]["weight"] = 3
    after = Story().write(sync=json.dumps(value).encode())
    assert after.sync is not None
    assert after.sync.record == sync(COLUMBUS, DENVER)


def test_a_record_of_the_version_before_which_knew_fewer_fields_is_believed():
    value = json.loads(member(DENVER).encode())
    assert "failover" not in value
    del value["version"]
    assert DENVER in Story().write_at(f"members/{DENVER}", json.dumps(value).encode(), THEIR_LEASE).members


@pytest.mark.parametrize("name", ["initialize", "term", "leader", "sync", "desired"])
def test_a_newer_format_is_refused_with_what_to_do_and_not_ours_to_write_over(name):
    story = Story()
    before = getattr(story.believed, name)
    after = story.write_at(name, later(before.record, format=FORMAT + 1), OUR_LEASE)
    assert getattr(after, name) == before
    assert after.bad[name].newer
    assert "Upgrade this node" in after.bad[name].why


@pytest.mark.parametrize("told", [0.5, "2", None, [], True])
def test_a_format_that_is_no_number_is_garbage(told):
    after = Story().write(term=later(Term(term=3), format=told))
    assert not after.bad["term"].newer


def test_an_agent_that_was_just_started_misses_what_stays_for_ever_while_somebody_leads():
    """It never saw it; but whoever leads had it, and must know to write it anew: else nobody would."""
    for name in ("initialize", "term"):
        assert Story(known=False).delete(name).bad[name].why == "is gone, while a node leads"
    told = Story(known=False).delete("term").term
    assert told is not None
    assert told.record == Term(term=3), "the leader's record tells it"
