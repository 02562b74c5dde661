"""What this dispatcher has claimed and not yet written to a link: small, in memory, and safe to give back.

Each entry carries its claim's deadline, counted on our clock from before the claim's BEGIN and already less a
margin. Whatever leaves here by `withdraw` was provably never written.

Texts that the same carriers may carry stand in a lane of their own (`routing.Lane`), so that a link looks only at what
it may take, however much waits for another.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import merge
from math import inf
from typing import Final, NamedTuple

from dispatcher.engine.routing import Lane, Quota
from dispatcher.model import Claim, MessageClass


@dataclass(frozen=True, slots=True)
class Claimed:
    claim: Claim
    deadline: float  # clock.now() past which it must not be written under this claim
    expires: float = inf  # clock.now() past which nobody may send it any more
    lane: Lane | None = None  # None: there is nothing to choose


class Waiting(NamedTuple):
    texts: int
    deadline: float  # of the one that has waited longest


NOTHING: Final = Waiting(0, inf)
Quotas = Callable[[Lane | None, MessageClass], Quota]
May = Callable[[Claimed], bool]
CLASSES = tuple(sorted(MessageClass))


class Backlog:
    """First in, first out inside a class; a class that goes first overtakes the others."""

    def __init__(self) -> None:
        self._queues: dict[MessageClass, dict[Lane | None, deque[Claimed]]] = {cls: {} for cls in CLASSES}
        self._length = 0
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return self._length

    @property
    def lanes(self) -> dict[Lane | None, Waiting]:
        """What waits in each that has something."""
        found: dict[Lane | None, Waiting] = {}
        for lanes in self._queues.values():
            for lane, queue in lanes.items():
                if queue:
                    texts, deadline = found.get(lane, NOTHING)
                    found[lane] = Waiting(texts + len(queue), min(deadline, queue[0].deadline))
        return found

    @property
    def emergencies(self) -> int:
        return sum(map(len, self._queues[MessageClass.EMERGENCY].values()))

    async def wait(self) -> None:
        """Wait until there is something."""
        await self._some.wait()

    def add(self, claimed: Iterable[Claimed]) -> None:
        added = 0
        for item in claimed:
            self._queue(item).append(item)
            added += 1
        self._note(added)

    def put_back(self, claimed: Sequence[Claimed]) -> None:
        """What was taken and not written returns to its place in front."""
        backs: dict[tuple[MessageClass, Lane | None], list[Claimed]] = {}
        for item in claimed:
            backs.setdefault((item.claim.message_class, item.lane), []).append(item)
        for (cls, lane), back in backs.items():
            queue = self._queue(back[0])
            if queue and queue[0].deadline < back[-1].deadline:  # others had been passed over
                self._queues[cls][lane] = deque(merge(back, queue, key=lambda item: item.deadline))
            else:
                queue.extendleft(reversed(back))
        self._note(len(claimed))

    def take(self, most: int, may: May | None = None, quotas: Quotas | None = None) -> list[Claimed]:
        """The first ones, or the first of those that `may` go now; the others keep their places.

        `quotas`: how many of each lane. Where several lanes have some, the one that has waited longest goes first.
        """
        taken: list[Claimed] = []
        for cls, lanes in self._queues.items():
            for lane in lanes if len(lanes) < 2 else _oldest_first(lanes):
                if len(taken) == most:
                    break
                queue = lanes[lane]
                if not queue:
                    continue
                found = quotas(lane, cls) if quotas is not None else None
                if found is None:
                    self._take(queue, taken, most, may, inf)
                elif found.most > 0:
                    self._take(queue, taken, min(most, len(taken) + found.most), may, found.until)
        self._note(-len(taken))
        return taken

    @staticmethod
    def _take(queue: deque[Claimed], taken: list[Claimed], most: int, may: May | None, until: float) -> None:
        passed: list[Claimed] = []
        while queue and len(taken) < most and queue[0].deadline <= until:
            item = queue.popleft()
            (taken if may is None or may(item) else passed).append(item)
        queue.extendleft(reversed(passed))

    def withdraw(self, past: float = inf) -> list[Claimed]:
        """Take out what may not be written any more at `past`; everything by default."""
        gone: list[Claimed] = []
        for lanes in self._queues.values():
            for queue in lanes.values():
                while (
                    queue and queue[0].deadline <= past
                ):  # claims come, and stand, in the order of their deadlines
                    gone.append(queue.popleft())
        self._note(-len(gone))
        return gone

    def withdraw_lane(self, lane: Lane | None) -> list[Claimed]:
        """Take out all of one lane."""
        gone = [item for lanes in self._queues.values() for item in lanes.pop(lane, ())]
        self._note(-len(gone))
        return gone

    def _queue(self, item: Claimed) -> deque[Claimed]:
        lanes = self._queues[item.claim.message_class]
        queue = lanes.get(item.lane)
        if queue is None:
            for lane in [lane for lane, other in lanes.items() if not other]:
                del lanes[lane]
            queue = lanes[item.lane] = deque()
        return queue

    def _note(self, more: int) -> None:
        self._length += more
        if self._length:
            self._some.set()
        else:
            self._some.clear()


def _oldest_first(lanes: dict[Lane | None, deque[Claimed]]) -> list[Lane | None]:
    waiting = [lane for lane, queue in lanes.items() if queue]
    return sorted(waiting, key=lambda lane: lanes[lane][0].deadline)
