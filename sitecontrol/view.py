"""A live picture of our keys in etcd, followed by watch, for everybody who only needs to *see* who leads.

Seeing is not proof: the picture may be old (`read_at` tells when etcd last spoke). What must not be wrong is
decided by a transaction in etcd, or by the database, which knows its leader.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import structlog

from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Etcd, EtcdError, EventKind, KeyValue, Range
from sitecontrol.records import (
    BadRecord,
    Desired,
    DispatcherRecord,
    HistoryEntry,
    Initialize,
    Leader,
    Member,
    Observation,
    Record,
    Swap,
    Sync,
    Term,
)

log = structlog.get_logger()

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, kw_only=True)
class Entry(Generic[R]):
    """A decoded record and what a transaction may compare of it."""

    record: R
    mod_revision: int
    create_revision: int
    lease: int


@dataclass(frozen=True, kw_only=True)
class LogEnd:
    """The newest entry of the audit log; number 0: there is none."""

    number: int = 0
    digest: str | None = None  # sha256 of its value


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything below our prefix, at one revision. `serial` grows with every change."""

    serial: int = 0
    revision: int = 0
    read_at: float | None = None  # Clock.now() of etcd's last word to us; None: not yet read at all
    initialize: Entry[Initialize] | None = None
    leader: Entry[Leader] | None = None
    term: Entry[Term] | None = None
    sync: Entry[Sync] | None = None
    swap: Entry[Swap] | None = None
    desired: Entry[Desired] | None = None
    members: Mapping[str, Entry[Member]] = field(default_factory=dict)
    dispatchers: Mapping[str, Entry[DispatcherRecord]] = field(default_factory=dict)
    observations: Mapping[str, Entry[Observation]] = field(default_factory=dict)
    history: Mapping[str, Entry[HistoryEntry]] = field(default_factory=dict)
    log_end: LogEnd = LogEnd()
    bad: Mapping[str, str] = field(default_factory=dict)  # key -> why its value was refused


AUDIT = "audit"  # the folder of the audit log (leadership.audit)
AUDIT_DIGITS = 18
SINGLE: Mapping[str, type[Record]] = {
    "initialize": Initialize,
    "leader": Leader,
    "term": Term,
    "sync": Sync,
    "swap": Swap,
    "desired": Desired,
}
FOLDERS: Mapping[str, type[Record]] = {
    "members": Member,
    "dispatchers": DispatcherRecord,
    "observations": Observation,
    "history": HistoryEntry,
}


def audit_number(rest: str) -> int | None:
    """The number of an entry of the audit log by its key without the folder; None when it is no such key."""
    if not (rest.isascii() and rest.isdigit() and len(rest) <= AUDIT_DIGITS):
        return None
    number = int(rest)
    return number if number > 0 and audit_key(number) == f"{AUDIT}/{rest}" else None


def audit_key(number: int) -> str:
    return f"{AUDIT}/{number:010d}"


def put(snapshot: Snapshot, name: str, kv: KeyValue) -> Snapshot:
    """The picture with one key set. A value that does not decode stands in `bad` and nowhere else."""
    snapshot = remove(snapshot, name)
    folder, _, rest = name.partition("/")
    number = audit_number(rest) if folder == AUDIT else None
    if number is not None:
        # Only its end is kept: nobody decides by the log, and it has to go on whatever its entries look like.
        end = LogEnd(number=number, digest=hashlib.sha256(kv.value).hexdigest())
        return replace(snapshot, log_end=max(snapshot.log_end, end, key=lambda at: at.number))
    kind = SINGLE.get(name) or (FOLDERS.get(folder) if rest else None)
    if kind is None:
        return snapshot
    try:
        entry = Entry(
            record=kind.decode(kv.value),
            mod_revision=kv.mod_revision,
            create_revision=kv.create_revision,
            lease=kv.lease,
        )
    except BadRecord as error:
        return replace(snapshot, bad={**snapshot.bad, name: str(error)})
    change: dict[str, Any] = {name: entry}
    if name not in SINGLE:
        change = {folder: {**getattr(snapshot, folder), rest: entry}}
    return replace(snapshot, **change)


def remove(snapshot: Snapshot, name: str) -> Snapshot:
    folder, _, rest = name.partition("/")
    change: dict[str, Any] = {}
    if name in snapshot.bad:
        change["bad"] = {k: v for k, v in snapshot.bad.items() if k != name}
    if name in SINGLE:
        change[name] = None
    elif folder in FOLDERS and rest in getattr(snapshot, folder):
        change[folder] = {k: v for k, v in getattr(snapshot, folder).items() if k != rest}
    return replace(snapshot, **change)


def read_all(answer: Range, prefix: str) -> Snapshot:
    snapshot = Snapshot(revision=answer.revision)
    for kv in answer.kvs:
        snapshot = put(snapshot, kv.key.removeprefix(prefix), kv)
    return snapshot


class ClusterView:
    """Follows the prefix for as long as `run` runs; keeps the last picture when etcd is away."""

    def __init__(self, etcd: Etcd, prefix: str, clock: Clock) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._clock = clock
        self._changed = asyncio.Condition()
        self.snapshot = Snapshot()

    async def run(self) -> None:
        """Read everything, then follow. Ends only by cancellation."""
        while True:
            try:
                answer = await self._etcd.get_prefix(self._prefix)
                await self._replace(read_all(answer, self._prefix))
                async for batch in self._etcd.watch(self._prefix, answer.revision + 1):
                    if batch.reset is not None:
                        await self._replace(read_all(batch.reset, self._prefix))
                        continue
                    snapshot = self.snapshot
                    if batch.revision <= snapshot.revision:
                        continue  # a read that was newer came first: never go back
                    for event in batch.events:
                        if event.kv.mod_revision <= snapshot.revision:
                            continue
                        name = event.kv.key.removeprefix(self._prefix)
                        deleted = event.kind is EventKind.DELETE
                        snapshot = remove(snapshot, name) if deleted else put(snapshot, name, event.kv)
                    await self._replace(replace(snapshot, revision=batch.revision))
            except EtcdError as error:
                log.debug("cluster_view_interrupted", error=str(error))
            await self._clock.sleep(0.2)

    async def refresh(self) -> Snapshot:
        """Read everything by a linearizable read now. Raises EtcdError."""
        answer = await self._etcd.get_prefix(self._prefix)
        if answer.revision >= self.snapshot.revision:
            await self._replace(read_all(answer, self._prefix))
        return self.snapshot

    async def changed(self, after: int) -> Snapshot:
        """Wait for a picture with a serial above `after`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.snapshot.serial > after)
            return self.snapshot

    async def _replace(self, snapshot: Snapshot) -> None:
        async with self._changed:
            self.snapshot = replace(snapshot, serial=self.snapshot.serial + 1, read_at=self._clock.now())
            self._changed.notify_all()
