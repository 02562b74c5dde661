"""Whose turn it is to take the lead when several standbys are complete, and which node a swap goes to. Pure.

Nothing here is about safety: whoever runs out of turn does so by the same transaction, under the same rule 4. A turn
only decides whose promotion it is. Production need not move to the other site, so the lost leader's site comes first;
then whoever has received most, for the others need not be rewound then; then the name, so that all agree.

Each who is before us gets `TURN` seconds. One that is dead leaves etcd sooner than that, with its lease; one that is
heard and does not run holds nobody up for longer.
"""

from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.swapping import REPLAY_LAG_BYTES, obstacles
from sitecontrol.records import InStep, Role

TURN = 1.0  # seconds
CAUGHT_UP_BYTES = 1024 * 1024  # records are a second old: what lies within this is alike


def before_us(f: Facts) -> tuple[str, ...]:
    """Complete standbys whose turn is before ours, the first one first."""
    sync = f.sync
    if sync is None or f.our_place_in_step is None:
        return ()
    ours = _rank(f, f.node, max(f.pg.received_lsn, f.pg.replayed_lsn), f.pg.replayed_lsn)
    ranks = [rank for must in sync.standbys if (rank := _rank_of_rival(f, must)) is not None and rank < ours]
    return tuple(node for *_, node in sorted(ranks))


def not_our_turn(f: Facts) -> bool:
    """Somebody who is before us still has time to take the lead."""
    if f.recorded_leader:
        return False
    return f.now - _free_since(f) < TURN * len(before_us(f))


def target_in(f: Facts, site: str, *, planned: bool = True) -> str | None:
    """The node of a site that a swap goes to: the leader if it is there; then who could take over, and is furthest."""
    nodes = [node for node, at in f.site_of.items() if at == site]
    leads = f.leader.record.node if f.leader else None
    if leads in nodes:
        return leads

    def rank(node: str) -> tuple[int, int, str]:
        member = f.member(node)
        caught_up = member.record.replayed_lsn // CAUGHT_UP_BYTES if member else -1
        return len(obstacles(f, node, planned=planned)), -caught_up, node

    return min(nodes, key=rank, default=None)


def _free_since(f: Facts) -> float:
    """Since when anybody might run: `leader` is gone, and the last canary that reached us has grown old."""
    absent = f.now if f.leader_absent_since is None else f.leader_absent_since
    if f.released_by is not None or f.pg.canary_at is None or f.pg.state is not PgState.STANDBY:
        return absent
    return max(absent, min(f.pg.canary_at + f.settings.canary_max_age, absent + f.settings.canary_wait))


def _rank_of_rival(f: Facts, must: InStep) -> tuple[bool, bool, int, str] | None:
    """None: it is not heard, or could not take the lead by what it tells."""
    member = f.member(must.node)
    if member is None or must.node in (f.node, f.released_by):
        return None
    told = member.record
    complete = told.timeline >= must.timeline and told.received_lsn >= must.lsn
    if told.role is not Role.STANDBY or told.incarnation != must.incarnation or not complete:
        return None
    return _rank(f, must.node, told.received_lsn, told.replayed_lsn)


def _rank(f: Facts, node: str, received: int, replayed: int) -> tuple[bool, bool, int, str]:
    home = f.site_of.get(f.sync.leader) if f.sync else None
    return received - replayed > REPLAY_LAG_BYTES, f.site_of.get(node) != home, -received, node
