"""Waiting for what nothing signals: what another process does, or the inside of one under test."""

import asyncio
import inspect
from collections.abc import Callable

WITHIN_S = 60.0  # a machine that other programs have too may stand still for a while
LOOK_EVERY_S = 0.005


async def eventually(look: Callable[[], object], within: float = WITHIN_S) -> None:
    """Look (with a function or a coroutine function) until it says yes; TimeoutError when it does not in time."""
    async with asyncio.timeout(within):
        while True:
            seen = look()
            if await seen if inspect.isawaitable(seen) else seen:
                return
            await asyncio.sleep(LOOK_EVERY_S)
