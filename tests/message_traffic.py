"""Messages that go all the way, one after the other, while something is done beside them."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import UUID

from tests.message_scenes import Stage, receipt, submitted


class Traffic:
    """A message at a time, from the request to the receipt, on one session whose plans were made long ago."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.messages: list[UUID] = []
        self.went_on = asyncio.Event()
        self.enough = False

    async def run(self) -> None:
        while not self.enough:
            claim = await self.stage.sent(reference=f"r-{len(self.messages)}")
            await self.stage.store.settle([submitted(claim, f"id-{claim.message_id}")])
            await self.stage.store.receipts([receipt(f"id-{claim.message_id}")])
            await self.stage.store.open_claims(self.stage.term)
            await self.stage.store.release_due(self.stage.term, 100)
            self.messages.append(claim.message_id)
            self.went_on.set()

    async def more(self, number: int) -> None:
        """Wait until so many more have gone all the way."""
        goal = len(self.messages) + number
        while len(self.messages) < goal:
            self.went_on.clear()
            await self.went_on.wait()


async def first_of(work: Coroutine[Any, Any, None], running: "asyncio.Task[None]") -> None:
    """Do this work; raises what ends the other meanwhile."""
    task = asyncio.create_task(work)
    await asyncio.wait([task, running], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        task.cancel()
        await running
    await task
