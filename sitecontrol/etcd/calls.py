"""How a question is put to etcd: deadline, endpoint, token, and what a failure means.

Two ways, by what a repetition would do:

- `ask`: reading, prolonging a lease, revoking it. Repeating it does no harm, so it goes to further endpoints
  until the deadline (see `hedge`).
- `change`: everything that writes. It is started once, on a channel that is connected, and never repeated
  here:
  a put sent to a hung member is applied when that member wakes. The one exception is etcd's refusal of our
  token, which says that nothing was written.
"""

import asyncio
from functools import partial
from typing import Any

import grpc
import grpc.aio

from sitecontrol.etcd.answers import OneCluster, TokenRefused, meaning, spoilt
from sitecontrol.etcd.api import EtcdUnknown
from sitecontrol.etcd.auth import Tokens
from sitecontrol.etcd.endpoints import Endpoint, Endpoints
from sitecontrol.etcd.hedge import first_answer
from sitecontrol.etcd.wire import Rpc

# A member that knows of no leader then says so at once, instead of keeping us until the deadline.
NEED_LEADER = ("hasleader", "true")


class Calls:
    def __init__(self, endpoints: Endpoints, tokens: Tokens | None, timeout: float) -> None:
        self.endpoints = endpoints
        self.tokens = tokens
        self.timeout = timeout
        self.cluster = OneCluster()

    async def ask(
        self, rpc: Rpc, request: Any, *, timeout: float | None = None, need_leader: bool = True
    ) -> Any:
        """The answer of any endpoint. Raises EtcdError."""
        attempt = partial(self._attempt, rpc, request, need_leader=need_leader)
        return await first_answer(self.endpoints, attempt, timeout=timeout or self.timeout)

    async def change(self, rpc: Rpc, request: Any, *, timeout: float | None = None) -> Any:
        """The answer to a call that writes, sent at most once. Raises EtcdError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (timeout or self.timeout)
        endpoint = await self.endpoints.first_connected(deadline - loop.time())
        try:
            return await self._attempt(rpc, request, endpoint, deadline - loop.time())
        except EtcdUnknown:
            self.endpoints.leave(endpoint)
            raise

    async def at(self, endpoint: Endpoint, rpc: Rpc, request: Any, *, timeout: float) -> Any:
        """The answer of this one endpoint, whether it knows of a leader or not. Raises EtcdError."""
        return await self._attempt(rpc, request, endpoint, timeout, need_leader=False)

    async def _attempt(
        self, rpc: Rpc, request: Any, endpoint: Endpoint, left: float, *, need_leader: bool = True
    ) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + left
        metadata = [NEED_LEADER] if need_leader else []
        if self.tokens is None:
            return await self._send(rpc, request, endpoint, left, metadata)
        for last_try in (False, True):
            token = await self.tokens.current(deadline - loop.time())
            try:
                return await self._send(
                    rpc, request, endpoint, deadline - loop.time(), [*metadata, ("token", token)]
                )
            except TokenRefused:
                self.tokens.forget(token)
                if last_try:
                    raise
        raise AssertionError("the second try returns or raises")

    async def _send(
        self, rpc: Rpc, request: Any, endpoint: Endpoint, left: float, metadata: list[tuple[str, str]]
    ) -> Any:
        if left <= 0:
            raise EtcdUnknown(f"{endpoint.url}: no time left to send {rpc.name}")
        try:
            answer = await endpoint.rpc[rpc](request, timeout=left, metadata=metadata)
            return answer if rpc is Rpc.MOVE_LEADER else self.cluster.checked(answer, endpoint.url)
        except EtcdUnknown:
            raise
        except grpc.aio.AioRpcError as error:
            raise meaning(error, endpoint.url) from error
        except (asyncio.CancelledError, grpc.aio.UsageError):
            # Closing a channel ends its calls as if the task had been cancelled.
            task = asyncio.current_task()
            if not self.endpoints.closed or (task is not None and task.cancelling()):
                raise
            raise EtcdUnknown(f"{endpoint.url}: this etcd client was closed during {rpc.name}") from None
        except Exception as error:
            raise spoilt(error, endpoint.url) from error
