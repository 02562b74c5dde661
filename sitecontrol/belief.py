"""What is believed of a picture of etcd, given what was believed before. Pure.

Whatever stands under our keys may have been put there by anybody. A value counts only if it decodes and if the others
do not contradict it; all that does not is named in `bad`. What is believed in its place:

* the value that was believed last, with *its* revision. So every transaction that was reasoned from it fails its
  comparison for as long as the bad value stands there: nothing is decided on garbage, and nothing is lost by it;
* of `term`: what the leader's record or the history tell, for no term is granted without them;
* nothing of a record that ends with a lease: then it is as if it were not there.

A leader is who has bound `leader` to the lease of its own agent, to which its `members/<node>` is bound, too. When
`leader` is overwritten, the one before is believed for as long as any record is bound to its lease.

Who writes a bad value over: `leadership.mending`, and each agent its own `members/<node>`.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from sitecontrol.frozen import replace
from sitecontrol.records import MAX_TERM, Initialize, Leader, Record, Sync, Term
from sitecontrol.snapshot import Bad, Entry, Snapshot

R = TypeVar("R", bound=Record)
HISTORY = "history/"
LEAP = 1_000  # terms, or timelines, that may have begun without anybody getting as far as telling of them
FAR = 2**40  # bytes of WAL that nobody writes between two words of any node
FOR_EVER = ("initialize", "term", "sync")
LEASED = {
    "members": "an agent",
    "dispatchers": "a dispatcher",
    "observations": "a health daemon",
}  # folder -> whose


def believe(before: Snapshot, found: Snapshot) -> Snapshot:
    """`found` as it was read, with what is believed of it. `before`: what was believed until now."""
    if before.read_at is None or found.revision < before.revision:
        before = Snapshot()  # nothing was read yet, or the store began anew
    picture = _leased(found)
    if _nothing_new(before, picture):
        return picture
    picture = _replaced(picture, "leader", _no_leader(before, picture), _leader_before(before, picture))
    picture = _missed(picture)
    picture = _replaced(picture, "initialize", _wrong_initialize(before, picture), before.initialize)
    picture = _replaced(picture, "term", _wrong_term(before, picture), _term_before(before, picture))
    picture = _replaced(picture, "sync", _wrong_sync(before, picture), before.sync)
    picture = _replaced(picture, "reached", _wrong_reached(before, picture), before.reached)
    picture = _replaced(picture, "swap", None, before.swap)
    return _replaced(picture, "desired", None, before.desired)


def _nothing_new(before: Snapshot, picture: Snapshot) -> bool:
    """Somebody leads, and all that is judged stands as it was believed before: most of the time only members write."""
    return (
        not picture.bad
        and _same(picture.leader, before.leader)
        and _same(picture.initialize, before.initialize)
        and _same(picture.term, before.term)
        and _same(picture.sync, before.sync)
        and (picture.reached is None or _same(picture.reached, before.reached))
    )


def _replaced(picture: Snapshot, name: str, why: str | None, known: Entry[R] | None) -> Snapshot:
    """With `known` in the place of a value that does not decode, or that is refused because of `why`."""
    entry: Entry[R] | None = getattr(picture, name)
    bad = picture.bad
    if entry is not None and why is not None:
        bad = {**bad, name: Bad(why=why, mod_revision=entry.mod_revision, lease=entry.lease)}
    change: dict[str, Any] = {name: known}
    return replace(picture, bad=bad, **change) if name in bad else picture


def _missed(picture: Snapshot) -> Snapshot:
    """What stays for ever is named when it is gone while somebody leads: then not all of etcd was lost. Also by one
    that never saw it, as the leader's agent that was just started: nobody else would write it.
    """
    if picture.leader is None:
        return picture
    gone = {
        name: Bad(why="is gone, while a node leads", mod_revision=0, lease=0)
        for name in FOR_EVER
        if getattr(picture, name) is None and name not in picture.bad
    }
    return replace(picture, bad={**picture.bad, **gone}) if gone else picture


def _leased(found: Snapshot) -> Snapshot:
    """Of what ends with a lease, only what is bound to one, and members only under their own node's name: nobody would
    take away what was left without.
    """
    for folder, owner in LEASED.items():
        entries: Mapping[str, Entry[Any]] = getattr(found, folder)
        bad: dict[str, Bad] = {}
        for name, entry in entries.items():
            if folder == "members" and entry.record.node != name:
                why = f"tells of {entry.record.node}"
            elif entry.lease == 0:
                why = f"is bound to no lease: {owner}'s record ends with it"
            else:
                continue
            bad[name] = Bad(why=why, mod_revision=entry.mod_revision, lease=entry.lease)
        if bad:
            named = {f"{folder}/{name}": why for name, why in bad.items()}
            change: dict[str, Any] = {folder: {name: e for name, e in entries.items() if name not in bad}}
            found = replace(found, bad={**found.bad, **named}, **change)
    return found


def _wrong_initialize(before: Snapshot, found: Snapshot) -> str | None:
    """A cluster never becomes another one; a reservation, which is bound to a lease, is none yet."""
    known, now = before.initialize, found.initialize
    if known is None or now is None or known.lease or _same(known, now):
        return None
    return (
        None
        if _system(known) == _system(now)
        else f"names the cluster {_system(now)}: ours is {_system(known)}"
    )


def _system(entry: Entry[Initialize]) -> str:
    return entry.record.system_id


# -- the leader ----------------------------------------------------------------------------------------------------


def _no_leader(before: Snapshot, found: Snapshot) -> str | None:
    """Why nobody leads by this record."""
    entry, known = found.leader, _leader_before(before, found)
    if entry is None or _same(entry, before.leader):
        return None
    named = f"{entry.record.node} in term {entry.record.term}"
    if entry.lease == 0:
        return f"names {named}, bound to no lease: nobody leads without one"
    if known is not None and known.record.term > entry.record.term:
        return f"names {named}: {known.record.node} leads in term {known.record.term}"
    if (
        known is not None
        and known.record.term == entry.record.term
        and known.record.node != entry.record.node
    ):
        return f"names {named}, in which {known.record.node} leads"
    if not _bound_to_its_agent(found, entry, known):
        return f"names {named}, under a lease that is not that of its agent"
    moved = found.term is not None and not _same(found.term, before.term)
    if (
        known is not None
        and found.term is not None
        and not moved
        and found.term.record.term != entry.record.term
    ):
        return f"names {named}: the term is {found.term.record.term}"
    return None


def _bound_to_its_agent(found: Snapshot, entry: Entry[Leader], known: Entry[Leader] | None) -> bool:
    """An agent that has a new lease may take the lead before it has told of itself under it: unless somebody leads."""
    if any(m.lease == entry.lease for node, m in found.members.items() if node != entry.record.node):
        return False
    member = found.members.get(entry.record.node)
    return member.lease == entry.lease if member is not None else known is None


def _leader_before(before: Snapshot, found: Snapshot) -> Entry[Leader] | None:
    """Who was believed to lead, if something shows that the lease still lives."""
    known = before.leader
    lives = known is not None and any(member.lease == known.lease for member in found.members.values())
    return known if lives else None


# -- the term ------------------------------------------------------------------------------------------------------


def _wrong_term(before: Snapshot, found: Snapshot) -> str | None:
    entry, leader = found.term, found.leader
    if entry is None or _same(entry, before.term):
        return None
    term, told = entry.record.term, _terms_told(before, found)
    if leader is not None and leader.record.term != term:
        return f"says {term}: {leader.record.node} leads in term {leader.record.term}"
    if before.term is not None and term < before.term.record.term:
        return f"says {term}: terms never go back, and {before.term.record.term} was granted"
    if leader is None and told and term < max(told):
        return f"says {term}: the history tells of {max(told)}"
    if leader is None and told and term not in told:
        return f"says {term}: no entry of the history tells how it began"
    return None


def _term_before(before: Snapshot, found: Snapshot) -> Entry[Term] | None:
    """The last term granted: by the leader's record, or else the newest that anything tells of."""
    known = before.term
    if found.leader is not None:
        told = [found.leader.record.term]
    else:
        told = [*_terms_told(before, found), *([known.record.term] if known is not None else [])]
    if not told or (known is not None and known.record.term == max(told)):
        return known
    return Entry(record=Term(term=max(told)), mod_revision=0, create_revision=0, lease=0)


def _terms_told(before: Snapshot, found: Snapshot) -> list[int]:
    """By the history's keys: a term whose entry does not decode was granted all the same. But none that is out of all
    proportion to what is known besides: after the last term that can be written nobody could take the lead.
    """
    spoilt = (key.removeprefix(HISTORY) for key in found.bad if key.startswith(HISTORY))
    numbers = (key.partition("-")[0] for key in (*found.history, *spoilt))
    terms = [int(n) for n in numbers if n.isascii() and n.isdigit() and len(n) <= len(str(MAX_TERM))]
    known = before.term or before.sync or found.sync
    return [term for term in terms if known is None or term <= known.record.term + LEAP]


# -- who is in step ------------------------------------------------------------------------------------------------


def _wrong_sync(before: Snapshot, found: Snapshot) -> str | None:
    entry, leader = found.sync, found.leader
    if entry is None or _same(entry, before.sync):
        return None
    sync = entry.record
    if found.term is not None and sync.term > found.term.record.term:
        return f"is of term {sync.term}: the last one granted is {found.term.record.term}"
    if before.sync is not None and sync.term < before.sync.record.term:
        return f"is of term {sync.term}: one of term {before.sync.record.term} was written before"
    if leader is not None and sync.term == leader.record.term and not _written_by(sync, leader.record):
        return f"is of {sync.leader} in term {sync.term}, in which {leader.record.node} leads"
    return None


def _written_by(sync: Sync, leader: Leader) -> bool:
    return (sync.leader, sync.leader_incarnation) == (leader.node, leader.incarnation)


# -- how far they had come -----------------------------------------------------------------------------------------


def _wrong_reached(before: Snapshot, found: Snapshot) -> str | None:
    """A position that nobody can have reached would keep its node from the lead."""
    entry, ours = found.reached, found.initialize
    if entry is None or _same(entry, before.reached):
        return None
    reached = entry.record
    if ours is not None and reached.system_id != _system(ours):
        return f"is of the cluster {reached.system_id}: ours is {_system(ours)}"
    if found.term is not None and reached.term > found.term.record.term:
        return f"is of term {reached.term}: the last one granted is {found.term.record.term}"
    told = [*_told_by_members(found), *_told_in_records(before, found)]
    timeline, lsn = (max(each) for each in zip(*told, strict=True)) if told else (MAX_TERM, 2**63)
    for had in reached.nodes:
        if had.timeline > timeline + LEAP or had.lsn > lsn + FAR:
            where = f"timeline {had.timeline}, position {had.lsn}"
            return f"says that {had.node} had reached {where}: far beyond all that any node tells"
    return None


def _told_by_members(found: Snapshot) -> list[tuple[int, int]]:
    told = (member.record for member in found.members.values())
    return [(m.timeline, max(m.received_lsn, m.replayed_lsn)) for m in told if m.timeline > 0]


def _told_in_records(before: Snapshot, found: Snapshot) -> list[tuple[int, int]]:
    in_step = [(s.timeline, s.lsn) for s in found.sync.record.standbys] if found.sync is not None else []
    known = [(p.timeline, p.lsn) for p in before.reached.record.nodes] if before.reached is not None else []
    return in_step + known


def _same(one: Entry[R] | None, other: Entry[R] | None) -> bool:
    return one is not None and other is not None and one.mod_revision == other.mod_revision


def newly_bad(before: Mapping[str, Bad], now: Mapping[str, Bad]) -> dict[str, Bad]:
    """What was not told yet."""
    return {key: bad for key, bad in now.items() if key not in before or before[key].why != bad.why}
