"""What WAL the leader keeps for nodes that are away: by a replication slot for each other node. Pure.

A standby does not use its slot (docs/adr/0008): the leader's agent moves it along behind what the standby has on disk,
and leaves it where it is while the standby is away. PostgreSQL caps what a slot may keep (`max_slot_wal_keep_size`);
one that is lost by that is made anew, and its node is cloned when it returns. A server that starts as a standby has
none: they would keep its WAL for ever. Nor is any kept for a node that an operator counts as gone for good.
"""

from sitecontrol.leadership.effects import KeepWal
from sitecontrol.leadership.facts import Facts

PREFIX = "hotsite_"
BEHIND_BYTES = 32 * 1024 * 1024  # two segments: a slot is moved seldom, for WAL is thrown away by segments


def slot_of(node: str) -> str:
    """A slot's name has no hyphen, a node's no underscore."""
    return PREFIX + node.replace("-", "_")


def keeping(f: Facts) -> KeepWal | None:
    """What there is to do about our slots; None: nothing."""
    nodes = {slot_of(node): node for node in f.site_of if node != f.node and node not in f.retired}
    ours = {slot.name: slot for slot in f.pg.slots if slot.name.startswith(PREFIX)}
    drop = [name for name, slot in ours.items() if slot.lost or name not in nodes]
    move = []
    for name, slot in ours.items():
        standby = f.standby(nodes.get(name, ""))
        streams = name not in drop and standby is not None and standby.streaming
        if streams and standby is not None and standby.flush_lsn - slot.lsn > BEHIND_BYTES:
            move.append((name, standby.flush_lsn))
    make = [name for name in nodes if name not in ours or name in drop]
    return KeepWal(drop=tuple(drop), make=tuple(make), move=tuple(move)) if drop or make or move else None
