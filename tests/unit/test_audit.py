"""The audit log: what stands in it, and that whatever is done to it afterwards is found."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sitecontrol.etcd.api import Delete, KeyValue, Put
from sitecontrol.etcd.memory_store import MemoryStore
from sitecontrol.leadership import audit
from sitecontrol.leadership.audit import Act, Flaw
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.records import AuditEntry, Deed, Desired, HistoryEntry, Phase, Swap
from sitecontrol.snapshot import LAST_NUMBER
from sitecontrol.view import Snapshot, read_all
from tests.unit.held_clock import HeldClock
from tests.unit.leadership_facts import COLUMBUS, DENVER, WALL, leader, member, sync

PREFIX = "/hotsite/test/"


class Log:
    """A cluster's records in memory, written as the agents write them."""

    def __init__(self) -> None:
        self.store = MemoryStore(HeldClock())
        self.lease = self.store.grant(60)

    @property
    def kvs(self) -> tuple[KeyValue, ...]:
        return self.store.get_prefix(PREFIX).kvs

    @property
    def snapshot(self) -> Snapshot:
        return read_all(self.store.get_prefix(PREFIX), PREFIX)

    @property
    def flaws(self) -> tuple[Flaw, ...]:
        return audit.flaws(self.kvs, PREFIX)

    @property
    def entries(self) -> list[dict[str, Any]]:
        return list(audit.document(self.kvs, PREFIX)["audit"])

    def writer(self, node: str = COLUMBUS) -> Writer:
        return Writer(
            prefix=PREFIX,
            cluster=self.snapshot,
            node=node,
            site=node.removesuffix("-a"),
            incarnation=f"disk-{node}",
            lease=self.lease,
        )

    def apply(self, transaction: Transaction) -> bool:
        return self.store.txn(transaction.compares, transaction.writes, read_on_failure=False).succeeded

    def put(self, name: str, value: bytes) -> None:
        self.store.txn((), (Put(key=PREFIX + name, value=value),), read_on_failure=False)

    def delete(self, name: str) -> None:
        self.store.txn((), (Delete(key=PREFIX + name),), read_on_failure=False)

    def value(self, name: str) -> bytes:
        return next(kv.value for kv in self.kvs if kv.key == PREFIX + name)

    def want(self, what: Deed, *, paused: bool, by: str = "anna") -> None:
        act = Act(what=what, by=by, at=WALL, reason="a drill", source="10.0.0.9")
        assert self.apply(self.writer().want(Desired(paused=paused), act))

    def swap(self) -> None:
        """From Columbus to Denver, to its end."""
        swap = Swap(
            id="s1",
            from_node=COLUMBUS,
            to_node=DENVER,
            by="anna",
            reason="planned",
            phase=Phase.REQUESTED,
            term=self.writer().term,
            requested_at=WALL,
        )
        assert self.apply(self.writer().request(swap, source="10.0.0.9"))
        told = Put(key=f"{PREFIX}members/{DENVER}", value=member(DENVER).encode(), lease=self.lease)
        self.store.txn((), (told,), read_on_failure=False)
        handed = self.writer().hand_over(
            swap,
            target=self.snapshot.members[DENVER],
            incarnation=f"disk-{DENVER}",
            site="denver",
            own_timeline=1,
            shutdown_lsn=9,
            at=WALL + timedelta(seconds=1),
        )
        assert self.apply(handed)
        current = self.snapshot.swap
        assert current is not None
        assert self.apply(self.writer(DENVER).finish(current.record, WALL + timedelta(seconds=2)))


def begun() -> Log:
    log = Log()
    assert log.apply(log.writer().begin_bootstrap())
    reserved = log.snapshot.initialize
    assert reserved is not None
    assert log.apply(log.writer().bootstrap("7", WALL, reserved_at=reserved.mod_revision))
    return log


def used() -> Log:
    """Every kind of entry but health's own."""
    log = begun()
    log.want(Deed.PAUSED, paused=True)
    log.want(Deed.RESUMED, paused=False)
    log.swap()
    log.delete("leader")
    assert log.apply(log.writer().claim("failover", {"rule": "claim"}, WALL + timedelta(seconds=9)))
    return log


# -- what it tells -----------------------------------------------------------------------------------------------


def test_the_log_tells_who_did_what_from_where_and_through_whom() -> None:
    log = used()
    assert log.flaws == ()
    assert [(e["what"], e["by"], e["source"], e["through"], e["term"]) for e in log.entries] == [
        ("bootstrap", f"agent {COLUMBUS}", "", COLUMBUS, 1),
        ("paused", "anna", "10.0.0.9", COLUMBUS, 1),
        ("resumed", "anna", "10.0.0.9", COLUMBUS, 1),
        ("swap asked for", "anna", "10.0.0.9", COLUMBUS, 1),
        ("swap handed over", "anna", "", COLUMBUS, 2),
        ("swap done", "anna", "", DENVER, 2),
        ("failover", f"agent {COLUMBUS}", "", COLUMBUS, 3),
    ]
    assert [e["number"] for e in log.entries] == list(range(1, 8))


def test_a_swap_that_was_rolled_back_is_told_with_the_reason_for_that() -> None:
    log = begun()
    swap = Swap(
        id="s2",
        from_node=COLUMBUS,
        to_node=DENVER,
        by="anna",
        phase=Phase.REQUESTED,
        term=1,
        requested_at=WALL,
    )
    assert log.apply(log.writer().request(swap))
    assert log.apply(log.writer().roll_back(swap, "denver is not ready", WALL))
    assert (log.entries[-1]["what"], log.entries[-1]["reason"]) == ("swap rolled back", "denver is not ready")
    assert log.flaws == ()


def test_an_entry_seals_what_its_own_transaction_wrote() -> None:
    log = used()
    assert [list(e["seals"]) for e in log.entries] == [
        ["history/0000000001"],
        ["desired"],
        ["desired"],
        [],
        ["history/0000000002"],
        ["history/0000000002"],
        ["history/0000000003"],
    ]


# -- writing -----------------------------------------------------------------------------------------------------


def test_a_write_that_is_applied_late_finds_its_number_taken_and_changes_nothing() -> None:
    log = begun()
    act = Act(what=Deed.PAUSED, by="anna", at=WALL)
    late = log.writer().want(Desired(paused=True), act)
    log.delete("leader")
    assert log.apply(log.writer().claim("failover", {}, WALL))
    assert not log.apply(late)
    assert log.flaws == ()
    assert log.snapshot.desired is None


def test_a_write_that_was_applied_without_an_answer_is_not_done_twice() -> None:
    log = begun()
    log.delete("leader")
    claim = log.writer().claim("failover", {}, WALL)
    assert log.apply(claim)
    log.delete("leader")
    assert not log.apply(claim)
    assert len(log.entries) == 2


@pytest.mark.parametrize("garbage", [b"", b"{", b"\xff\x00", b'{"number": 2}'])
def test_a_change_of_leader_is_written_whatever_the_log_looks_like(garbage: bytes) -> None:
    log = begun()
    log.put("audit/0000000002", garbage)
    log.put("audit-head", garbage)
    log.put("audit/" + "9" * 5_000, garbage)
    log.delete("audit/0000000001")
    log.delete("leader")
    assert log.apply(log.writer().claim("failover", {}, WALL))
    assert log.entries[-1]["number"] == 3
    assert log.flaws[0] == Flaw(key="audit/0000000001", what="is missing")


def test_who_leads_changes_again_and_again_though_the_last_number_of_the_log_is_taken() -> None:
    log = begun()
    log.put(f"audit/{LAST_NUMBER}", b"garbage")
    for term in (2, 3, 4):
        log.delete("leader")
        assert log.apply(log.writer().claim("failover", {}, WALL))
        assert log.writer().term == term
    assert f"audit/{LAST_NUMBER}" in {flaw.key for flaw in log.flaws}


def test_a_log_that_begins_later_does_not_answer_for_the_history_before_it() -> None:
    log = Log()
    old = HistoryEntry(
        term=1, node=COLUMBUS, site="columbus", at=WALL, kind="bootstrap", by="an older version"
    )
    log.put("history/0000000001", old.encode())
    for name, record in (("term", None), ("leader", leader(COLUMBUS, 1)), ("sync", sync(COLUMBUS, term=1))):
        log.put(name, record.encode() if record else b'{"term": 1}')
    assert log.flaws == ()
    log.want(Deed.PAUSED, paused=True)
    assert log.flaws == ()
    assert audit.document(log.kvs, PREFIX)["older"] == ["history/0000000001"]
    log.put("history/0000000001", old.model_copy(update={"by": "nobody"}).encode())
    assert [flaw.key for flaw in log.flaws] == ["history/0000000001"]


# -- tampering ---------------------------------------------------------------------------------------------------


def changed_entry(log: Log) -> None:
    entry = AuditEntry.decode(log.value("audit/0000000003"))
    log.put("audit/0000000003", entry.model_copy(update={"by": "boris"}).encode())


def changed_newest_entry(log: Log) -> None:
    entry = AuditEntry.decode(log.value("audit/0000000007"))
    log.put("audit/0000000007", entry.model_copy(update={"by": "boris"}).encode())


def changed_newest_entry_and_head(log: Log) -> None:
    changed_newest_entry(log)
    number_and_digest = f'{{"number": 7, "digest": "{audit.digest(log.value("audit/0000000007"))}"}}'
    log.put("audit-head", number_and_digest.encode())


def removed_entry(log: Log) -> None:
    log.delete("audit/0000000004")


def removed_newest_entry(log: Log) -> None:
    log.delete("audit/0000000007")


def inserted_entry(log: Log) -> None:
    entry = AuditEntry.decode(log.value("audit/0000000007"))
    forged = entry.model_copy(update={"number": 8, "previous": audit.digest(entry.encode()), "seals": {}})
    log.put("audit/0000000008", forged.encode())


def inserted_under_another_name(log: Log) -> None:
    log.put("audit/7", log.value("audit/0000000007"))


def reordered_entries(log: Log) -> None:
    second, third = log.value("audit/0000000002"), log.value("audit/0000000003")
    log.put("audit/0000000002", third)
    log.put("audit/0000000003", second)


def renumbered_entries(log: Log) -> None:
    """Removed, and the ones after it moved up, each saying its new number."""
    for number in (4, 5, 6, 7):
        entry = AuditEntry.decode(log.value(f"audit/{number:010d}"))
        log.put(f"audit/{number - 1:010d}", entry.model_copy(update={"number": number - 1}).encode())
    log.delete("audit/0000000007")


def made_the_rest_anew(log: Log) -> None:
    """The whole log from the changed entry on, with a head that fits: only etcd's revisions tell."""
    previous = AuditEntry.decode(log.value("audit/0000000003")).previous
    for number in range(3, 8):
        entry = AuditEntry.decode(log.value(f"audit/{number:010d}"))
        forged = entry.model_copy(update={"by": "boris", "previous": previous}).encode()
        log.delete(f"audit/{number:010d}")
        log.put(f"audit/{number:010d}", forged)
        previous = audit.digest(forged)
    log.put("audit-head", f'{{"number": 7, "digest": "{previous}"}}'.encode())


def garbage_in_the_log(log: Log) -> None:
    log.put("audit/0000000005", b"nothing")


def removed_head(log: Log) -> None:
    log.delete("audit-head")


def changed_history(log: Log) -> None:
    entry = HistoryEntry.decode(log.value("history/0000000002"))
    log.put("history/0000000002", entry.model_copy(update={"by": "boris"}).encode())


def removed_history(log: Log) -> None:
    log.delete("history/0000000003")


def inserted_history(log: Log) -> None:
    log.put("history/0000000009", log.value("history/0000000003"))


def earlier_history_put_back(log: Log) -> None:
    """The very value that is sealed, written again."""
    log.put("history/0000000003", log.value("history/0000000003"))


def changed_wish(log: Log) -> None:
    log.put("desired", Desired(paused=True, paused_by="boris").encode())


def removed_log(log: Log) -> None:
    for number in range(1, 8):
        log.delete(f"audit/{number:010d}")


@pytest.mark.parametrize(
    ("tamper", "key"),
    [
        (changed_entry, "audit/0000000003"),
        (changed_newest_entry, "audit/0000000007"),
        (changed_newest_entry_and_head, "audit/0000000007"),
        (removed_entry, "audit/0000000004"),
        (removed_newest_entry, "audit/0000000007"),
        (inserted_entry, "audit/0000000008"),
        (inserted_under_another_name, "audit/7"),
        (reordered_entries, "audit/0000000002"),
        (renumbered_entries, "audit/0000000003"),
        (made_the_rest_anew, "desired"),
        (garbage_in_the_log, "audit/0000000005"),
        (removed_head, "audit-head"),
        (changed_history, "history/0000000002"),
        (removed_history, "history/0000000003"),
        (inserted_history, "history/0000000009"),
        (earlier_history_put_back, "history/0000000003"),
        (changed_wish, "desired"),
        (removed_log, "audit/0000000001"),
    ],
)
def test_what_was_done_to_the_log_or_to_what_it_seals_is_found_and_named_first(
    tamper: Callable[[Log], None], key: str
) -> None:
    log = used()
    tamper(log)
    assert log.flaws[0].key == key


def test_an_entry_that_was_removed_is_missed_though_the_log_has_gone_on() -> None:
    log = used()
    writer = log.writer()
    log.delete("audit/0000000007")
    act = Act(what=Deed.PAUSED, by="anna", at=WALL)
    assert log.apply(replace(writer, cluster=writer.cluster).want(Desired(paused=True), act))
    assert log.flaws[0] == Flaw(key="audit/0000000007", what="is missing")
