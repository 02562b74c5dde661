"""A hand-over goes to the very agent that it was decided on, and its record may be written anew meanwhile."""

from sitecontrol.etcd.api import Delete, Put
from sitecontrol.etcd.memory_store import MemoryStore
from sitecontrol.leadership.transactions import Writer
from sitecontrol.records import Leader, Phase, Term
from sitecontrol.snapshot import Snapshot, read_all
from tests.unit.held_clock import HeldClock
from tests.unit.leadership_facts import COLUMBUS, DENVER, WALL, leader, member, swap, sync

PREFIX = "/hotsite/test/"


class Etcd:
    """Columbus has shut down clean, for a swap to Denver."""

    def __init__(self) -> None:
        self.store = MemoryStore(HeldClock())
        self.ours, self.theirs = self.store.grant(600), self.store.grant(600)
        for name, record, lease in (
            ("leader", leader(COLUMBUS), self.ours),
            ("term", Term(term=3), 0),
            ("sync", sync(COLUMBUS, DENVER), 0),
            ("swap", swap(Phase.HELD), 0),
        ):
            self.put(name, record.encode(), lease)
        self.denver_tells(self.theirs)
        self.decided_on = self.now()

    def put(self, name: str, value: bytes, lease: int = 0) -> None:
        self.store.txn((), (Put(key=PREFIX + name, value=value, lease=lease),), read_on_failure=False)

    def delete(self, name: str) -> None:
        self.store.txn((), (Delete(key=PREFIX + name),), read_on_failure=False)

    def denver_tells(self, lease: int, **change: object) -> None:
        self.put(f"members/{DENVER}", member(DENVER, **change).encode(), lease)

    def now(self) -> Snapshot:
        return read_all(self.store.get_prefix(PREFIX), PREFIX)

    def hand_over(self) -> bool:
        writer = Writer(
            prefix=PREFIX,
            cluster=self.decided_on,
            node=COLUMBUS,
            site="columbus",
            incarnation=f"disk-{COLUMBUS}",
            lease=self.ours,
        )
        handed = writer.hand_over(
            swap(Phase.HELD),
            target=self.decided_on.members[DENVER],
            incarnation=f"disk-{DENVER}",
            site="denver",
            own_timeline=1,
            shutdown_lsn=9,
            at=WALL,
        )
        return self.store.txn(handed.compares, handed.writes, read_on_failure=False).succeeded


def test_the_target_may_tell_of_itself_meanwhile():
    etcd = Etcd()
    etcd.denver_tells(etcd.theirs, received_lsn=2_000)
    assert etcd.hand_over()
    handed = etcd.now().leader
    assert handed is not None
    assert isinstance(handed.record, Leader)
    assert (handed.record.node, handed.lease) == (DENVER, etcd.theirs)


def test_nothing_is_handed_to_an_agent_that_was_started_anew_meanwhile():
    """Its lease may live on in another process: one that has the same name and another data directory."""
    etcd = Etcd()
    anew = etcd.store.grant(600)
    etcd.store.revoke(etcd.theirs)
    etcd.theirs = anew
    etcd.denver_tells(anew, incarnation="another disk")
    assert not etcd.hand_over()


def test_nothing_is_handed_over_by_a_record_that_was_taken_away_or_bound_to_another_lease():
    gone, bound_anew, written_anew = Etcd(), Etcd(), Etcd()
    name = f"members/{DENVER}"
    gone.delete(name)
    assert not gone.hand_over()
    bound_anew.denver_tells(bound_anew.store.grant(600))
    assert not bound_anew.hand_over()
    written_anew.delete(name)
    written_anew.denver_tells(written_anew.theirs)
    assert not written_anew.hand_over()
