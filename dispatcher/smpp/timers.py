"""Named timers of one owner: at most one of each name, and all of them gone when the owner is."""

import asyncio
from collections.abc import Callable


class Timers:
    __slots__ = ("_handles", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._handles

    def after(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        """`act` in so many seconds; replaces the timer of the same name."""

        def fire() -> None:
            del self._handles[name]
            act()

        self.forget(name)
        self._handles[name] = self._loop.call_later(max(0.0, seconds), fire)

    def forget(self, name: str) -> None:
        if handle := self._handles.pop(name, None):
            handle.cancel()

    def forget_all(self) -> None:
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()
