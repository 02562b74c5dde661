"""The faults of the twin in memory, and its leases on a clock that the test holds."""

import asyncio
from contextlib import aclosing

import pytest

from sitecontrol.etcd.api import Compare, EtcdUnknown, EventKind, Put, Target
from sitecontrol.etcd.memory import Fault, MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore
from tests.unit.held_clock import HeldClock


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def store(clock: HeldClock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def etcd(store: MemoryStore) -> MemoryEtcd:
    return MemoryEtcd(store)


async def test_a_lost_call_is_unknown_and_never_applied(etcd: MemoryEtcd) -> None:
    etcd.fail(Fault.LOST)
    with pytest.raises(EtcdUnknown):
        await etcd.put("a", b"1")
    etcd.wake()
    assert (await etcd.get("a")).one is None


async def test_a_call_whose_answer_is_lost_is_unknown_and_applied(etcd: MemoryEtcd) -> None:
    etcd.fail(Fault.APPLIED)
    with pytest.raises(EtcdUnknown):
        await etcd.put("a", b"1")
    assert (await etcd.get("a")).one is not None


async def test_a_late_call_is_applied_when_the_member_wakes(etcd: MemoryEtcd) -> None:
    etcd.fail(Fault.LATE)
    with pytest.raises(EtcdUnknown):
        await etcd.put("a", b"1")
    assert (await etcd.get("a")).one is None
    etcd.wake()
    assert (await etcd.get("a")).one is not None


async def test_a_late_transaction_is_barred_by_a_write_over_what_it_compared(etcd: MemoryEtcd) -> None:
    revision = await etcd.put("a", b"1")
    etcd.fail(Fault.LATE)
    with pytest.raises(EtcdUnknown):
        await etcd.txn(
            [Compare(key="a", target=Target.MOD_REVISION, to=revision)], [Put(key="a", value=b"late")]
        )
    await etcd.put("a", b"1")
    etcd.wake()
    assert (await etcd.get("a")).kvs[0].value == b"1"


async def test_a_late_put_on_a_lease_that_is_gone_by_then_changes_nothing(etcd: MemoryEtcd) -> None:
    lease = await etcd.grant(2)
    etcd.fail(Fault.LATE)
    with pytest.raises(EtcdUnknown):
        await etcd.put("a", b"1", lease=lease)
    await etcd.revoke(lease)
    etcd.wake()
    assert (await etcd.get("a")).one is None


async def test_faults_come_one_per_call_in_their_order(etcd: MemoryEtcd) -> None:
    etcd.fail(Fault.LOST, Fault.APPLIED)
    for key in ("a", "b"):
        with pytest.raises(EtcdUnknown):
            await etcd.put(key, b"1")
    await etcd.put("c", b"1")
    assert [kv.key for kv in (await etcd.get_prefix("")).kvs] == ["b", "c"]


async def test_one_client_is_cut_off_while_another_goes_on(store: MemoryStore, etcd: MemoryEtcd) -> None:
    other = MemoryEtcd(store)
    etcd.cut()
    for call in (etcd.get("a"), etcd.put("a", b"1"), etcd.keep_alive(1), etcd.grant(2)):
        with pytest.raises(EtcdUnknown):
            await call
    assert await etcd.members() == ()
    assert await other.put("a", b"1") == 2


async def test_a_cut_watch_is_silent_and_tells_all_when_mended(store: MemoryStore, etcd: MemoryEtcd) -> None:
    other = MemoryEtcd(store)
    async with aclosing(etcd.watch("a", 1)) as batches:
        etcd.cut()
        waiting = asyncio.create_task(anext(batches))
        await other.put("a", b"1")
        await other.put("a", b"2")
        assert not waiting.done()
        etcd.mend()
        async with asyncio.timeout(5):
            batch = await waiting
    assert [event.kv.value for event in batch.events] == [b"1", b"2"]


async def test_a_lease_ends_by_the_clock_and_a_watch_hears_of_it(etcd: MemoryEtcd, clock: HeldClock) -> None:
    lease = await etcd.grant(2)
    revision = await etcd.put("a", b"1", lease=lease)
    async with aclosing(etcd.watch("a", revision + 1)) as batches:
        waiting = asyncio.create_task(anext(batches))
        await clock.advance(1.9)
        assert (await etcd.get("a")).one is not None
        await clock.advance(0.1)
        async with asyncio.timeout(5):
            batch = await waiting
    assert [event.kind for event in batch.events] == [EventKind.DELETE]
    assert await etcd.keep_alive(lease) == 0


async def test_a_lease_kept_alive_lasts_from_then_on(etcd: MemoryEtcd, clock: HeldClock) -> None:
    lease = await etcd.grant(2)
    await clock.advance(1.5)
    assert await etcd.keep_alive(lease) == 2
    await clock.advance(1.5)
    assert await etcd.keep_alive(lease) == 2


async def test_a_new_leader_of_etcd_prolongs_every_lease(etcd: MemoryEtcd, clock: HeldClock) -> None:
    lease = await etcd.grant(2)
    await clock.advance(1.5)
    await etcd.move_leader(2)
    await clock.advance(1.5)
    assert await etcd.keep_alive(lease) == 2


async def test_a_watch_of_a_store_that_lost_everything_begins_anew(
    store: MemoryStore, etcd: MemoryEtcd
) -> None:
    await etcd.put("a", b"1")
    revision = await etcd.put("a", b"2")
    async with aclosing(etcd.watch("a", revision + 1)) as batches:
        waiting = asyncio.create_task(anext(batches))
        await asyncio.sleep(0)
        store.lose_everything()
        async with asyncio.timeout(5):
            batch = await waiting
    assert batch.reset is not None
    assert batch.reset.kvs == ()
