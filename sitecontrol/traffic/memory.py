"""An adapter in memory: it keeps what it was told, and fails or hangs when a test says so."""

import asyncio

from sitecontrol.traffic.api import AdapterFailed, Move


class MemoryAdapter:
    def __init__(self, name: str = "memory", deadline: float = 1.0) -> None:
        self.name = name
        self.deadline = deadline
        self.pointed: list[Move] = []  # every call that succeeded
        self.stands: Move | None = None  # where clients are sent
        self.failure: Exception | None = None  # raised by every call
        self.answers = asyncio.Event()  # cleared: every call hangs
        self.answers.set()

    async def point_to(self, move: Move) -> None:
        await self._answer()
        if self.stands is not None and self.stands.term > move.term:
            raise AdapterFailed(f"term {self.stands.term} stands there already")
        self.pointed.append(move)
        self.stands = move

    async def check(self, move: Move) -> str | None:
        await self._answer()
        if self.stands is None:
            return "clients are sent nowhere"
        return None if self.stands == move else f"clients are sent to {self.stands.site}"

    def plan(self, move: Move) -> list[str]:
        return [f"{move.site} in term {move.term}"]

    async def _answer(self) -> None:
        await self.answers.wait()
        if self.failure is not None:
            raise self.failure
