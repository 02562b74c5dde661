"""What this dispatcher has claimed and not yet written to a link: small, in memory, and safe to give back.

Each entry carries its claim's deadline, counted on our clock from before the claim's BEGIN and already less a
margin. Whatever leaves here by `withdraw` was provably never written.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import merge
from math import inf

from dispatcher.model import Claim, MessageClass


@dataclass(frozen=True, slots=True)
class Claimed:
    claim: Claim
    deadline: float  # clock.now() past which it must not be written under this claim
    expires: float = inf  # clock.now() past which nobody may send it any more


class Backlog:
    """First in, first out inside a class; a class that goes first overtakes the others."""

    def __init__(self) -> None:
        self._queues = {cls: deque[Claimed]() for cls in sorted(MessageClass)}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    @property
    def emergencies(self) -> int:
        return len(self._queues[MessageClass.EMERGENCY])

    async def wait(self) -> None:
        """Wait until there is something."""
        await self._some.wait()

    def add(self, claimed: Iterable[Claimed]) -> None:
        for item in claimed:
            self._queues[item.claim.message_class].append(item)
        self._note()

    def put_back(self, claimed: Sequence[Claimed]) -> None:
        """What was taken and not written returns to its place in front."""
        for cls, queue in self._queues.items():
            back = [item for item in claimed if item.claim.message_class is cls]
            if back and queue and queue[0].deadline < back[-1].deadline:  # others had been passed over
                self._queues[cls] = deque(merge(back, queue, key=lambda item: item.deadline))
            else:
                queue.extendleft(reversed(back))
        self._note()

    def take(self, most: int, may: Callable[[Claimed], bool] | None = None) -> list[Claimed]:
        """The first ones, or the first of those that `may` go now; the others keep their places."""
        taken: list[Claimed] = []
        for queue in self._queues.values():
            passed: list[Claimed] = []
            while queue and len(taken) < most:
                item = queue.popleft()
                (taken if may is None or may(item) else passed).append(item)
            queue.extendleft(reversed(passed))
        self._note()
        return taken

    def withdraw(self, past: float = inf) -> list[Claimed]:
        """Take out what may not be written any more at `past`; everything by default."""
        gone: list[Claimed] = []
        for queue in self._queues.values():
            while (
                queue and queue[0].deadline <= past
            ):  # claims come, and stand, in the order of their deadlines
                gone.append(queue.popleft())
        self._note()
        return gone

    def _note(self) -> None:
        if len(self):
            self._some.set()
        else:
            self._some.clear()
