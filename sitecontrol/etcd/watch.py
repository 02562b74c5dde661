"""A watch that goes on: across lost and hung members, through a loss of quorum, and past a compaction.

Where to resume moves only with events: answers to progress requests are signs of life and nothing else, since
etcd may give one before it has sent all that went before. When the revision to resume at is no longer there
(compacted, or etcd lost its data and began anew), the whole prefix is read again and handed out as a `reset`.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import structlog

from sitecontrol.clock import Clock
from sitecontrol.etcd.answers import TokenRefused, is_token_trouble
from sitecontrol.etcd.api import EtcdError, EtcdRefused, EtcdUnknown, WatchBatch
from sitecontrol.etcd.calls import NEED_LEADER, Calls
from sitecontrol.etcd.endpoints import Endpoint
from sitecontrol.etcd.stream import responses
from sitecontrol.etcd.wire import Rpc, prefix_request, range_answer, watch_batch, watch_request

PAUSE = 0.05  # seconds between a stream that worked and the next
LONGEST_PAUSE = 0.3  # between streams that do not

log = structlog.get_logger()


class Watch:
    """One watched prefix. Iterate `batches` once."""

    def __init__(self, calls: Calls, clock: Clock, prefix: str, start_revision: int) -> None:
        self._calls = calls
        self._clock = clock
        self._prefix = prefix
        self._next = start_revision  # the first revision that was not yet handed out
        self._accepted = False  # the present stream was set up
        self._token_doubted = False  # the present token was fetched because the one before was refused

    async def batches(self) -> AsyncGenerator[WatchBatch, None]:
        """Raises EtcdRefused when etcd does not let us see the prefix. Ends when the client is closed."""
        endpoints, pause = self._calls.endpoints, PAUSE
        while True:
            self._accepted = False
            try:
                endpoint = await endpoints.first_connected(within=None)
            except EtcdUnknown:
                return
            try:
                async with aclosing(self._stream(endpoint)) as batches:
                    async for batch in batches:
                        yield batch
            except EtcdUnknown as error:
                endpoints.leave(endpoint)
                tell = log.info if self._accepted else log.debug
                tell("etcd_watch_moves", prefix=self._prefix, next_revision=self._next, reason=str(error))
            pause = PAUSE if self._accepted else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _stream(self, endpoint: Endpoint) -> AsyncGenerator[WatchBatch, None]:
        """Batches of one stream; returns when the next stream should start elsewhere than at an event."""
        metadata, token = [NEED_LEADER], None
        if self._calls.tokens is not None:
            token = await self._calls.tokens.current(self._calls.timeout)
            metadata.append(("token", token))
        try:
            request = watch_request(self._prefix, self._next)
            async with aclosing(responses(endpoint, request, metadata, self._clock)) as answers:
                async for answer in answers:
                    batch = await self._understand(self._calls.cluster.checked(answer, endpoint.url))
                    if batch is None:
                        continue
                    self._next = batch.revision + 1
                    yield batch
                    if batch.reset is not None:
                        return
        except TokenRefused:
            if token is None or self._token_doubted:
                raise
            self._calls.tokens.forget(token)  # type: ignore[union-attr]  # a token comes from there
            self._token_doubted = True

    async def _understand(self, answer: Any) -> WatchBatch | None:
        """The batch in an answer, if it has one. `canceled` counts even where `created` is set as well."""
        if answer.canceled:
            if answer.compact_revision:
                return await self._read_again()
            raise self._cancellation(answer.cancel_reason)
        if answer.created:
            self._accepted = True
            self._token_doubted = False
            if answer.header.revision + 1 < self._next:
                return await self._look_back()
        return watch_batch(answer) if answer.events else None

    def _cancellation(self, reason: str) -> EtcdError:
        denied = "permission denied" in reason
        if is_token_trouble(reason) or (denied and self._calls.tokens is not None):
            # etcd 3.4 says "permission denied" of a token that it has forgotten, too.
            return TokenRefused(f"watch of {self._prefix}: {reason}")
        if denied:
            return EtcdRefused(f"watch of {self._prefix}: {reason}")
        return EtcdUnknown(f"watch of {self._prefix} cancelled: {reason}")

    async def _read_again(self) -> WatchBatch:
        answer = await self._calls.ask(Rpc.RANGE, prefix_request(self._prefix, serializable=False))
        now = range_answer(answer)
        log.info(
            "etcd_watch_reads_again", prefix=self._prefix, next_revision=self._next, revision=now.revision
        )
        return WatchBatch(revision=now.revision, reset=now)

    async def _look_back(self) -> WatchBatch | None:
        """The member is not as far as we are: it lags behind (None), or the whole store began anew (a reset).

        A majority is never behind what one of its members told us, so a linearizable read decides.
        """
        batch = await self._read_again()
        return batch if batch.revision + 1 < self._next else None
