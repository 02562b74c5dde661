"""The panels as they stand, and what changed since: one rendering for all watchers.

Theory. Panels are made at most once a second, and only while somebody watches; a panel whose HTML is the same
as before is not sent again. Each change has a number; a browser that comes back says the last number it saw
(`Last-Event-ID`) and gets the panels that changed since, in their present form. There is no queue per watcher:
a slow one skips to the present, and can never make the daemon hold its past.

An event's id is `<epoch>-<number>`; the epoch is this daemon's start. Another epoch, or anything that is not
an id of ours, means: send everything.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from healthcheck.noc.panels import PANELS
from healthcheck.noc.render import Renderer
from healthcheck.noc.scene import Scene
from sitecontrol.clock import Clock

log = structlog.get_logger()

TICK = 1.0
FRESH_FOR = 0.5  # a page asked for again within this time is not rendered again
UNSHOWN = '<p class="note bad">This panel cannot be shown; the log of the daemon says why.</p>'


@dataclass(frozen=True, kw_only=True)
class Shown:
    number: int  # of the change that made it so
    html: str


@dataclass(frozen=True, kw_only=True)
class Change:
    id: str
    panel: str
    html: str


class Feed:
    """`run` keeps the panels fresh while there are watchers; `changed` is set by whoever knows of news."""

    def __init__(
        self, scene: Callable[[], Scene], renderer: Renderer, clock: Clock, changed: asyncio.Event
    ) -> None:
        self._scene = scene
        self._renderer = renderer
        self._clock = clock
        self._news = changed
        self._epoch = secrets.token_hex(4)
        self._number = 0
        self._shown: dict[str, Shown] = {}
        self._data: dict[str, Mapping[str, Any]] = {}
        self._made_at: float | None = None
        self._beat = asyncio.Condition()
        self._someone = asyncio.Event()
        self.watchers = 0

    async def run(self) -> None:
        """Make the panels anew every second, and at once when there is news, while somebody watches."""
        while True:
            await self._someone.wait()
            self.refresh()
            async with self._beat:
                self._beat.notify_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._news.wait()
            self._news.clear()

    def refresh(self, *, at_most_old: float = 0.0) -> None:
        """Make the panels, unless they are younger than `at_most_old` seconds."""
        now = self._clock.now()
        if self._made_at is not None and now - self._made_at < at_most_old:
            return
        self._made_at = now
        scene = self._scene()
        for name, make in PANELS.items():
            try:
                self._data[name] = make(scene)
                html = self._renderer.panel(name, self._data[name])
            except Exception:
                # One panel that cannot be shown must not take the others with it, nor the probes.
                log.exception("panel_failed", panel=name)
                html = UNSHOWN
            if name not in self._shown or self._shown[name].html != html:
                self._number += 1
                self._shown[name] = Shown(number=self._number, html=html)

    def data(self, panel: str) -> Mapping[str, Any]:
        self.refresh(at_most_old=FRESH_FOR)
        return self._data[panel]

    def bodies(self) -> dict[str, str]:
        self.refresh(at_most_old=FRESH_FOR)
        return {name: shown.html for name, shown in self._shown.items()}

    def since(self, last_id: str) -> list[Change]:
        """The panels that changed after `last_id`, oldest change first."""
        epoch, _, number = last_id.partition("-")
        seen = int(number) if epoch == self._epoch and number.isdecimal() and len(number) < 19 else 0
        newer = [
            (shown.number, name, shown.html) for name, shown in self._shown.items() if shown.number > seen
        ]
        return [Change(id=f"{self._epoch}-{n}", panel=name, html=html) for n, name, html in sorted(newer)]

    async def follow(self, last_id: str) -> AsyncGenerator[list[Change], None]:
        """What changed, for one watcher, until it goes: a list at each beat, empty when nothing changed."""
        self.watchers += 1
        self._someone.set()
        try:
            self.refresh(at_most_old=FRESH_FOR)
            while True:
                changes = self.since(last_id)
                if changes:
                    last_id = changes[-1].id
                yield changes
                async with self._beat:
                    await self._beat.wait()
        finally:
            self.watchers -= 1
            if self.watchers == 0:
                self._someone.clear()
