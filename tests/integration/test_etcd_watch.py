"""A watch through the deaths and hangs of the members that carry it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import structlog

from sitecontrol.clock import SystemClock
from sitecontrol.etcd.api import EtcdUnknown, WatchBatch
from sitecontrol.etcd.calls import NEED_LEADER
from sitecontrol.etcd.client import GrpcEtcd
from sitecontrol.etcd.stream import responses
from sitecontrol.etcd.wire import watch_request
from tests.etcd import Cluster, Member, run_cluster

PATIENT = 4.0


@pytest.fixture
def leader(etcd_cluster: Cluster) -> Member:
    """Asked once: on a busy machine an election may come between two questions."""
    return etcd_cluster.leader


@pytest.fixture
def follower(etcd_cluster: Cluster, leader: Member) -> Member:
    return next(member for member in etcd_cluster.members if member is not leader)


@pytest.fixture
async def watcher(etcd_cluster: Cluster, follower: Member) -> AsyncIterator[GrpcEtcd]:
    """A client that watches through a follower."""
    client = etcd_cluster.client(follower, call_timeout=PATIENT)
    await client.get("warm")
    yield client
    await client.aclose()


@pytest.fixture
async def writer(etcd_cluster: Cluster, leader: Member) -> AsyncIterator[GrpcEtcd]:
    """A client that writes through the leader."""
    client = etcd_cluster.client(leader, call_timeout=PATIENT)
    await client.get("warm")
    yield client
    await client.aclose()


async def first(batches: AsyncIterator[WatchBatch], within: float = 20.0) -> WatchBatch:
    async with asyncio.timeout(within):
        return await anext(batches)


async def put(writer: GrpcEtcd, key: str, value: int, within: float = 30.0) -> int:
    """Written again as long as the outcome is unknown: the fault of a test may bring an election with it.

    Returns: the revision of the last write; one before it may have come to be written, too.
    """
    async with asyncio.timeout(within):
        while True:
            with contextlib.suppress(EtcdUnknown):
                return await writer.put(key, str(value).encode())


async def write(writer: GrpcEtcd, key: str, values: range) -> None:
    for value in values:
        await put(writer, key, value)


async def seen(batches: AsyncIterator[WatchBatch], last: int) -> list[int]:
    """The values handed out, up to `last`; no revision twice. A value written twice is told once."""
    values: list[int] = []
    revisions: list[int] = []
    while not values or values[-1] < last:
        for event in (await first(batches)).events:
            revisions.append(event.kv.mod_revision)
            if int(event.kv.value) not in values[-1:]:
                values.append(int(event.kv.value))
    assert revisions == sorted(set(revisions))
    return values


@pytest.mark.parametrize("fault", ["kill", "hang"])
async def test_a_watch_misses_and_repeats_nothing_when_its_member_is_lost(
    watcher: GrpcEtcd, writer: GrpcEtcd, follower: Member, etcd_prefix: str, fault: str
) -> None:
    start = await put(writer, etcd_prefix, 0)
    async with aclosing(watcher.watch(etcd_prefix, start)) as batches:
        assert await seen(batches, 0) == [0]
        getattr(follower, fault)()
        await write(writer, etcd_prefix, range(1, 21))
        assert await seen(batches, 20) == list(range(1, 21))


async def test_a_watch_goes_on_after_the_loss_and_return_of_the_quorum(
    watcher: GrpcEtcd, writer: GrpcEtcd, etcd_cluster: Cluster, etcd_prefix: str
) -> None:
    start = await put(writer, etcd_prefix, 0)
    async with aclosing(watcher.watch(etcd_prefix, start)) as batches:
        assert await seen(batches, 0) == [0]
        waiting = asyncio.create_task(seen(batches, 1))
        for member in etcd_cluster.members[1:]:
            member.kill()
        await asyncio.to_thread(etcd_cluster.heal)
        await write(writer, etcd_prefix, range(1, 2))
        assert await waiting == [1]


async def test_a_stream_ends_when_its_member_loses_its_leader(
    watcher: GrpcEtcd, etcd_cluster: Cluster, follower: Member, etcd_prefix: str
) -> None:
    stays = follower
    (endpoint,) = (each for each in watcher._endpoints.all if each.url == stays.url)
    stream = responses(endpoint, watch_request(etcd_prefix, 1), [NEED_LEADER], SystemClock())
    async with aclosing(stream) as answers, asyncio.timeout(30):
        assert (await anext(answers)).created
        for member in etcd_cluster.members:
            if member is not stays:
                member.kill()
        with pytest.raises(EtcdUnknown, match="no leader"):
            async for _ in answers:
                pass


async def test_a_quiet_watch_stays_where_it_is(watcher: GrpcEtcd, writer: GrpcEtcd, etcd_prefix: str) -> None:
    start = await put(writer, etcd_prefix, 0)
    with structlog.testing.capture_logs() as logs:
        async with aclosing(watcher.watch(etcd_prefix, start)) as batches:
            assert await seen(batches, 0) == [0]
            waiting = asyncio.create_task(seen(batches, 1))
            await asyncio.wait({waiting}, timeout=3)  # the silence is what is tested
            await put(writer, etcd_prefix, 1)
            assert await waiting == [1]
    assert logs == []


async def test_a_store_that_began_anew_is_handed_out_as_a_whole(etcd_prefix: str) -> None:
    with run_cluster(["alone"]) as cluster:
        (member,) = cluster.members
        etcd = cluster.client(call_timeout=PATIENT)
        try:
            for _ in range(5):
                revision = await etcd.put(etcd_prefix, b"0")
            async with aclosing(etcd.watch(etcd_prefix, revision)) as batches:
                await first(batches)
                member.kill()
                member.wipe()
                await asyncio.to_thread(cluster.start)
                batch = await first(batches)
                after = await etcd.put(etcd_prefix, b"1")
                assert (batch.reset is not None, batch.revision < revision) == (True, True)
                assert (await first(batches)).revision == after
        finally:
            await etcd.aclose()


async def test_a_member_that_lags_behind_is_waited_for(
    watcher: GrpcEtcd, writer: GrpcEtcd, follower: Member, etcd_prefix: str
) -> None:
    follower.hang()
    for value in range(20):
        start = await put(writer, etcd_prefix, value)
    async with aclosing(watcher.watch(etcd_prefix, start + 1)) as batches:
        waiting = asyncio.create_task(first(batches))
        follower.resume()
        after = await put(writer, etcd_prefix, 20)
        batch = await waiting
    assert batch.reset is None
    assert start < batch.revision <= after
    assert {event.kv.value for event in batch.events} == {b"20"}
