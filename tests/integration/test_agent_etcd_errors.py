"""Every kind of etcd error between a live site and a real etcd: it serves on, is never wrong, and recovers by itself.

Only one agent is behind the proxies: the leader's, while the standby hears etcd and would take over if it could; in the
last test the standby's.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, TypeVar

import grpc
import pytest
from aetcd.rpc import rpc_pb2

from tests.agents import Pair, run_pair, steady_writing
from tests.etcd_proxy import ByteProxy, Call, CallProxy, Fault, Spoil, byte_proxy, call_proxy

pytestmark = pytest.mark.long

LEASE_TTL = 3
MET = 12  # calls that have to meet an error before it ends
T = TypeVar("T")
Code = grpc.StatusCode

# etcd's own words, and what gRPC says by itself.
STATUS: dict[str, tuple[grpc.StatusCode, str]] = {
    "no-leader": (Code.UNAVAILABLE, "etcdserver: no leader"),
    "leader-changed": (Code.UNAVAILABLE, "etcdserver: leader changed"),
    "request-timed-out": (Code.UNAVAILABLE, "etcdserver: request timed out"),
    "too-many-requests": (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests"),
    "no-space": (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
    "request-too-large": (Code.INVALID_ARGUMENT, "etcdserver: request is too large"),
    "corrupt": (Code.DATA_LOSS, "etcdserver: corrupt cluster"),
    "cluster-id-mismatch": (Code.FAILED_PRECONDITION, "etcdserver: cluster ID mismatch"),
    "token-expired": (Code.UNAUTHENTICATED, "etcdserver: invalid auth token"),
    "auth-store-is-old": (Code.INVALID_ARGUMENT, "etcdserver: revision of auth store is old"),
    "permission-denied": (Code.PERMISSION_DENIED, "etcdserver: permission denied"),
    "lease-not-found": (Code.NOT_FOUND, "etcdserver: requested lease not found"),
    "compacted": (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"),
    "future-revision": (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"),
    **{f"grpc-{code.name.lower()}": (code, "said by nobody") for code in Code if code is not Code.OK},
}
AFTER = ("request-timed-out", "grpc-unavailable", "grpc-unknown", "grpc-cancelled")  # else they would be lies
OUTLAST_THE_LEASE = ("no-leader", "permission-denied", "lease-not-found")


class Counted(Fault):
    """Calls under way when an error begins are left alone, so that nothing is half begun; `met` counts the others."""

    def __init__(self) -> None:
        self.met = 0


class Refuses(Counted):
    """Before etcd has heard of it, or after it has done it."""

    def __init__(self, code: grpc.StatusCode, details: str, *, done: bool) -> None:
        super().__init__()
        self._status = code, details
        self._done = done

    async def before(self, call: Call) -> None:
        if not self._done:
            self.met += 1
            await call.refuse(*self._status)

    async def answer(self, call: Call, answer: bytes) -> bytes:
        if self._done:
            self.met += 1
            await call.refuse(*self._status)
        return answer


class AnswersLate(Counted):
    """Long after the deadline: of what was done, or of what was not begun."""

    def __init__(self, *, done: bool) -> None:
        super().__init__()
        self._done = done
        self._for_ever = asyncio.Event()

    async def before(self, call: Call) -> None:
        if not self._done:
            self.met += 1
            await self._for_ever.wait()

    async def answer(self, call: Call, answer: bytes) -> bytes:
        if self._done:
            self.met += 1
            await self._for_ever.wait()
        return answer


class AnotherCluster(Counted):
    """An etcd in which nothing of ours stands."""

    async def answer(self, call: Call, answer: bytes) -> bytes:
        self.met += 1
        header = rpc_pb2.ResponseHeader(cluster_id=4711, member_id=1, revision=10**6)
        return bytes(rpc_pb2.RangeResponse(header=header).SerializeToString())


class WatchIsCompacted(Counted):
    """Each watch is cancelled, because what it wants to see is not there any more."""

    async def answer(self, call: Call, answer: bytes) -> bytes:
        if not call.method.endswith("/Watch"):
            return answer
        self.met += 1
        told = rpc_pb2.WatchResponse.FromString(answer)
        gone = rpc_pb2.WatchResponse(header=told.header, canceled=True, compact_revision=1)
        return bytes(gone.SerializeToString())


# -- the proxies, in a thread of their own, for as long as the agents run --------------------------------------------


class Way:
    """From the leader's agent to each member: bytes, then calls."""

    def __init__(self, urls: list[str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="etcd-proxies")
        self._thread.start()
        self._stack = AsyncExitStack()
        self._calls: list[CallProxy] = []
        self._bytes: list[ByteProxy] = []
        self.run(self._open(urls))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _open(self, urls: list[str]) -> None:
        for url in urls:
            calls = await self._stack.enter_async_context(call_proxy(url))
            self._calls.append(calls)
            self._bytes.append(await self._stack.enter_async_context(byte_proxy(f"http://{calls.address}")))

    @property
    def urls(self) -> list[str]:
        return [proxy.url for proxy in self._bytes]

    def begin(self, fault: Callable[[], Fault]) -> Fault:
        async def made() -> Fault:
            one = fault()
            for proxy in self._calls:
                proxy.fault = one
            for way in self._bytes:  # whoever is connected comes again, and its watch as well
                way.drop()
            return one

        return self.run(made())

    def spoil(self, spoil: Spoil) -> None:
        async def spoilt() -> None:
            for proxy in self._bytes:
                proxy.begin(spoil)

        self.run(spoilt())

    @property
    def spoilt(self) -> int:
        return sum(proxy.met for proxy in self._bytes)

    def mend(self) -> None:
        async def mended() -> None:
            for calls in self._calls:
                calls.fault = Fault()
            for way in self._bytes:
                way.mend()
                way.drop()

        self.run(mended())

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def agents(way: Way, _without_way: Pair) -> Pair:
    """Columbus, which is preferred and so leads, behind the proxies."""
    config = _without_way.columbus.config
    text = config.read_text()
    for url, proxied in zip(_without_way.etcd.urls, way.urls, strict=True):
        text = text.replace(url, proxied)
    config.write_text(text)
    return _without_way


@pytest.fixture(scope="module")
def _without_way() -> Iterator[Pair]:
    with run_pair(lease_ttl=LEASE_TTL) as made:
        yield made


@pytest.fixture(scope="module")
def way(_without_way: Pair) -> Iterator[Way]:
    made = Way(list(_without_way.etcd.urls))
    try:
        yield made
    finally:
        made.close()


# -- the story -----------------------------------------------------------------------------------------------------


async def outlived(pair: Pair, way: Way, met: Callable[[], bool], *, lease_ends: bool = False) -> None:
    """While the error lasts and after it the same node leads in the same term, and each write goes through."""
    leader = pair.columbus
    _, _, term = await pair.leads()
    fenced = len(leader.events("fencing"))

    async def long_enough() -> bool:
        status = await leader.status()
        assert status["live"]
        assert status["term"] == term
        return met() and (not lease_ends or status["lease_s"] is None or float(status["lease_s"]) < 0)

    async def recovered() -> bool:
        status = await leader.status()
        named = (await pair.read_keys()).get("leader", {}).get("node") == leader.node
        return bool(status["etcd_reached"] and (status["lease_s"] or 0) > 0 and status["live"] and named)

    process = leader.process
    try:
        async with steady_writing(pair, leader, term):
            await pair.until(long_enough, "the error lasts long enough")
            await asyncio.to_thread(way.mend)
            await pair.until(recovered, "the leader is back at etcd")
    finally:
        await asyncio.to_thread(way.mend)
    assert leader.runs
    assert leader.process is process
    assert (await pair.leads())[::2] == (leader, term)
    assert len(leader.events("fencing")) == fenced


@pytest.mark.parametrize("error", STATUS)
async def test_a_live_site_outlives_a_status_before_anything_is_done(pair: Pair, way: Way, error: str):
    code, details = STATUS[error]
    fault: Any = await asyncio.to_thread(way.begin, lambda: Refuses(code, details, done=False))
    await outlived(pair, way, lambda: fault.met >= MET, lease_ends=error in OUTLAST_THE_LEASE)


@pytest.mark.parametrize("error", AFTER)
async def test_a_live_site_outlives_a_status_after_all_was_done(pair: Pair, way: Way, error: str):
    code, details = STATUS[error]
    fault: Any = await asyncio.to_thread(way.begin, lambda: Refuses(code, details, done=True))
    await outlived(pair, way, lambda: fault.met >= MET)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(lambda: AnswersLate(done=False), id="deadline-before-the-commit"),
        pytest.param(lambda: AnswersLate(done=True), id="deadline-after-the-commit"),
        pytest.param(AnotherCluster, id="another-cluster"),
        pytest.param(WatchIsCompacted, id="compacted-watch"),
    ],
)
async def test_a_live_site_outlives_answers(pair: Pair, way: Way, error: Callable[[], Fault]):
    fault: Any = await asyncio.to_thread(way.begin, error)
    await outlived(pair, way, lambda: fault.met >= MET)


async def test_an_etcd_that_was_made_anew_is_named_with_the_cure_until_ours_answers_again(
    pair: Pair, way: Way
):
    leader = pair.columbus
    await pair.leads()
    await asyncio.to_thread(way.begin, AnotherCluster)

    async def told() -> bool:
        status, answer = await leader.ask("/ready")
        assert (await leader.status())["live"]  # by its canary
        return status == 503 and any(
            "if etcd was made anew, start this process again" in r for r in answer["reasons"]
        )

    async def silent() -> bool:
        return (await leader.ask("/ready")) == (200, {"ready": True, "reasons": []})

    try:
        await pair.until(told, "the other cluster is named")
    finally:
        await asyncio.to_thread(way.mend)
    await pair.until(silent, "ours answers again")
    assert [event["level"] for event in leader.events("etcd_of_another_cluster")]


@pytest.mark.parametrize(
    "spoil", [s for s in Spoil if s is not Spoil.NOTHING], ids=lambda s: s.name.lower().replace("_", "-")
)
async def test_a_live_site_outlives_spoilt_bytes(pair: Pair, way: Way, spoil: Spoil):
    await asyncio.to_thread(way.spoil, spoil)
    await outlived(pair, way, lambda: way.spoilt > 0, lease_ends=spoil is Spoil.HALF_OPEN)


STANDBY_HEARS: dict[str, Callable[[], Counted]] = {
    **{name: partial(Refuses, *STATUS[name], done=False) for name in OUTLAST_THE_LEASE},
    "late-but-done": partial(AnswersLate, done=True),
    "another-cluster": AnotherCluster,
    "compacted-watch": WatchIsCompacted,
}
SPOILS_WHAT_IT_HEARS = (Spoil.EMPTY_MESSAGE, Spoil.NO_MESSAGE, Spoil.UNREADABLE, Spoil.HALF_OPEN)


async def test_a_standby_takes_no_lead_whatever_etcd_tells_it(pair: Pair, way: Way):
    """The other way round: Columbus, behind the proxies, follows. It is the last test, for they all have it lead."""
    home, away, term = await pair.leads()
    assert (await home.swap(away))[0] == 202
    term = await pair.until_leads(away, above=term)
    await pair.until_two_site()
    try:
        async with steady_writing(pair, away, term):
            for name, fault in STANDBY_HEARS.items():
                told: Any = await asyncio.to_thread(way.begin, fault)

                async def met(told: Any = told) -> bool:
                    assert (await away.status())["live"]
                    return bool(told.met >= MET)

                await pair.until(met, f"the standby hears {name}")
                await asyncio.to_thread(way.mend)
                await pair.until_two_site()
            for spoil in SPOILS_WHAT_IT_HEARS:
                await asyncio.to_thread(way.spoil, spoil)

                async def spoilt() -> bool:
                    assert (await away.status())["live"]
                    return way.spoilt > 0

                await pair.until(spoilt, f"the standby hears {spoil.name}")
                await asyncio.to_thread(way.mend)
                await pair.until_two_site()
    finally:
        await asyncio.to_thread(way.mend)
    assert (await pair.leads())[::2] == (away, term)
    assert (await away.swap(home))[0] == 202
    await pair.until_leads(home, above=term)
