"""Calls to a cluster whose members die, hang, and come back."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest

from sitecontrol.etcd.api import EtcdUnknown
from sitecontrol.etcd.client import GrpcEtcd
from tests.etcd import Cluster, Member
from tests.waiting import eventually

PATIENT = 4.0  # a deadline that a busy machine keeps


@pytest.fixture
def follower(etcd_cluster: Cluster) -> Member:
    """Asked for once: on a busy machine an election may come between two questions."""
    return etcd_cluster.followers[0]


@pytest.fixture
async def etcd(etcd_cluster: Cluster, follower: Member) -> AsyncIterator[GrpcEtcd]:
    """A client that asks a follower first, connected to all."""
    client = etcd_cluster.client(follower, call_timeout=PATIENT)
    await all_connected(client)
    yield client
    await client.aclose()


async def all_connected(client: GrpcEtcd) -> None:
    async def ask() -> bool:
        return all(endpoint.connected for endpoint in client._endpoints.all)

    await eventually(ask)


async def written(client: GrpcEtcd, key: str) -> bool:
    try:
        return (await client.get(key)).one is not None
    except EtcdUnknown:
        return False


async def test_reading_goes_on_when_the_member_asked_dies(
    etcd: GrpcEtcd, follower: Member, etcd_prefix: str
) -> None:
    await etcd.put(etcd_prefix, b"1")
    follower.kill()
    for _ in range(20):
        assert (await etcd.get(etcd_prefix)).one is not None


async def test_reading_goes_on_when_the_member_asked_hangs(
    etcd: GrpcEtcd, follower: Member, etcd_prefix: str
) -> None:
    await etcd.put(etcd_prefix, b"1")
    follower.hang()
    assert (await etcd.get(etcd_prefix)).one is not None


async def test_after_one_slow_answer_a_hung_member_is_asked_last(
    etcd: GrpcEtcd, follower: Member, etcd_prefix: str
) -> None:
    follower.hang()
    await etcd.get(etcd_prefix)
    assert etcd._endpoints.in_order()[0].url != follower.url
    assert await etcd.put(etcd_prefix, b"1") > 1


async def test_a_lease_is_kept_alive_through_a_hung_member(etcd: GrpcEtcd, follower: Member) -> None:
    lease = await etcd.grant(60)
    follower.hang()
    assert await etcd.keep_alive(lease) == 60
    await etcd.revoke(lease)


async def test_no_call_outlives_its_deadline_when_every_member_hangs(
    etcd: GrpcEtcd, etcd_cluster: Cluster, etcd_prefix: str
) -> None:
    lease = await etcd.grant(60)
    for member in etcd_cluster.members:
        member.hang()
    for call in (
        etcd.get(etcd_prefix, timeout=0.5),
        etcd.put(etcd_prefix, b"1", timeout=0.5),
        etcd.keep_alive(lease, timeout=0.5),
        etcd.grant(2, timeout=0.5),
    ):
        started = time.monotonic()
        with pytest.raises(EtcdUnknown):
            await call
        assert time.monotonic() - started < 1.5
    assert await etcd.members(timeout=0.5) == ()


async def test_closing_the_client_makes_calls_under_way_unknown_at_once(
    etcd: GrpcEtcd, etcd_cluster: Cluster, etcd_prefix: str
) -> None:
    for member in etcd_cluster.members:
        member.hang()
    calls = [
        asyncio.create_task(call)
        for call in (etcd.get(etcd_prefix, timeout=60), etcd.put(etcd_prefix, b"1", timeout=60))
    ]
    await asyncio.wait(calls, timeout=0.2)  # long enough to be on their way
    await etcd.aclose()
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [EtcdUnknown, EtcdUnknown]


async def test_a_write_is_sent_past_a_member_that_is_known_to_be_dead(
    etcd: GrpcEtcd, follower: Member, etcd_prefix: str
) -> None:
    dead = etcd._endpoints.in_order()[0]
    follower.kill()

    async def seen_dead() -> bool:
        return not dead.connected

    await eventually(seen_dead)
    assert await etcd.put(etcd_prefix, b"1") > 1


async def test_a_write_to_a_hung_member_is_unknown_and_the_next_goes_elsewhere(
    etcd: GrpcEtcd, follower: Member, etcd_prefix: str
) -> None:
    follower.hang()
    with pytest.raises(EtcdUnknown):
        await etcd.put(etcd_prefix, b"1", timeout=0.5)
    assert await etcd.put(etcd_prefix, b"2") > 1


async def test_a_write_that_timed_out_is_applied_when_the_majority_wakes(
    etcd_cluster: Cluster, etcd_prefix: str
) -> None:
    """Unless another leader was elected first, as on a busy machine: then it is lost, and the next try tells."""
    for attempt in range(5):
        if await applied_late(etcd_cluster, f"{etcd_prefix}{attempt}"):
            return
    pytest.fail("five writes timed out, and none of them was applied later")


async def applied_late(etcd_cluster: Cluster, key: str) -> bool:
    leader = etcd_cluster.leader
    followers = [member for member in etcd_cluster.members if member is not leader]
    etcd = etcd_cluster.client(leader)
    try:
        await etcd.get(key)
        for follower in followers:
            follower.hang()
        try:
            with pytest.raises(EtcdUnknown):
                await etcd.put(key, b"late", timeout=0.2)
            assert (await etcd.get(key, serializable=True)).one is None
        finally:
            for follower in followers:
                follower.resume()
        await eventually(partial(written, etcd, key), within=5)
    except TimeoutError:
        return False
    finally:
        await etcd.aclose()
    return True


async def test_without_a_quorum_only_serializable_reads_are_answered(
    etcd: GrpcEtcd, etcd_cluster: Cluster, etcd_prefix: str
) -> None:
    await etcd.put(etcd_prefix, b"1")
    left, *lost = etcd_cluster.members
    for member in lost:
        member.kill()

    async def leaderless() -> bool:
        return [status.leader_id for status in await etcd.members(timeout=1.0)] == [0]

    await eventually(leaderless)
    with pytest.raises(EtcdUnknown):
        await etcd.get(etcd_prefix, timeout=0.5)
    with pytest.raises(EtcdUnknown):
        await etcd.put(etcd_prefix, b"2", timeout=0.5)
    answer = await etcd.get(etcd_prefix, serializable=True)
    assert answer.kvs[0].value == b"1"
    assert (await etcd.members())[0].endpoint == left.url


async def test_with_no_member_there_nothing_is_sent(etcd_cluster: Cluster, etcd_prefix: str) -> None:
    for member in etcd_cluster.members:
        member.kill()
    etcd = etcd_cluster.client()
    try:
        with pytest.raises(EtcdUnknown, match="nothing was sent"):
            await etcd.put(etcd_prefix, b"1", timeout=0.3)
        with pytest.raises(EtcdUnknown):
            await etcd.get(etcd_prefix, timeout=0.3)
        with pytest.raises(EtcdUnknown, match="nothing was sent"):
            await etcd.move_leader(1, timeout=0.3)
    finally:
        await etcd.aclose()


async def test_a_cluster_that_was_away_for_long_is_reached_soon_after_it_returns(
    etcd: GrpcEtcd, etcd_cluster: Cluster, etcd_prefix: str
) -> None:
    for member in etcd_cluster.members:
        member.kill()
    deadline = time.monotonic() + 4  # long enough for gRPC's own backoff to have grown past two seconds
    while time.monotonic() < deadline:
        with pytest.raises(EtcdUnknown):
            await etcd.get(etcd_prefix, timeout=0.5)
    await asyncio.to_thread(etcd_cluster.heal)
    started = time.monotonic()
    await all_connected(etcd)
    assert time.monotonic() - started < 1.5


async def test_etcds_leadership_is_moved_to_each_member_in_turn(
    etcd: GrpcEtcd, etcd_cluster: Cluster
) -> None:
    for member in etcd_cluster.members:
        statuses = {status.name: status for status in await etcd.members()}
        assert len(statuses) == 3
        await etcd.move_leader(statuses[member.name].member_id)
        assert etcd_cluster.leader is member
