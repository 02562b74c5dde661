"""Tells in etcd, afterwards, what nobody could wait for: fences, a lead given up, how long a failover took, rows that
were set aside and settled, settings that changed.

It runs beside everything else and only while things are calm (`telling.calm`); what it writes compares that somebody
leads and no swap is under way. So it can neither delay a fence or a promotion, nor take a number of the audit log from
a claim. What waits to be told is kept in memory, what lies on disk in a ledger there: it is told after a restart, too.

A write without an answer may have been made: its number is looked at before it is written again.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from sitecontrol.agent.executor import Overtaken, Scribe
from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Etcd, EtcdError
from sitecontrol.leadership import audit, telling
from sitecontrol.leadership.alike import Told, told
from sitecontrol.leadership.audit import Act
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.table import Decision
from sitecontrol.leadership.telling import Taking
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.quarantine import SetAside
from sitecontrol.records import AuditHead
from sitecontrol.settings import Settings
from sitecontrol.view import audit_key

log = structlog.get_logger()

LOOK_EVERY = 1.0  # seconds
MOST = 200  # notes that may wait; more is a storm, of which the first ones tell enough


@dataclass(kw_only=True)
class Note:
    """One thing to be told. `make` gives None when it has been told already, or tells nothing any more."""

    make: Callable[[Writer], Transaction | None]
    kept: Callable[[], None] = lambda: None  # once it is written
    tried: AuditHead | None = None


class Ledger:
    """What of this node's disk has been told: its settings, its files of rows that were set aside."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.settings: Told | None = None
        self.files: dict[str, bool] = {}  # name -> told as settled
        try:
            found: Any = json.loads(path.read_text())
            self.settings, self.files = dict(found["settings"]), dict(found["files"])
        except (OSError, ValueError, TypeError, KeyError):
            pass  # the first start, or damaged: what is found is told once more

    def keep(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps({"settings": self.settings, "files": self.files}))
        fresh.replace(self._path)


class Chronicle:
    def __init__(
        self,
        *,
        scribe: Scribe,
        etcd: Etcd,
        settings: Settings,
        clock: Clock,
        files: Callable[[], Sequence[SetAside]],
    ) -> None:
        self._scribe = scribe
        self._etcd = etcd
        self._prefix = settings.prefix
        self._clock = clock
        self._files = files
        self._settings = told(settings.failover)
        self._ledger_at = settings.site.state_dir / "told.json"
        self._ledger: Ledger | None = None
        self._taking: Taking | None = None
        self._serial = 0
        self._complaint = ""
        self._waiting: dict[str, Note] = {}  # by what is told, each once

    # -- what happens: memory only

    def look(self, facts: Facts) -> None:
        """After each look of the agent: how far a lead that we take has come."""
        if self._taking is None:
            return
        self._taking = telling.further(self._taking, facts)
        if self._taking is not None and self._taking.opened_at is not None:
            self._keep_durations(self._taking)
            self._taking = None

    def began(self, decision: Decision, facts: Facts) -> None:
        """The decision's effect was begun."""
        self._taking = telling.taking(decision, facts) or self._taking
        act = telling.begun(decision, facts)
        if act is not None:
            self._serial += 1
            self._add(f"act {self._serial}", act)

    def _add(self, name: str, act: Act, kept: Callable[[], None] = lambda: None) -> None:
        if name not in self._waiting and len(self._waiting) < MOST:
            self._waiting[name] = Note(make=lambda writer: writer.note(act), kept=kept)

    def _keep_durations(self, taken: Taking) -> None:
        wall = self._clock.wall()
        self._waiting[f"term {taken.term}"] = Note(
            make=lambda writer: writer.timed(taken.term, taken.durations_ms, wall)
        )

    # -- telling it

    async def run(self, facts: Callable[[], Facts]) -> None:
        """Until cancelled. Whatever goes wrong is tried again: nothing of it may end the agent."""
        while True:
            await self._clock.sleep(LOOK_EVERY)
            try:
                if telling.calm(facts()):
                    self._look_at_retired(facts())
                    await self._look_at_disk(facts())
                    await self._tell(facts)
            except (EtcdError, Overtaken) as error:
                log.debug("not_told_yet", waiting=len(self._waiting), error=str(error))
            except Exception as error:  # noqa: BLE001 # see above
                self._complain(str(error))

    async def _tell(self, facts: Callable[[], Facts]) -> None:
        for name, note in list(self._waiting.items()):
            if not telling.calm(facts()):
                return
            if not await self._is_written(note):
                transaction = note.make(self._scribe.writer(facts()))
                if transaction is not None:
                    note.tried = transaction.audited
                    await self._scribe.write(transaction)
            try:
                await asyncio.to_thread(note.kept)
            except (
                OSError
            ) as error:  # a full disk: it is kept when there is room, and keeps nobody else waiting
                self._complain(str(error))
                continue
            del self._waiting[name]

    def _complain(self, error: str) -> None:
        """Once, and not every second."""
        if error != self._complaint:
            self._complaint = error
            log.warning("cannot_tell", waiting=len(self._waiting), error=error)

    async def _is_written(self, note: Note) -> bool:
        """Whether an earlier try was made after all."""
        if note.tried is None:
            return False
        answer = await self._etcd.get(self._prefix + audit_key(note.tried.number))
        return any(audit.digest(kv.value) == note.tried.digest for kv in answer.kvs)

    def _look_at_retired(self, facts: Facts) -> None:
        desired = facts.cluster.desired
        if desired is None or facts.node not in (desired.record.retired or ()):
            return
        act = telling.returned(facts)
        self._waiting.setdefault("returned", Note(make=lambda writer: _back(writer, act)))

    # -- what lies on disk

    async def _look_at_disk(self, facts: Facts) -> None:
        if self._ledger is None:
            self._ledger = await asyncio.to_thread(Ledger, self._ledger_at)
        self._look_at_settings(self._ledger, facts)
        for file in await asyncio.to_thread(self._files):
            self._look_at_file(self._ledger, file, facts)

    def _look_at_settings(self, ledger: Ledger, facts: Facts) -> None:
        def kept() -> None:
            ledger.settings = self._settings
            ledger.keep()

        if ledger.settings is None:  # the first start: nothing has changed
            self._waiting.setdefault("settings", Note(make=lambda _: None, kept=kept))
        elif act := telling.settings_changed(facts, ledger.settings, self._settings):
            self._add("settings", act, kept)

    def _look_at_file(self, ledger: Ledger, file: SetAside, facts: Facts) -> None:
        def kept(*, as_settled: bool) -> None:
            ledger.files[file.name] = as_settled
            ledger.keep()

        if file.name not in ledger.files:
            made = telling.set_aside(facts, file)
            self._add(f"made {file.name}", made, lambda: kept(as_settled=False))
        elif file.settled and not ledger.files[file.name]:
            self._add(f"settled {file.name}", telling.settled(facts, file), lambda: kept(as_settled=True))


def _back(writer: Writer, act: Act) -> Transaction | None:
    """We are not gone for good any more."""
    known = writer.cluster.desired.record if writer.cluster.desired else None
    retired = tuple(node for node in (known.retired if known else None) or () if node != writer.node)
    if known is None or retired == (known.retired or ()):
        return None
    return writer.want(known.model_copy(update={"retired": retired or None}), act)
