"""A person says that this node leads on, though nothing shows that it holds every acknowledged message. Pure: a dry run
and the act itself ask the same. There are two ways to it:

* trust: nobody leads, and `sync` is not believed, so that nobody knows who holds everything, or it counts on a node
  of which an older copy is all that is left;
* force: nobody leads, and whoever holds everything is gone. The old leader must be stopped, by proof or by the person's
  word: what it acknowledged from then on would be lost as well, and nobody would know.

`sync` is then written anew: this node alone is complete. So it takes the lead by the table's own rows, as the recorded
leader; what another node alone holds is lost to the cluster, but for what is set aside when one that led comes back.
Nothing here can know whether there is any. It tells all that bears on it: what the last believed record said, which
positions the nodes tell, who led last.
"""

from collections.abc import Collection, Iterator
from datetime import UTC

from replication import lsn
from sitecontrol.leadership.conditions import foreign_id, initialized
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.mending import in_step_unknown
from sitecontrol.leadership.reaching import older_copy
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.why import Loss, hypothetical
from sitecontrol.records import Member, Role, Sync

AT_HAND = (PgState.PRIMARY, PgState.STANDBY, PgState.STOPPED)
SET_ASIDE = (
    "what another node alone holds is set aside when it comes back, if it was a leader when it went (`sitectl node"
    " quarantine list`); of what only a standby holds nothing is"
)


def in_the_way_of_trust(f: Facts) -> tuple[str, ...]:
    """Of writing that our own data directory holds everything."""
    return (*_not_alone(f), *_believed(f), *_not_known(f))


def in_the_way_of_force(f: Facts, stopped: Collection[str]) -> tuple[str, ...]:
    """Of leading on without those who hold everything. `stopped`: nodes whose PostgreSQL a person says is stopped."""
    return (*_not_alone(f), *_complete(f), *_not_known(f), *_unsaid(f, stopped))


def comes_of_trust(f: Facts) -> tuple[str, ...]:
    """What would become of it, and all that tells whether anything acknowledged would be lost."""
    kept = "etcd may still have the record as it was: to write that back instead loses nothing (docs/failover.md)"
    return (*_comes(f), *_who_led(f), SET_ASIDE, kept)


def comes_of_force(f: Facts) -> tuple[str, ...]:
    told = tuple(
        f"{proof}: it serves nobody"
        if proof
        else f"nothing proves that PostgreSQL of {node} is stopped: see to it, and say so (--stopped {node})"
        for node, proof in proofs(f).items()
    )
    return (*_comes(f), *told, SET_ASIDE)


def unproved(f: Facts) -> tuple[str, ...]:
    """Who may have led last, and may still acknowledge, for all that is known."""
    return tuple(node for node, proof in proofs(f).items() if proof is None)


def proofs(f: Facts) -> dict[str, str | None]:
    """Of each other node that may have led last: what shows that its PostgreSQL serves nobody; None: nothing does."""
    entry = f.cluster.history.get(f"{f.term:010d}")
    led = {*([f.sync.leader] if f.sync else []), *([entry.record.node] if entry else [])} or set(f.site_of)
    return {node: _stopped(f, node) for node in sorted(led - {f.node})}


def _stopped(f: Facts, node: str) -> str | None:
    if f.released_by == node:
        return f"{node} gave the lead up by itself, with its PostgreSQL ended"
    member = f.member(node)
    if member is not None and member.record.role is not Role.LEADER:
        return f"the agent of {node} is heard, and says that it is {member.record.role.value}"
    return None


def _comes(f: Facts) -> tuple[str, ...]:
    alone = f"{f.node} ({_position(f.pg.timeline, _reached(f))}) counts as the only one that holds every acknowledged"
    return (
        f"{alone} message, and takes the lead in term {f.term + 1}",
        *_by_the_last_record(f),
        *_by_what_it_had(f),
        *_since(f),
        *(_beside(f, node) for node in sorted(f.site_of) if node != f.node),
    )


def evidence(f: Facts) -> dict[str, str]:
    """What was known when it was said; for the audit log and the history."""
    bad = f.cluster.bad.get("sync")
    word = bad.why if bad else "it is believed" if f.sync else "there is none"
    told = {"sync": word, f.node: _position(f.pg.timeline, _reached(f))}
    others = {node: _beside(f, node) for node in sorted(f.site_of) if node != f.node}
    said = {
        "last_record": " ".join(_by_the_last_record(f)),
        "reached": " ".join(_by_what_it_had(f)),
        "last_sign": " ".join(_since(f)),
    }
    return told | others | {name: text for name, text in said.items() if text}


def evidence_of_force(f: Facts, by: str) -> dict[str, str]:
    """Likewise, with what shows that whoever led is stopped, if only the word of whom `by` names."""
    said = {node: proof or f"it is stopped, by the word of {by}" for node, proof in proofs(f).items()}
    return evidence(f) | {f"stopped {node}": word for node, word in said.items()}


# -- what stands in the way ----------------------------------------------------------------------------------------


def _not_alone(f: Facts) -> Iterator[str]:
    """Somebody leads or may serve, for all that we know."""
    bad = f.cluster.bad.get("sync")
    if not f.etcd_here or not f.lease_safe:
        yield f"{f.node} does not reach etcd: who leads is not known for sure"
    if f.leader is not None:
        yield f"{f.leader.record.node} leads, and writes `sync` itself: there is nothing to be said"
    if f.leader is None and f.open:
        yield f"{f.node} serves, and takes its term up again by itself: to begin a timeline, it would have to stop"
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


def _believed(f: Facts) -> Iterator[str]:
    sync = f.sync
    if f.bad("sync") or sync is None:
        return
    if older_copy(f):
        yield from (
            f"{node} is heard, and may lead by the records: see `sitectl why`" for node in _may_lead(f, sync)
        )
    else:
        holds = ", ".join((sync.leader, *(s.node for s in sync.standbys)))
        yield f"`sync` is believed, and tells who holds every acknowledged message: {holds}"


def _complete(f: Facts) -> Iterator[str]:
    """A node that is heard leads by itself, or would if something that is named were put in order. Whoever cannot lead
    for another reason has its agent stopped first: then it counts as gone.
    """
    if in_step_unknown(f):
        return  # `sync` tells of nobody
    for node in sorted({f.node, *f.cluster.members} & f.site_of.keys()):
        then = hypothetical(f, node, Loss(what="", nodes=frozenset()))
        if then is None:
            yield f"{node} says that it serves: wait for what becomes of it, or stop its agent"
        elif then.may_lead and then.pg.state in AT_HAND:
            row = decide(Lane.POSTGRES, then)
            yield (
                f"{node} holds every acknowledged message, and leads by itself ({row.rule}: {row.sentence});"
                " stop its agent if it never can"
            )
        elif then.our_place_in_step is not None and then.pg.state is PgState.STOPPED:
            yield f"{node} is in step, and what it holds is not known yet: wait for it, or stop its agent"


def _unsaid(f: Facts, stopped: Collection[str]) -> Iterator[str]:
    for node in unproved(f):
        if node not in stopped:
            yield f"nothing proves that PostgreSQL of {node} is stopped, and nobody has said so"


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


def _since(f: Facts) -> Iterator[str]:
    """Whoever led writes a canary through the same path as messages several times a second, while it serves. What is
    told is when that was: it may have come, or been seen, long after, with much of what was acknowledged before that
    still missing.
    """
    if f.pg.canary_written is None:
        yield f"when {f.node} last heard of whoever led is not known: all that was acknowledged since is lost"
        return
    at = f.pg.canary_written.astimezone(UTC).isoformat(" ", "seconds")
    sign = f"the last sign of whoever led that {f.node} has was written at {at}, by the clock of its writer"
    yield f"{sign}: what was acknowledged since is lost"


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
