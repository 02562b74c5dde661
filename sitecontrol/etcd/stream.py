"""One watch stream to one member, and whether it still lives.

A hung member keeps the connection and is silent, as is a healthy one when nothing changes: so silence is
questioned by asking for progress, which a living member answers within milliseconds. Any answer is a sign of
life. A member that has lost its leader ends the stream by itself, because we ask for that (`NEED_LEADER`).

At most one read is pending, and it is never cancelled to make room for a timer: cancelling it would end the
whole call (hence `asyncio.wait`, not `asyncio.wait_for`).
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

import grpc.aio

from sitecontrol.clock import Clock
from sitecontrol.etcd.answers import meaning, spoilt
from sitecontrol.etcd.api import EtcdUnknown
from sitecontrol.etcd.endpoints import Endpoint
from sitecontrol.etcd.wire import progress_request

QUIET = 0.5  # seconds of silence before the member is asked for progress
ANSWER_WITHIN = 1.0  # further seconds for it to say anything at all; then the stream is dead


class Step(Enum):
    WAIT = auto()
    ASK = auto()
    GIVE_UP = auto()


@dataclass(frozen=True, kw_only=True)
class Liveness:
    """Whether a silent stream is still worth waiting for. Times are seconds of one clock.

    Only a question that was asked can be left unanswered: a process that was itself stopped for a minute asks
    first, and does not take its own sleep for the member's.
    """

    heard_at: float
    asked_at: float | None = None

    def step(self, now: float) -> tuple[Step, float]:
        """What to do now, and after how many seconds to look again."""
        if self.asked_at is None:
            left = self.heard_at + QUIET - now
            return (Step.WAIT, left) if left > 0 else (Step.ASK, ANSWER_WITHIN)
        left = self.asked_at + ANSWER_WITHIN - now
        return (Step.WAIT, left) if left > 0 else (Step.GIVE_UP, 0.0)


async def responses(
    endpoint: Endpoint, request: Any, metadata: Sequence[tuple[str, str]], clock: Clock
) -> AsyncGenerator[Any, None]:
    """All that the member says to `request` on a stream of its own, until closed.

    Raises EtcdUnknown when the stream broke, ended, or died of silence, and EtcdRefused when etcd refused it.
    """
    call = endpoint.watch(metadata=metadata)
    pending: asyncio.Task[Any] | None = None
    try:
        await _write(call, request)
        pending = asyncio.create_task(call.read())
        life = Liveness(heard_at=clock.now())
        while True:
            step, look_again_in = life.step(clock.now())
            if step is Step.GIVE_UP:
                raise EtcdUnknown(f"{endpoint.url}: the watch is silent and does not answer")
            if step is Step.ASK:
                await _write(call, progress_request())
                life = replace(life, asked_at=clock.now())
            done, _ = await asyncio.wait({pending}, timeout=look_again_in)
            if not done:
                continue
            if pending.cancelled():
                raise EtcdUnknown(f"{endpoint.url}: the watch was closed")
            response = _read(pending, endpoint)
            if response is grpc.aio.EOF:  # type: ignore[attr-defined]  # missing in grpc-stubs
                raise EtcdUnknown(f"{endpoint.url}: the member ended the watch")
            pending = asyncio.create_task(call.read())
            yield response
            life = Liveness(heard_at=clock.now())  # what the reader took is not the member's silence
    except grpc.aio.AioRpcError as error:
        raise meaning(error, endpoint.url) from error
    except (TimeoutError, asyncio.InvalidStateError, grpc.aio.UsageError) as error:
        # A write that does not get out, or one to a call that has just ended.
        raise EtcdUnknown(f"{endpoint.url}: the watch broke: {error!r}") from error
    finally:
        call.cancel()
        if pending is not None:
            await asyncio.gather(pending, return_exceptions=True)


def _read(pending: asyncio.Task[Any], endpoint: Endpoint) -> Any:
    try:
        return pending.result()
    except grpc.aio.AioRpcError:
        raise
    except Exception as error:
        raise spoilt(error, endpoint.url) from error


async def _write(call: Any, request: Any) -> None:
    async with asyncio.timeout(ANSWER_WITHIN):
        await call.write(request)
