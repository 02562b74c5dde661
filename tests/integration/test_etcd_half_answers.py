"""Answers of a real etcd that are cut off or spoilt on their way: none of them is a "no", and none ends the client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from sitecontrol.clock import SystemClock
from sitecontrol.etcd.api import Compare, EtcdUnknown, Put, Target
from sitecontrol.etcd.client import GrpcEtcd
from tests.etcd import Cluster
from tests.etcd_proxy import ByteProxy, Spoil, byte_proxy

pytestmark = pytest.mark.long

SPOILT = [spoil for spoil in Spoil if spoil is not Spoil.NOTHING]
ENDS_WITHIN = 10.0  # seconds: every call has a deadline of one
KEY = "key"


def told(spoil: Spoil) -> str:
    return spoil.name.lower().replace("_", "-")


Ask = Callable[[GrpcEtcd, str], Awaitable[object]]


async def _txn(etcd: GrpcEtcd, prefix: str) -> object:
    absent = Compare(key=f"{prefix}absent", target=Target.MOD_REVISION, to=0)
    return await etcd.txn((absent,), (Put(key=prefix + KEY, value=b"2"),))


ASK: dict[str, Ask] = {
    "get": lambda etcd, prefix: etcd.get(prefix + KEY),
    "get_prefix": lambda etcd, prefix: etcd.get_prefix(prefix),
    "put": lambda etcd, prefix: etcd.put(prefix + KEY, b"2"),
    "delete": lambda etcd, prefix: etcd.delete(prefix + "other"),
    "txn": _txn,
    "grant": lambda etcd, _: etcd.grant(60),
    "keep_alive": lambda etcd, _: etcd.keep_alive(1),
}


@pytest.fixture
async def proxy(etcd_member: Cluster) -> AsyncIterator[ByteProxy]:
    async with byte_proxy(etcd_member.urls[0]) as made:
        yield made


@pytest.fixture
async def etcd(proxy: ByteProxy) -> AsyncIterator[GrpcEtcd]:
    client = GrpcEtcd([proxy.url], SystemClock(), call_timeout=0.4)
    try:
        yield client
    finally:
        await client.aclose()


async def answered(etcd: GrpcEtcd, prefix: str) -> bool:
    try:
        return (await etcd.get(prefix + KEY)).one is not None
    except EtcdUnknown:
        return False


async def until_answered(etcd: GrpcEtcd, prefix: str) -> None:
    async with asyncio.timeout(ENDS_WITHIN):
        while not await answered(etcd, prefix):
            pass


@pytest.mark.parametrize("spoil", SPOILT, ids=told)
async def test_a_spoilt_answer_is_an_unknown_outcome(
    proxy: ByteProxy, etcd: GrpcEtcd, etcd_prefix: str, spoil: Spoil
):
    await etcd.put(etcd_prefix + KEY, b"1")
    for ask in ASK.values():
        proxy.begin(spoil)
        with pytest.raises(EtcdUnknown):
            await ask(etcd, etcd_prefix)
        proxy.mend()
        await until_answered(etcd, etcd_prefix)


# (Without its message a stream looks as one on which nothing happened.)
@pytest.mark.parametrize("spoil", [s for s in SPOILT if s is not Spoil.NO_MESSAGE], ids=told)
async def test_a_watch_outlives_spoilt_answers_and_misses_nothing(
    proxy: ByteProxy, etcd: GrpcEtcd, etcd_member: Cluster, etcd_prefix: str, spoil: Spoil
):
    async with asyncio.timeout(ENDS_WITHIN):
        revision = await etcd.put(etcd_prefix + KEY, b"1")
        watch = etcd.watch(etcd_prefix, revision)
        assert (await anext(watch)).revision == revision
        coming = asyncio.create_task(anext(watch))
        proxy.begin(spoil)
        direct = etcd_member.client()
        written = await direct.put(etcd_prefix + KEY, b"2")
        await direct.aclose()
        with pytest.raises(EtcdUnknown):
            await etcd.get(etcd_prefix + KEY)
        proxy.mend()
        assert (await coming).revision == written
        await watch.aclose()
