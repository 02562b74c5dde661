"""Things to do at their times, with one timer for all of them: a receipt for each of thousands of texts."""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final, Generic, TypeVar

_TOGETHER_S: Final = 0.005  # what is due within this is handed over together

T = TypeVar("T")


class Due(Generic[T]):
    """Hands over what has become due, in order of time."""

    def __init__(self, act: Callable[[Sequence[T]], None]) -> None:
        self._act = act
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, T]] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, seconds: float, item: T) -> None:
        """`item` is due in so many seconds."""
        at = self._loop.time() + seconds
        heapq.heappush(self._heap, (at, next(self._order), item))
        if self._timer is None or at < self._timer_at - _TOGETHER_S:
            self._arm(at + _TOGETHER_S)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _arm(self, at: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        if self._heap:
            self._arm(max(self._heap[0][0], now) + _TOGETHER_S)
        if due:
            self._act(due)
