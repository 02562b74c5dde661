"""Who was given the lead by a person's word begins a timeline of its own before it opens: rows of the `postgres` lane.

A standby does so by being promoted. What was a primary could be started again in place, as after a crash; but then it
would write its own WAL onto the very timeline of which another node may hold more, as the standby of an older copy
does. PostgreSQL streams from either into the other, by number and position alone, and that node would come into step
without what it lacks. So it is started in recovery, to the end of what it has, and promoted: whoever holds more of the
timeline before finds that its history has left the leader's, and is rewound or cloned (`agent.comparing`). Pure.
"""

from collections.abc import Sequence

from sitecontrol.leadership.conditions import START_TRIES
from sitecontrol.leadership.effects import Fence, StartStandby
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.table import Row

SENTENCE = (
    "We were given the lead by a person's word, and other nodes may hold more of the timeline that we are on: let"
    " nobody in on it."
)


def on_old_timeline(f: Facts) -> bool:
    sync = f.sync
    named = sync is not None and (sync.leader, sync.leader_incarnation) == (f.node, f.pg.incarnation)
    return (
        f.lead
        and named
        and sync is not None
        and sync.opens_above is not None
        and f.pg.timeline <= sync.opens_above
    )


ROWS: Sequence[Row] = (
    Row(
        "end-to-begin-anew",
        f"{SENTENCE} End PostgreSQL, to start it in recovery.",
        lambda f: on_old_timeline(f) and f.pg.state is PgState.PRIMARY,
        lambda _: Fence(reason="a lead by a person's word begins a timeline of its own"),
    ),
    Row(
        "begin-anew",
        f"{SENTENCE} Start in recovery; a promotion begins a new one.",
        lambda f: (
            on_old_timeline(f)
            and f.pg.state is PgState.STOPPED
            and f.pg.was_primary
            and (f.pg.failed_starts < START_TRIES or f.other_in_step)  # else `recovers-in-vain` does the same
        ),
        lambda f: StartStandby(leader=f.node),
    ),
)
