"""Reads the site's file again when it is told to, and changes the carriers without a restart (ADR 17).

Rules:

* Only on a word (SIGHUP): a file that is being edited must not take effect half saved.
* The file is taken as a whole or not at all: with one mistake in it, a password that is missing, or a carrier that does
  not fit to what this process runs with, everything goes on as it was. Why is logged, and stands in `/status`.
* Carriers, and what chooses between them, are changed. Whatever else differs is read at the next start; it is named.
* One change at a time; the file is read when the one before is done, so the newest counts.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from dispatcher.engine.changes import Change, needs_restart
from dispatcher.owned import Tasks
from sitecontrol.clock import Clock
from sitecontrol.settings import Settings, SettingsError, load
from sitecontrol.settings_carriers import check_carriers
from sitecontrol.settings_errors import Misfit, dotted

log = structlog.get_logger()


class Reload:
    """`change` carries it out; it raises SettingsError or ValueError when it refuses, and has changed nothing then."""

    def __init__(
        self,
        *,
        file: Path | None,
        running: Settings,
        change: Callable[[Settings], Awaitable[Change]],
        clock: Clock,
    ) -> None:
        self._file = file
        self._running = running
        self._change = change
        self._clock = clock
        self._asked = asyncio.Event()
        self._reloads = 0
        self._at = clock.wall()  # when what holds now was read
        self._refused: dict[str, Any] | None = None
        self._restart: list[str] = []
        self._changing = False
        self.tasks = Tasks("reload")

    async def start(self) -> None:
        self.tasks.spawn(self._forever(), "reload")

    async def stop(self) -> None:
        await self.tasks.stop()

    def ask(self) -> None:
        self._asked.set()

    def status(self) -> dict[str, Any]:
        """For `/status`."""
        return {
            "file": None if self._file is None else str(self._file),
            "read_at": self._at.isoformat(timespec="seconds"),
            "reloads": self._reloads,
            "changing": self._changing,
            "refused": self._refused,
            "needs_restart": self._restart,
        }

    async def _forever(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._changing = True
            await self._once()
            self._changing = False

    async def _once(self) -> None:
        at = self._clock.wall()
        try:
            read = await asyncio.to_thread(self._read)
            change = await self._change(read)
        except (SettingsError, ValueError) as error:
            reasons = str(error).splitlines()
            self._refused = {"at": at.isoformat(timespec="seconds"), "reasons": reasons}
            log.error("settings_refused", file=str(self._file), reasons=reasons)  # noqa: TRY400 # they say it
            return
        self._at, self._refused, self._reloads = at, None, self._reloads + 1
        self._restart = needs_restart(self._running, read)
        log.info("settings_reloaded", file=str(self._file), **change.as_json(), needs_restart=self._restart)

    def _read(self) -> Settings:
        """Raises SettingsError."""
        if self._file is None:
            raise SettingsError("this dispatcher was started without a file: there is nothing to read again")
        read = load(self._file)
        mine, its = self._running.site.name, read.site.name
        if mine != its:
            raise SettingsError(f"{self._file}: site.name = {its!r}: this dispatcher runs at {mine}")
        grace = self._running.dispatcher.doubt_grace  # it is read at a start only
        try:
            check_carriers(read.carrier, doubt_grace=grace, by=read.dispatcher.route_by)
        except Misfit as misfit:
            raise SettingsError(
                f"{self._file}: {dotted(misfit.path)}: {misfit.rule}; this dispatcher runs with {grace:g} s until it"
                " is started again"
            ) from None
        return read
