"""The client for a real etcd, on grpc.aio. What it promises stands in `api`, the reasons in docs/etcd.md.

The parts: `endpoints` keeps a channel to each member, `calls` puts a question to them, `stream` and `watch`
follow changes, `auth` has the token, `members` looks after etcd itself, `wire` speaks its messages.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

import grpc

from sitecontrol.clock import Clock
from sitecontrol.etcd import members, wire
from sitecontrol.etcd.api import (
    Compare,
    Delete,
    EtcdUnknown,
    LeaseLost,
    MemberStatus,
    Put,
    Range,
    TxnResult,
    WatchBatch,
)
from sitecontrol.etcd.auth import Tokens
from sitecontrol.etcd.calls import Calls
from sitecontrol.etcd.endpoints import Endpoints
from sitecontrol.etcd.watch import Watch
from sitecontrol.etcd.wire import Rpc


class GrpcEtcd:
    """Implements `api.Etcd`. To be created inside a running event loop (see `connect`), and closed."""

    def __init__(
        self,
        urls: Sequence[str],
        clock: Clock,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        login: tuple[str, str] | None = None,  # user and password
        call_timeout: float = 1.0,
    ) -> None:
        self._clock = clock
        self._endpoints = Endpoints(urls, credentials)
        tokens = Tokens(self._endpoints, *login) if login else None
        self._calls = Calls(self._endpoints, tokens, call_timeout)

    @property
    def strangers(self) -> Sequence[str]:
        return tuple(self._calls.cluster.strangers.values())

    async def get(self, key: str, *, serializable: bool = False, timeout: float | None = None) -> Range:
        request = wire.get_request(key, serializable=serializable)
        return await self._read(request, serializable=serializable, timeout=timeout)

    async def get_prefix(
        self, prefix: str, *, serializable: bool = False, timeout: float | None = None
    ) -> Range:
        request = wire.prefix_request(prefix, serializable=serializable)
        return await self._read(request, serializable=serializable, timeout=timeout)

    async def _read(self, request: object, *, serializable: bool, timeout: float | None) -> Range:
        # A serializable read is for the time without a quorum: any member will do.
        answer = await self._calls.ask(Rpc.RANGE, request, timeout=timeout, need_leader=not serializable)
        return wire.range_answer(answer)

    async def put(self, key: str, value: bytes, *, lease: int = 0, timeout: float | None = None) -> int:
        request = wire.put_request(Put(key=key, value=value, lease=lease))
        answer = await self._calls.change(Rpc.PUT, request, timeout=timeout)
        return int(answer.header.revision)

    async def delete(self, key: str, *, timeout: float | None = None) -> int:
        request = wire.delete_request(Delete(key=key))
        answer = await self._calls.change(Rpc.DELETE, request, timeout=timeout)
        return int(answer.header.revision)

    async def txn(
        self,
        compares: Sequence[Compare],
        puts_and_deletes: Sequence[Put | Delete],
        *,
        read_on_failure: bool = False,
        timeout: float | None = None,
    ) -> TxnResult:
        request = wire.txn_request(compares, puts_and_deletes, read_on_failure=read_on_failure)
        return wire.txn_answer(await self._calls.change(Rpc.TXN, request, timeout=timeout))

    async def grant(self, ttl: int, *, timeout: float | None = None) -> int:
        answer = await self._calls.change(Rpc.GRANT, wire.grant_request(ttl), timeout=timeout)
        if not answer.ID:
            raise EtcdUnknown("an answer without the lease that was granted")
        return int(answer.ID)

    async def keep_alive(self, lease: int, *, timeout: float | None = None) -> int:
        answer = await self._calls.ask(Rpc.KEEP_ALIVE, wire.keep_alive_request(lease), timeout=timeout)
        return int(answer.TTL)

    async def revoke(self, lease: int, *, timeout: float | None = None) -> None:
        with suppress(LeaseLost):
            await self._calls.ask(Rpc.REVOKE, wire.revoke_request(lease), timeout=timeout)

    def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch, None]:
        return Watch(self._calls, self._clock, prefix, start_revision).batches()

    async def members(self, *, timeout: float | None = None) -> Sequence[MemberStatus]:
        return tuple((await members.statuses(self._calls, timeout or self._calls.timeout)).values())

    async def move_leader(self, member_id: int, *, timeout: float | None = None) -> None:
        await members.move_leader(self._calls, member_id, timeout or self._calls.timeout)

    async def aclose(self) -> None:
        await self._endpoints.aclose()
