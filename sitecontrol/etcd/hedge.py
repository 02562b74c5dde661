"""Asking several endpoints the same question, for calls that may be repeated: the first answer wins.

A hung member keeps its connections and says nothing, so that only time tells. An attempt that is slow is left
running while the next endpoint is asked too: on a slow line the first may still answer, on a hung member the
second does, and either way the whole ends within one deadline. Whoever answers is asked first from then on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from sitecontrol.etcd.api import EtcdUnknown
from sitecontrol.etcd.endpoints import Endpoint, Endpoints

SHARES = (
    3  # each further endpoint is asked after one more third of the deadline, or when the one before failed
)
PAUSE = 0.05  # seconds before an endpoint that failed, or is not connected, is tried again

T = TypeVar("T")


async def first_answer(
    endpoints: Endpoints, attempt: Callable[[Endpoint, float], Awaitable[T]], *, timeout: float
) -> T:
    """The result of `attempt(endpoint, seconds_left)` at whichever endpoint gives one first.

    EtcdUnknown from an attempt means "ask another"; any other exception is the answer. Raises EtcdUnknown
    with the last reason when the time is up.
    """
    endpoints.check_open()
    now = asyncio.get_running_loop().time
    deadline = now() + timeout
    order = endpoints.in_order()
    turns = [asyncio.Event() for _ in range(len(order) + 1)]
    reasons: list[str] = []

    async def ask(place: int, endpoint: Endpoint) -> tuple[Endpoint, T]:
        with suppress(TimeoutError):
            async with asyncio.timeout(place * timeout / SHARES):
                await turns[place].wait()
        while True:
            endpoints.check_open()
            if endpoint.connected:
                try:
                    return endpoint, await attempt(endpoint, deadline - now())
                except EtcdUnknown as error:
                    reasons.append(str(error))
                    endpoints.leave(endpoint)
            turns[place + 1].set()
            await asyncio.sleep(PAUSE)

    turns[0].set()
    asking = [asyncio.create_task(ask(place, endpoint)) for place, endpoint in enumerate(order)]
    try:
        done, _ = await asyncio.wait(asking, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if done:
            winner, result = done.pop().result()
            endpoints.prefer(winner)
            return result
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    raise EtcdUnknown(reasons[-1] if reasons else f"no endpoint answered within {timeout} s")
