"""Rows of the `postgres` lane that are never taken in the two situations in which nearly all looks are made: they are
not asked then, ten times a second. Pure.

By their names, so that a row that nobody thought of is asked always; a test draws situations and sees that the same row
is taken without these.
"""

import functools
from collections.abc import Sequence

from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.table import Row

# We do not lead, so nothing of what a leader does.
OF_LEADERS = frozenset(
    {
        "older-copy-ends",
        "give-up-unreplayed",
        "replay-before-promotion",
        "shut-down-for-swap",
        "start-without-etcd",
        "serve-on",
        "shut-down-awaits-hand-over",
        "lead-without-data",
        "lead-with-other-data",
        "end-to-begin-anew",
        "begin-anew",
        "give-up-dead",
        "recovering-alone",
        "recovers-in-vain",
        "starts-in-vain",
        "promotes-in-vain",
        "recovering",
        "restart-in-place",
        "start-before-promotion",
        "give-up-mute",
        "give-up-stalled",
        "kill-mute",
        "mute",
        "give-up-unpromoted",
        "promote",
        "narrow",
        "open",
        "leads",
        "lead-pending",
    }
)
# PostgreSQL runs, and takes no writes.
OF_ONE_AT_REST = frozenset(
    {
        "follow-after-hand-over",
        "await-leader",
        "clone-after-rewind",
        "rewind",
        "cannot-start-rewind",
        "cannot-start-clone",
        "start-standby",
        "kill-mute-standby",
    }
)
# What an open leader still may have to do: the rest is about PostgreSQL at rest, in recovery, mute or closed, or about
# the name of one who does not lead.
OF_OPEN_LEADERS = frozenset(
    {
        "shut-down-for-swap",
        "lead-without-data",
        "lead-with-other-data",
        "end-to-begin-anew",
        "give-up-stalled",
        "leads",
    }
)
UNASKED_WHILE_OPEN = (OF_LEADERS - OF_OPEN_LEADERS) | {"name-taken-runs", "name-taken"}
UNASKED_WHILE_FOLLOWING = OF_LEADERS | OF_ONE_AT_REST


def leads_openly(f: Facts) -> bool:
    return f.lead and f.open


def follows(f: Facts) -> bool:
    return f.led_by_other and f.pg.state is PgState.STANDBY


def asked(rows: Sequence[Row], f: Facts) -> Sequence[Row]:
    """Of these rows, those that may hold."""
    if leads_openly(f):
        return _without(rows, UNASKED_WHILE_OPEN)
    return _without(rows, UNASKED_WHILE_FOLLOWING) if follows(f) else rows


@functools.lru_cache(maxsize=16)
def _without(rows: Sequence[Row], names: frozenset[str]) -> Sequence[Row]:
    return tuple(row for row in rows if row.name not in names)
