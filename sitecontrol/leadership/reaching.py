"""An older copy of a node's data, as a snapshot of a whole volume that was put back, leads by nobody's mistake. Pure.

`sync` names who holds everything by data directory, and a snapshot keeps that name. So while a leader is open it
records in `reached` how far each whom `sync` names has come. Only ends of whole records count, flushed on a primary and
replayed on a standby: that much a node still has after any crash, while a position in the middle of a record (which WAL
is flushed up to all the time) is one that no recovery comes to again. Whoever has less now is an older copy, and may be
missing messages that were acknowledged:

* a standby does not run for the lead with less, nor is it promoted;
* a primary at rest tells only where its last checkpoint was. It may take the lead and start; if it has less when crash
  recovery has ended, it lets nobody in, ends, and gives its name and the lead up (`older-copy-ends`).

It has a lane of its own: a checkpoint takes as long as the disk does, and upkeep would keep the record waiting for it.

What was acknowledged within `EVERY` seconds before the loss is not covered. A record that is lost, late or of the
previous version's making tells less than is true, which bars nobody; one that tells more (garbage is not believed:
`sitecontrol.belief`) is written over by whoever leads, or ends with a person's word: `sitectl node trust`.
"""

from collections.abc import Sequence

from sitecontrol.leadership.conditions import promotion_stuck
from sitecontrol.leadership.effects import Effect, GiveUp, RecordReached
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.table import Row
from sitecontrol.records import InStep, Phase, Position

EVERY = 1.0  # seconds between two records: each is a write to etcd, as often as an agent tells of its node


def to_record(f: Facts) -> Effect | None:
    """None: not now, or not by us."""
    known = f.cluster.reached.record if f.cluster.reached else None
    ours = known is not None and known.term == f.term and not f.bad("reached")
    rests = ours and f.reached_since is not None and f.now - f.reached_since < EVERY
    if rests or not _ours_to_record(f):
        return None
    nodes = _positions(f)
    return None if ours and known is not None and known.nodes == nodes else RecordReached(nodes=nodes)


def _ours_to_record(f: Facts) -> bool:
    sync, bad = f.sync, f.cluster.bad.get("reached")
    return (
        f.lead
        and f.open
        and f.etcd_here
        and f.lease_safe
        and sync is not None
        and (sync.leader, sync.term, sync.leader_incarnation) == (f.node, f.term, f.pg.incarnation)
        and f.pg.system_id is not None
        and f.pg.whole_lsn > 0
        and not f.in_phase(Phase.HELD)
        and not any(map(f.bad, ("leader", "term", "sync")))
        and not (bad is not None and bad.newer)
    )


def _positions(f: Facts) -> tuple[Position, ...]:
    """Of ourselves, and of each standby in step; of one that is not seen right now what is recorded already."""
    ours = Position(node=f.node, timeline=f.pg.timeline, lsn=f.pg.whole_lsn)
    standbys = f.sync.standbys if f.sync else ()
    told = (_seen(f, standby) or f.had(standby.node) for standby in standbys)
    return (ours, *(position for position in told if position is not None))


def _seen(f: Facts, must: InStep) -> Position | None:
    """Two that stream under one name would tell for one another."""
    by_name = [s for s in f.pg.standbys if s.name == must.node]
    if len(by_name) != 1 or not by_name[0].streaming:
        return None
    whole = min(by_name[0].flush_lsn, by_name[0].replay_lsn)
    return Position(node=must.node, timeline=must.timeline, lsn=whole) if whole >= must.lsn else None


def older_copy(f: Facts) -> bool:
    """`sync` counts on this node, and what is here is less than it had."""
    sync = f.sync
    named = sync is not None and f.node in (sync.leader, *(s.node for s in sync.standbys))
    return named and f.short_of is not None


OLDER = (
    "what lies here is less than this node is recorded to have reached (`reached`), as in an older copy of its data:"
    " messages that were acknowledged may be missing"
)
CURE = (
    "put the newest data back, or accept that loss: `sitectl node trust NODE` (--dry-run tells what is lost)"
)

BEFORE_OPENING: Sequence[Row] = (
    Row(
        "older-copy-ends",
        f"We hold the lead, but {OLDER}. Let nobody in, end PostgreSQL, count as not complete and give the lead up."
        f" If no other node can lead, {CURE}.",
        lambda f: f.lead and f.pg.state is PgState.PRIMARY and not f.open and f.short_of is not None,
        lambda f: GiveUp(reason="an older copy of this node's data", disown=True) if f.etcd_here else None,
    ),
    Row(
        "give-up-unreplayed",
        "We hold the lead, but replay has ended, or stands still, before what this node is recorded to have reached:"
        " give the lead up, and go on replaying.",
        lambda f: f.lead and promotion_stuck(f) and f.short_of is not None and f.etcd_here,
        lambda _: GiveUp(reason="less is replayed than this node had"),
    ),
    Row(
        "replay-before-promotion",
        "We hold the lead, and have yet to replay what this node is recorded to have reached: promote nothing older.",
        lambda f: f.lead and f.pg.state is PgState.STANDBY and f.short_of is not None,
    ),
)

ROWS: Sequence[Row] = (
    Row(
        "record-reached",
        "Those who hold everything have come further: record how far, so that an older copy of any is known as one.",
        lambda f: to_record(f) is not None,
        to_record,
    ),
    Row(
        "recorded",
        "It is recorded how far they have come, or that is not ours to record now.",
        lambda _: True,
    ),
)

HOLDING = Row(
    "older-copy",
    f"Nobody leads, and {OLDER}, or are not replayed yet. Hold until a node that has them returns; if none"
    f" will, {CURE}.",
    older_copy,
)
