"""A person says that this node holds every acknowledged message: the cure, while nobody leads, for a `sync` that nobody
can believe, and for one that counts on a node of which an older copy is all that is left. Pure: a dry run and the act
itself ask the same.

`sync` is then written anew: this node alone is complete. So it takes the lead by the table's own rows, as the recorded
leader; whatever another node alone holds is lost to the cluster, and set aside when that node comes back. Nothing here
can know whether there is any. It tells all that bears on it: what the last believed record said, which positions the
nodes tell, who led last.
"""

from collections.abc import Iterator

from replication import lsn
from sitecontrol.leadership.conditions import foreign_id, initialized
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.reaching import older_copy
from sitecontrol.records import Member, Sync

AT_HAND = (PgState.PRIMARY, PgState.STANDBY, PgState.STOPPED)


def in_the_way_of_trust(f: Facts) -> tuple[str, ...]:
    """Of writing that our own data directory holds everything."""
    return (*_not_needed(f), *_not_known(f))


def comes_of_trust(f: Facts) -> tuple[str, ...]:
    """What would become of it, and all that tells whether anything acknowledged would be lost."""
    alone = f"{f.node} ({_position(f.pg.timeline, _reached(f))}) counts as the only one that holds every acknowledged"
    return (
        f"{alone} message, and takes the lead in term {f.term + 1}",
        *_by_the_last_record(f),
        *_by_what_it_had(f),
        *(_beside(f, node) for node in sorted(f.site_of) if node != f.node),
        *_who_led(f),
        "what another node alone holds is set aside when it comes back (`sitectl node quarantine list`)",
        "etcd may still have the record as it was: to write that back instead loses nothing (docs/failover.md)",
    )


def evidence(f: Facts) -> dict[str, str]:
    """What was known when it was said; for the audit log and the history."""
    bad = f.cluster.bad.get("sync")
    stands = "is believed" if f.sync else "there is none"
    told = {"sync": bad.why if bad else stands, f.node: _position(f.pg.timeline, _reached(f))}
    others = {node: _beside(f, node) for node in sorted(f.site_of) if node != f.node}
    said = {"last_record": " ".join(_by_the_last_record(f)), "reached": " ".join(_by_what_it_had(f))}
    return told | others | {name: text for name, text in said.items() if text}


# -- what stands in the way ----------------------------------------------------------------------------------------


def _not_needed(f: Facts) -> Iterator[str]:
    bad, sync = f.cluster.bad.get("sync"), f.sync
    if not f.etcd_here or not f.lease_safe:
        yield f"{f.node} does not reach etcd: who leads is not known for sure"
    if f.leader is not None:
        yield f"{f.leader.record.node} leads, and writes `sync` itself: there is nothing to be said"
    if bad is None and sync is not None and older_copy(f):
        yield from (
            f"{node} is heard, and may lead by the records: see `sitectl why`" for node in _may_lead(f, sync)
        )
    elif bad is None and sync is not None:
        holds = ", ".join((sync.leader, *(s.node for s in sync.standbys)))
        yield f"`sync` is believed, and tells who holds every acknowledged message: {holds}"
    if bad is not None and f.of_later_version(bad):
        yield f"a later version of this program wrote `sync`: upgrade {f.node} first"
    if f.leader is None and f.pg.state is PgState.STANDBY and f.pg.upstream and f.canary_fresh:
        yield "whoever led still writes through to us: it serves, and takes its term up again when it reaches etcd"


def _may_lead(f: Facts, sync: Sync) -> Iterator[str]:
    """Others whose word tells that they are no older copy of what `sync` counts on."""
    leader = (sync.leader, sync.leader_incarnation)
    for node, incarnation in (leader, *((s.node, s.incarnation) for s in sync.standbys)):
        member, had = f.member(node), f.had(node)
        if node == f.node or member is None or member.record.incarnation != incarnation:
            continue
        if had is None or (member.record.timeline, _told(member.record)) >= (had.timeline, had.lsn):
            yield node


def _not_known(f: Facts) -> Iterator[str]:
    if not initialized(f):
        yield "`initialize` or `term` is not known: they have to be written as they were first"
    if f.pg.state not in AT_HAND or f.pg.incarnation is None or f.pg.unfinished:
        yield f"PostgreSQL of {f.node} is {f.pg.state.value}: what it holds is not known"
    if foreign_id(f):
        yield f"the data directory of {f.node} belongs to another cluster"
    if f.name_taken_by is not None:
        yield f"another agent uses the name {f.node}: stop it first"


# -- what might be lost --------------------------------------------------------------------------------------------


def _by_the_last_record(f: Facts) -> Iterator[str]:
    sync = f.sync  # as it was believed before it was overwritten
    if sync is None:
        nobody = "this agent has never read who held every acknowledged message"
        yield f"{nobody}: what another node acknowledged, and {f.node} lacks, is lost"
        return
    holds = ", ".join((sync.leader, *(s.node for s in sync.standbys)))
    record = (
        f"the last record that this agent has read, of term {sync.term}, says that {holds} held everything"
    )
    if f.may_lead:
        yield f"{record}: if no later one was overwritten, nothing acknowledged is lost"
    else:
        yield f"{record}: what they acknowledged, and {f.node} lacks, is lost"


def _by_what_it_had(f: Facts) -> Iterator[str]:
    had = f.short_of
    if had is not None:
        lacks = f", {had.lsn - _reached(f)} bytes more" if had.timeline == f.pg.timeline else ""
        recorded = f"{f.node} is recorded to have reached {_position(had.timeline, had.lsn)}{lacks}"
        yield f"{recorded}: acknowledged messages among what it lacks are lost"


def _beside(f: Facts, node: str) -> str:
    member = f.member(node)
    if member is None:
        return f"{node} is not heard: acknowledged messages that it alone has are lost"
    theirs, ours = (member.record.timeline, _told(member.record)), (f.pg.timeline, _reached(f))
    there = f"{node} is at {_position(*theirs)}"
    if theirs[0] != ours[0]:
        return f"{there}, another timeline than ours: acknowledged messages that it alone has are lost"
    if theirs > ours:
        return f"{there}, {theirs[1] - ours[1]} bytes more than {f.node}: acknowledged messages among them are lost"
    return f"{there}: no further than {f.node}"


def _who_led(f: Facts) -> Iterator[str]:
    entry = f.cluster.history.get(f"{f.term:010d}")
    if entry is not None and entry.record.node != f.node:
        last = f"{entry.record.node} led last, in term {f.term}"
        yield f"{last}: see that its PostgreSQL has ended, for it may acknowledge more"


def _told(member: Member) -> int:
    return max(member.received_lsn, member.replayed_lsn)


def _reached(f: Facts) -> int:
    return max(f.pg.received_lsn, f.pg.replayed_lsn)


def _position(timeline: int, at: int) -> str:
    return f"timeline {timeline}, {lsn.show(at)}"
