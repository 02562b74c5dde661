"""The audit log: who or what did what, when, from where and why; and whether anything of it was changed since. Pure.

Entries are numbered from 1 and are never written again. Each tells the digest of the one before it, and *seals* the
records that were written by its own transaction: the history's entry, what people want. A head tells the newest one a
second time. So an entry, or a sealed record, that was changed, removed, inserted or moved is found (`flaws`), unless
whoever did it made the whole rest of the log anew; and then etcd's own revisions give it away, which no client of etcd
can choose (docs/adr/0007-audit-log.md).

The log never stands in the way of a change of leader. It is extended by create-if-absent on the next number, whatever
the entries before it look like, and nothing reads it to decide.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from sitecontrol.etcd.api import KeyValue, Put
from sitecontrol.records import AuditEntry, AuditHead, BadRecord, Deed, HistoryEntry
from sitecontrol.view import AUDIT, Snapshot, audit_key, audit_number

FOLDER = AUDIT + "/"
HEAD = "audit-head"


def digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def is_sealed(name: str) -> bool:
    """Whether the log answers for this record."""
    return name == "desired" or name.startswith("history/")


@dataclass(frozen=True, kw_only=True)
class Act:
    """What is to be told of a transaction."""

    what: Deed
    by: str
    at: datetime
    about: str = ""
    reason: str = ""
    source: str = ""
    evidence: Mapping[str, str] | None = None


def by_word(act: Act, term: int, node: str, site: str) -> HistoryEntry:
    """What the history tells of a person's word on who leads on, beside the term that it follows."""
    return HistoryEntry(
        term=term,
        node=node,
        site=site,
        at=act.at,
        kind="forced",
        by=act.by,
        reason=act.reason,
        evidence={name: said[:500] for name, said in (act.evidence or {}).items()},
    )


def next_entry(
    cluster: Snapshot, act: Act, *, through: str, term: int, seals: Mapping[str, str]
) -> AuditEntry:
    """The entry that goes on from what the snapshot shows."""
    return AuditEntry(
        number=cluster.log_end.number + 1,
        previous=cluster.log_end.digest,
        at=act.at,
        what=act.what,
        about=act.about[:500],
        by=act.by[:500],
        source=act.source[:500],
        through=through,
        reason=act.reason[:500],
        term=term,
        seals=dict(seals),
        evidence={name: value[:500] for name, value in act.evidence.items()} if act.evidence else None,
    )


def seals_of(puts: Iterable[Put], prefix: str) -> dict[str, str]:
    """The digests of those writes that the log answers for."""
    written = ((put.key.removeprefix(prefix), put.value) for put in puts)
    return {name: digest(value) for name, value in written if is_sealed(name)}


# -- whether it still is as it was written -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Flaw:
    key: str
    what: str


@dataclass(frozen=True, kw_only=True)
class _Link:
    """One entry as it was found."""

    number: int
    kv: KeyValue
    entry: AuditEntry | None  # None: it does not decode


def flaws(kvs: Sequence[KeyValue], prefix: str) -> tuple[Flaw, ...]:
    """All that is wrong with the log and with what it seals, in the order of the log. `kvs`: everything below `prefix`
    as etcd had it at one revision.
    """
    known = {kv.key.removeprefix(prefix): kv for kv in kvs}
    links = _links(known)
    strange = [
        Flaw(key=name, what="is no entry of the log: its name is no number, or is written in another way")
        for name in known
        if name.startswith(FOLDER) and name not in {audit_key(link.number) for link in links}
    ]
    own = list(_own_flaws(links))
    found = [*own, *_broken_links(links, {flaw.key for flaw in own})]
    found.sort(key=lambda flaw: flaw.key)
    return (*found, *strange, *_head_flaws(links, known.get(HEAD)), *_seal_flaws(links, known))


def document(kvs: Sequence[KeyValue], prefix: str) -> dict[str, Any]:
    """As `GET /audit` tells it (docs/interfaces.md)."""
    known = {kv.key.removeprefix(prefix): kv for kv in kvs}
    links = _links(known)
    newest = links[-1] if links else None
    return {
        "audit": [link.entry.model_dump(mode="json") for link in links if link.entry is not None],
        "newest": {"number": newest.number, "digest": digest(newest.kv.value)} if newest else None,
        "flaws": [{"key": flaw.key, "what": flaw.what} for flaw in flaws(kvs, prefix)],
        "older": _older(links, known),
    }


def _older(links: Sequence[_Link], known: Mapping[str, KeyValue]) -> list[str]:
    """Records from before the log began: no entry answers for them, and none has to."""
    told = _last_seals(links)
    return sorted(
        name for name, kv in known.items() if is_sealed(name) and name not in told and _is_older(kv, links)
    )


def _links(known: Mapping[str, KeyValue]) -> list[_Link]:
    found = []
    for name, kv in known.items():
        number = audit_number(name.removeprefix(FOLDER)) if name.startswith(FOLDER) else None
        if number is None:
            continue
        try:
            entry = AuditEntry.decode(kv.value)
        except BadRecord:
            entry = None
        found.append(_Link(number=number, kv=kv, entry=entry))
    return sorted(found, key=lambda link: link.number)


def _own_flaws(links: Sequence[_Link]) -> Iterable[Flaw]:
    """What a single entry shows."""
    for link in links:
        if link.entry is None:
            yield Flaw(key=audit_key(link.number), what="does not decode")
        elif link.entry.number != link.number:
            yield Flaw(
                key=audit_key(link.number), what=f"says that it is entry {link.entry.number}: it was moved"
            )
        elif link.kv.create_revision != link.kv.mod_revision:
            yield Flaw(key=audit_key(link.number), what="was written again, and entries are written once")


def _broken_links(links: Sequence[_Link], told: set[str]) -> Iterable[Flaw]:
    """What an entry and the one after it show; `told`: those of which it is known already."""
    first = links[0] if links else None
    if first is not None and first.number > 1:
        yield _missing(1, first.number - 1)
    for link, after in pairwise(links):
        if after.number > link.number + 1:
            yield _missing(link.number + 1, after.number - 1)
        elif after.entry is None or told & {audit_key(link.number), audit_key(after.number)}:
            continue
        elif after.entry.previous != digest(link.kv.value):
            what = f"is not what entry {after.number} was chained to: one of the two was changed"
            yield Flaw(key=audit_key(link.number), what=what)
        elif after.kv.create_revision <= link.kv.create_revision:
            what = f"was written after entry {after.number}, by etcd's revisions"
            yield Flaw(key=audit_key(link.number), what=what)


def _missing(first: int, last: int) -> Flaw:
    return Flaw(key=audit_key(first), what="is missing" if first == last else f"to {last}: they are missing")


def _head_flaws(links: Sequence[_Link], kv: KeyValue | None) -> Iterable[Flaw]:
    if not links and kv is None:
        return
    try:
        head = AuditHead.decode(kv.value) if kv is not None else None
    except BadRecord:
        head = None
    if head is None:
        yield Flaw(key=HEAD, what="is missing, or does not decode: nothing tells which entry is the newest")
        return
    newest = links[-1] if links else None
    number = newest.number if newest else 0
    if head.number > number:
        yield _missing(number + 1, head.number)
    elif head.number < number:
        yield Flaw(key=audit_key(number), what=f"was inserted: the head tells of {head.number} entries")
    elif newest is not None and digest(newest.kv.value) != head.digest:
        yield Flaw(key=audit_key(number), what="is not what the head tells of: it was changed")


def _last_seals(links: Sequence[_Link]) -> dict[str, _Link]:
    """By the key of each sealed record: the entry that sealed it last."""
    return {name: link for link in links if link.entry for name in link.entry.seals if is_sealed(name)}


def _seal_flaws(links: Sequence[_Link], known: Mapping[str, KeyValue]) -> Iterable[Flaw]:
    """What the log answers for, and does not look as it was sealed."""
    told = _last_seals(links)
    for name, link in sorted(told.items()):
        kv = known.get(name)
        sealed = link.entry.seals[name] if link.entry else ""
        if kv is None:
            yield Flaw(key=name, what=f"was removed: entry {link.number} seals it")
        elif digest(kv.value) != sealed or kv.mod_revision != link.kv.mod_revision:
            yield Flaw(key=name, what=f"was changed since entry {link.number} sealed it")
    for name, kv in sorted(known.items()):
        if is_sealed(name) and name not in told and not _is_older(kv, links):
            yield Flaw(key=name, what="was inserted: no entry of the log tells of it")


def _is_older(kv: KeyValue, links: Sequence[_Link]) -> bool:
    """Written before the log began, by etcd's revisions."""
    return not links or kv.mod_revision < links[0].kv.create_revision
