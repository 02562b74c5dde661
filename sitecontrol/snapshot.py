"""What stands below our prefix in etcd at one revision, decoded key by key. Pure.

A value that does not decode stands in `bad` and nowhere else. What of all this is believed: `sitecontrol.belief`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sitecontrol.etcd.api import KeyValue, Range
from sitecontrol.frozen import replace
from sitecontrol.records import (
    FORMAT,
    BadRecord,
    Desired,
    DispatcherRecord,
    HistoryEntry,
    Initialize,
    Leader,
    Member,
    NewerRecord,
    Observation,
    Reached,
    Record,
    Swap,
    Sync,
    Term,
)

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, kw_only=True)
class Entry(Generic[R]):
    """A decoded record and what a transaction may compare of it."""

    record: R
    mod_revision: int
    create_revision: int
    lease: int


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A value that is not believed, and what a transaction that writes it over may compare."""

    why: str
    mod_revision: int
    lease: int
    newer: bool = False  # it says that a later version of this program wrote it


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
    reached: Entry[Reached] | None = None
    swap: Entry[Swap] | None = None
    desired: Entry[Desired] | None = None
    members: Mapping[str, Entry[Member]] = field(default_factory=dict)
    dispatchers: Mapping[str, Entry[DispatcherRecord]] = field(default_factory=dict)
    observations: Mapping[str, Entry[Observation]] = field(default_factory=dict)
    history: Mapping[str, Entry[HistoryEntry]] = field(default_factory=dict)
    log_end: LogEnd = LogEnd()
    bad: Mapping[str, Bad] = field(default_factory=dict)  # by key, below our prefix

    @property
    def tells_of_later_version(self) -> bool:
        """The agent of some node is of a version that writes what we cannot read: by its own record, while it lives."""
        spoilt = (bad for key, bad in self.bad.items() if key.startswith("members/"))
        return any(bad.newer and bad.lease != 0 for bad in spoilt) or any(
            entry.record.writes_format > FORMAT for entry in self.members.values()
        )


def leader_revision(snapshot: Snapshot) -> int:
    """Of what stands under `leader`, believed or not; 0: nothing does."""
    found = snapshot.bad.get("leader") or snapshot.leader
    return found.mod_revision if found is not None else 0


AUDIT = "audit"  # the folder of the audit log (leadership.audit)
AUDIT_DIGITS = 18
LAST_NUMBER = 10**AUDIT_DIGITS - 1  # the log could not go on after this one: somebody else made it
SINGLE: Mapping[str, type[Record]] = {
    "initialize": Initialize,
    "leader": Leader,
    "term": Term,
    "sync": Sync,
    "reached": Reached,
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
        newer = isinstance(error, NewerRecord)
        bad = Bad(why=str(error), mod_revision=kv.mod_revision, lease=kv.lease, newer=newer)
        return replace(snapshot, bad={**snapshot.bad, name: bad})
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
