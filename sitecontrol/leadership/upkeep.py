"""What is kept up while nothing else is wrong: the `upkeep` lane. Pure."""

from collections.abc import Sequence

from sitecontrol.leadership.effects import Checkpoint, MoveEtcdLeader
from sitecontrol.leadership.facts import PgState
from sitecontrol.leadership.slots import keeping
from sitecontrol.leadership.table import Row

SETTLED_AFTER = 2.0  # seconds after a promotion: those who were held through it are let through first

ROWS: Sequence[Row] = (
    Row(
        "move-etcd-leader",
        "etcd's own leader runs in the live site: move it, or the site's loss would prolong every lease.",
        lambda f: f.lead and f.open and f.etcd_leader_here and f.etcd_leader_target is not None,
        lambda f: MoveEtcdLeader(member_id=f.etcd_leader_target or 0),
    ),
    Row(
        "checkpoint",
        "We were promoted, and the control file does not tell yet: take a checkpoint, or no returning node can be"
        " rewound to us.",
        lambda f: f.open and f.pg.control_timeline < f.pg.timeline and f.now - f.pg.since > SETTLED_AFTER,
        lambda _: Checkpoint(),
    ),
    Row(
        "restartpoint",
        "The control file is behind on timelines: take a restartpoint, so that a restart does not make us look older"
        " than we are.",
        lambda f: f.pg.state is PgState.STANDBY and f.pg.upstream and f.pg.control_timeline < f.pg.timeline,
        lambda _: Checkpoint(),
    ),
    Row(
        "keep-wal",
        "A slot is missing, lost, too far behind, or nobody's: see to it, so that WAL is kept for nodes that are away,"
        " and for no longer than they need it.",
        lambda f: f.lead and f.open and f.now - f.pg.since > SETTLED_AFTER and keeping(f) is not None,
        keeping,
    ),
    Row("kept", "Nothing to keep up.", lambda _: True),
)
