"""Waiting for what PostgreSQL tells nobody about: asked again and again, never past a deadline."""

import asyncio
from collections.abc import Awaitable, Callable

from replication.errors import NodeError

EVERY_S = 0.01


async def until(reached: Callable[[], Awaitable[bool]], what: str, *, deadline: float) -> None:
    """Wait until `reached`; raise NodeError ("`what` … within …") when that takes more than `deadline` seconds."""
    try:
        async with asyncio.timeout(deadline):
            while not await reached():  # noqa: ASYNC110 (another program's state has no event)
                await asyncio.sleep(EVERY_S)
    except TimeoutError:
        raise NodeError(f"{what} within {deadline} s") from None
