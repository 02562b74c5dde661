"""What every implementation of `sitecontrol.etcd.api.Etcd` does: the real client on a real etcd, and its
twin."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from sitecontrol.clock import SystemClock
from sitecontrol.etcd.api import (
    Compare,
    Delete,
    Etcd,
    EtcdRefused,
    EtcdUnknown,
    EventKind,
    LeaseLost,
    Put,
    Target,
    WatchBatch,
)
from sitecontrol.etcd.memory import MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore
from tests.etcd import Cluster


@dataclass(frozen=True, kw_only=True)
class Subject:
    etcd: Etcd
    prefix: str
    compact: Callable[[int], None]

    def key(self, name: str) -> str:
        return self.prefix + name


@pytest.fixture(params=["grpc", "memory"])
async def subject(request: pytest.FixtureRequest, etcd_prefix: str) -> AsyncIterator[Subject]:
    if request.param == "memory":
        store = MemoryStore(SystemClock())
        etcd: Etcd = MemoryEtcd(store)
        compact = store.compact
    else:
        cluster: Cluster = request.getfixturevalue("etcd_member")
        etcd = cluster.client(call_timeout=5.0)
        compact = cluster.compact
    yield Subject(etcd=etcd, prefix=etcd_prefix, compact=compact)
    await etcd.aclose()


async def first(batches: AsyncIterator[WatchBatch], within: float = 10.0) -> WatchBatch:
    async with asyncio.timeout(within):
        return await anext(batches)


async def test_a_key_never_written_reads_as_nothing_with_the_stores_revision(subject: Subject) -> None:
    answer = await subject.etcd.get(subject.key("none"))
    assert answer.one is None
    assert answer.revision >= 1


async def test_a_put_is_read_back_with_its_revisions(subject: Subject) -> None:
    first_revision = await subject.etcd.put(subject.key("a"), b"1")
    second_revision = await subject.etcd.put(subject.key("a"), b"2")
    kv = (await subject.etcd.get(subject.key("a"))).one
    assert kv is not None
    assert (kv.key, kv.value, kv.lease) == (subject.key("a"), b"2", 0)
    assert (kv.create_revision, kv.mod_revision) == (first_revision, second_revision)
    assert second_revision == first_revision + 1


async def test_a_serializable_read_gives_what_the_member_has(subject: Subject) -> None:
    await subject.etcd.put(subject.key("a"), b"1")
    answer = await subject.etcd.get(subject.key("a"), serializable=True)
    assert answer.one is not None
    assert (await subject.etcd.get_prefix(subject.prefix, serializable=True)).kvs == answer.kvs


async def test_a_prefix_reads_only_what_begins_with_it_in_order(subject: Subject) -> None:
    for name in ("b/2", "b/1", "b", "c", "a"):
        await subject.etcd.put(subject.key(name), name.encode())
    answer = await subject.etcd.get_prefix(subject.key("b/"))
    assert [kv.value for kv in answer.kvs] == [b"b/1", b"b/2"]


async def test_an_empty_value_is_a_value(subject: Subject) -> None:
    await subject.etcd.put(subject.key("a"), b"")
    kv = (await subject.etcd.get(subject.key("a"))).one
    assert kv is not None
    assert kv.value == b""


async def test_deleting_makes_a_revision_only_if_there_was_something(subject: Subject) -> None:
    written = await subject.etcd.put(subject.key("a"), b"1")
    assert await subject.etcd.delete(subject.key("a")) == written + 1
    assert await subject.etcd.delete(subject.key("a")) == written + 1
    assert (await subject.etcd.get(subject.key("a"))).one is None


async def test_a_key_written_again_after_a_delete_is_created_anew(subject: Subject) -> None:
    await subject.etcd.put(subject.key("a"), b"1")
    await subject.etcd.delete(subject.key("a"))
    revision = await subject.etcd.put(subject.key("a"), b"1")
    kv = (await subject.etcd.get(subject.key("a"))).one
    assert kv is not None
    assert kv.create_revision == revision


async def test_a_put_without_a_key_is_refused(subject: Subject) -> None:
    with pytest.raises(EtcdRefused):
        await subject.etcd.put("", b"1")


# Transactions


async def test_a_transaction_writes_all_in_one_revision(subject: Subject) -> None:
    await subject.etcd.put(subject.key("old"), b"1")
    result = await subject.etcd.txn(
        [Compare(key=subject.key("new"), target=Target.CREATE_REVISION, to=0)],
        [Put(key=subject.key("new"), value=b"2"), Delete(key=subject.key("old"))],
    )
    answer = await subject.etcd.get_prefix(subject.prefix)
    assert result.succeeded
    assert result.kvs == ()
    assert [(kv.key, kv.mod_revision) for kv in answer.kvs] == [(subject.key("new"), result.revision)]


async def test_a_transaction_with_one_failed_compare_writes_nothing(subject: Subject) -> None:
    revision = await subject.etcd.put(subject.key("a"), b"1")
    result = await subject.etcd.txn(
        [
            Compare(key=subject.key("a"), target=Target.MOD_REVISION, to=revision),
            Compare(key=subject.key("b"), target=Target.MOD_REVISION, to=7),
        ],
        [Put(key=subject.key("a"), value=b"2")],
    )
    assert not result.succeeded
    assert result.kvs == ()
    assert (await subject.etcd.get(subject.key("a"))).kvs[0].value == b"1"


async def test_a_failed_transaction_can_tell_the_compared_keys_in_their_order(subject: Subject) -> None:
    await subject.etcd.put(subject.key("a"), b"1")
    result = await subject.etcd.txn(
        [
            Compare(key=subject.key("none"), target=Target.MOD_REVISION, to=0),
            Compare(key=subject.key("a"), target=Target.VALUE, to=b"other"),
        ],
        [],
        read_on_failure=True,
    )
    none, a = result.kvs
    assert not result.succeeded
    assert none is None
    assert a is not None
    assert a.value == b"1"


@pytest.mark.parametrize("target", [Target.MOD_REVISION, Target.CREATE_REVISION, Target.LEASE])
async def test_a_missing_key_compares_as_zero(subject: Subject, target: Target) -> None:
    result = await subject.etcd.txn([Compare(key=subject.key("none"), target=target, to=0)], [])
    assert result.succeeded


async def test_the_value_of_a_missing_key_equals_nothing(subject: Subject) -> None:
    result = await subject.etcd.txn([Compare(key=subject.key("none"), target=Target.VALUE, to=b"")], [])
    assert not result.succeeded


async def test_a_keys_lease_can_be_compared(subject: Subject) -> None:
    lease = await subject.etcd.grant(60)
    await subject.etcd.put(subject.key("a"), b"1", lease=lease)
    mine = Compare(key=subject.key("a"), target=Target.LEASE, to=lease)
    other = Compare(key=subject.key("a"), target=Target.LEASE, to=lease + 1)
    assert (await subject.etcd.txn([mine], [])).succeeded
    assert not (await subject.etcd.txn([other], [])).succeeded
    await subject.etcd.revoke(lease)


async def test_a_transaction_that_writes_one_key_twice_is_refused(subject: Subject) -> None:
    with pytest.raises(EtcdRefused):
        await subject.etcd.txn(
            [], [Put(key=subject.key("a"), value=b"1"), Put(key=subject.key("a"), value=b"2")]
        )


# Leases


async def test_a_lease_shorter_than_the_floor_is_lengthened(subject: Subject) -> None:
    lease = await subject.etcd.grant(1)
    assert await subject.etcd.keep_alive(lease) == 2
    await subject.etcd.revoke(lease)


async def test_keeping_a_lease_alive_that_never_was_gives_zero(subject: Subject) -> None:
    assert await subject.etcd.keep_alive(4_711) == 0


async def test_revoking_a_lease_deletes_its_keys_in_one_revision(subject: Subject) -> None:
    lease = await subject.etcd.grant(60)
    await subject.etcd.put(subject.key("a"), b"1", lease=lease)
    written = await subject.etcd.put(subject.key("b"), b"1", lease=lease)
    await subject.etcd.revoke(lease)
    answer = await subject.etcd.get_prefix(subject.prefix)
    assert answer.kvs == ()
    assert answer.revision == written + 1
    assert await subject.etcd.keep_alive(lease) == 0


async def test_revoking_a_lease_twice_is_no_error(subject: Subject) -> None:
    lease = await subject.etcd.grant(60)
    await subject.etcd.revoke(lease)
    await subject.etcd.revoke(lease)


async def test_a_key_put_again_without_a_lease_outlives_the_lease(subject: Subject) -> None:
    lease = await subject.etcd.grant(60)
    await subject.etcd.put(subject.key("a"), b"1", lease=lease)
    await subject.etcd.put(subject.key("a"), b"2")
    await subject.etcd.revoke(lease)
    assert (await subject.etcd.get(subject.key("a"))).one is not None


async def test_a_put_on_a_lost_lease_writes_nothing(subject: Subject) -> None:
    with pytest.raises(LeaseLost):
        await subject.etcd.put(subject.key("a"), b"1", lease=4_711)
    assert (await subject.etcd.get(subject.key("a"))).one is None


async def test_a_transaction_on_a_lost_lease_writes_nothing_at_all(subject: Subject) -> None:
    with pytest.raises(LeaseLost):
        await subject.etcd.txn(
            [], [Put(key=subject.key("a"), value=b"1"), Put(key=subject.key("b"), value=b"1", lease=4_711)]
        )
    assert (await subject.etcd.get_prefix(subject.prefix)).kvs == ()


async def test_a_failed_compare_goes_before_a_lost_lease(subject: Subject) -> None:
    result = await subject.etcd.txn(
        [Compare(key=subject.key("none"), target=Target.MOD_REVISION, to=7)],
        [Put(key=subject.key("a"), value=b"1", lease=4_711)],
    )
    assert not result.succeeded


async def test_a_lease_that_runs_out_takes_its_key_along_and_watchers_hear_of_it(subject: Subject) -> None:
    lease = await subject.etcd.grant(2)
    revision = await subject.etcd.put(subject.key("a"), b"1", lease=lease)
    async with aclosing(subject.etcd.watch(subject.prefix, revision + 1)) as batches:
        batch = await first(batches)
    assert [(event.kind, event.kv.key) for event in batch.events] == [(EventKind.DELETE, subject.key("a"))]
    assert await subject.etcd.keep_alive(lease) == 0
    with pytest.raises(LeaseLost):
        await subject.etcd.put(subject.key("a"), b"2", lease=lease)


# Watches


async def test_a_watch_tells_what_was_before_and_what_comes(subject: Subject) -> None:
    start = await subject.etcd.put(subject.key("a"), b"1")
    await subject.etcd.put(subject.key("a"), b"2")
    async with aclosing(subject.etcd.watch(subject.prefix, start)) as batches:
        past = [event async for event in _events(batches, 2)]
        await subject.etcd.delete(subject.key("a"))
        coming = await first(batches)
    assert [(event.kind, event.kv.value) for event in past] == [(EventKind.PUT, b"1"), (EventKind.PUT, b"2")]
    assert [event.kind for event in coming.events] == [EventKind.DELETE]
    assert coming.revision == coming.events[0].kv.mod_revision == start + 2


async def _events(batches: AsyncIterator[WatchBatch], count: int) -> AsyncIterator:
    while count > 0:
        for event in (await first(batches)).events:
            count -= 1
            yield event


async def test_a_watch_is_silent_about_keys_outside_its_prefix(subject: Subject) -> None:
    start = await subject.etcd.put(subject.key("other"), b"1")
    async with aclosing(subject.etcd.watch(subject.key("mine/"), start)) as batches:
        await subject.etcd.put(subject.key("mine"), b"1")
        await subject.etcd.put(subject.key("mine/a"), b"1")
        batch = await first(batches)
    assert [event.kv.key for event in batch.events] == [subject.key("mine/a")]


async def test_all_events_of_a_transaction_come_in_one_batch(subject: Subject) -> None:
    start = await subject.etcd.put(subject.key("a"), b"1")
    async with aclosing(subject.etcd.watch(subject.prefix, start + 1)) as batches:
        result = await subject.etcd.txn(
            [], [Put(key=subject.key(str(n)), value=b"1") for n in range(50)] + [Delete(key=subject.key("a"))]
        )
        batch = await first(batches)
    assert len(batch.events) == 51
    assert batch.revision == result.revision


async def test_two_watches_of_one_client_both_hear_everything(subject: Subject) -> None:
    start = await subject.etcd.put(subject.key("a"), b"1")
    async with (
        aclosing(subject.etcd.watch(subject.prefix, start + 1)) as one,
        aclosing(subject.etcd.watch(subject.prefix, start + 1)) as other,
        asyncio.TaskGroup() as group,
    ):
        heard = [group.create_task(first(one)), group.create_task(first(other))]
        await subject.etcd.put(subject.key("a"), b"2")
    assert [task.result().revision for task in heard] == [start + 1, start + 1]


async def test_a_watch_from_before_a_compaction_begins_with_everything_anew(subject: Subject) -> None:
    start = await subject.etcd.put(subject.key("a"), b"1")
    await subject.etcd.put(subject.key("b"), b"1")
    compacted = await subject.etcd.put(subject.key("a"), b"2")
    subject.compact(compacted)
    async with aclosing(subject.etcd.watch(subject.prefix, start)) as batches:
        reset = await first(batches)
        after = await subject.etcd.put(subject.key("a"), b"3")
        batch = await first(batches)
    assert reset.reset is not None
    assert reset.events == ()
    assert reset.revision == reset.reset.revision >= compacted
    assert [(kv.key, kv.value) for kv in reset.reset.kvs] == [
        (subject.key("a"), b"2"),
        (subject.key("b"), b"1"),
    ]
    assert (batch.revision, batch.reset) == (after, None)


async def test_a_watch_from_the_revision_of_a_compaction_loses_nothing(subject: Subject) -> None:
    await subject.etcd.put(subject.key("a"), b"1")
    compacted = await subject.etcd.put(subject.key("a"), b"2")
    subject.compact(compacted)
    async with aclosing(subject.etcd.watch(subject.prefix, compacted + 1)) as batches:
        await subject.etcd.put(subject.key("a"), b"3")
        batch = await first(batches)
    assert [event.kv.value for event in batch.events] == [b"3"]


async def test_a_cancelled_watch_leaves_the_client_in_order(subject: Subject) -> None:
    async def follow() -> None:
        async for _ in subject.etcd.watch(subject.prefix, 1):
            pass

    task = asyncio.create_task(follow())
    revision = await subject.etcd.put(subject.key("a"), b"1")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await subject.etcd.put(subject.key("a"), b"2") == revision + 1


# etcd itself


async def test_members_names_the_one_that_leads(subject: Subject) -> None:
    members = await subject.etcd.members()
    assert sum(member.member_id == member.leader_id for member in members) == 1
    assert all(member.name and member.version and member.endpoint for member in members)


async def test_moving_the_leadership_to_where_it_is_does_nothing(subject: Subject) -> None:
    members = await subject.etcd.members()
    await subject.etcd.move_leader(members[0].leader_id)
    assert await subject.etcd.members()


async def test_moving_the_leadership_to_nobody_is_refused(subject: Subject) -> None:
    with pytest.raises(EtcdRefused):
        await subject.etcd.move_leader(4_711)


async def test_a_closed_client_knows_nothing_and_closes_twice(subject: Subject) -> None:
    await subject.etcd.aclose()
    await subject.etcd.aclose()
    with pytest.raises(EtcdUnknown):
        await subject.etcd.get(subject.key("a"))
    with pytest.raises(EtcdUnknown):
        await subject.etcd.put(subject.key("a"), b"1")


async def test_closing_ends_a_watch(subject: Subject) -> None:
    batches = subject.etcd.watch(subject.prefix, 1)
    await subject.etcd.put(subject.key("a"), b"1")
    await first(batches)
    ending = asyncio.create_task(anext(batches, None))
    await asyncio.sleep(0)
    await subject.etcd.aclose()
    async with asyncio.timeout(5):
        assert await ending is None
