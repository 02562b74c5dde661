"""A leader whose PostgreSQL does not come up while nobody else could take over: rows of the `postgres` lane. Pure.

`sync` names it alone (after `narrow`, or when every standby has left step), or nobody else whom it names is heard. Then
giving the lead up would help nobody. Whether it has let anybody in since only its own database can tell, so no other
node is ever counted as complete again by itself. It goes on trying, and tells the way out, which is a person's.
"""

from collections.abc import Sequence

from sitecontrol.leadership.anew import on_old_timeline
from sitecontrol.leadership.conditions import START_TRIES, promotion_stuck, rests_alone
from sitecontrol.leadership.effects import Promote, StartPrimary, StartStandby
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.table import Row

CURE = (
    "No other node that holds everything is heard, so nobody else may lead. PostgreSQL's log tells why. If it never"
    " comes up, stop this node's agent, and give the lead to another: `sitectl failover --force --to NODE` (--dry-run"
    " tells what might be lost)."
)


def _alone(f: Facts) -> bool:
    return f.lead and not f.other_in_step


ROWS: Sequence[Row] = (
    Row(
        "recovering-alone",
        f"PostgreSQL of the leader recovers: wait until it takes connections. {CURE}",
        lambda f: _alone(f) and f.pg.state is PgState.STARTING,
    ),
    Row(
        "recovers-in-vain",
        f"PostgreSQL of the leader ends as soon as it is started in recovery, to be promoted: start it again,"
        f" each time after a longer rest, of at most five seconds. {CURE}",
        lambda f: (
            _alone(f)
            and f.pg.state is PgState.STOPPED
            and (not f.pg.was_primary or on_old_timeline(f))
            and f.pg.failed_starts >= START_TRIES
        ),
        lambda f: None if rests_alone(f) else StartStandby(leader=f.node),
    ),
    Row(
        "starts-in-vain",
        f"PostgreSQL of the leader ends as soon as it is started: start it again, each time after a longer rest, of at"
        f" most five seconds. {CURE}",
        lambda f: (
            _alone(f)
            and f.pg.state is PgState.STOPPED
            and f.pg.was_primary
            and f.pg.failed_starts >= START_TRIES
        ),
        lambda f: None if rests_alone(f) else StartPrimary(),
    ),
    Row(
        "promotes-in-vain",
        f"We hold the lead, but our PostgreSQL does not come out of recovery: promote it again. {CURE}",
        lambda f: _alone(f) and promotion_stuck(f),
        lambda f: Promote() if f.lease_safe else None,
    ),
)
