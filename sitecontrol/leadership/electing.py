"""Nobody leads: whether this node takes the lead, or why it holds. The last rows of the `postgres` lane. Pure.

It does only if it can be missing nothing that was acknowledged (`Facts.may_lead`), and by a transaction that compares
all of this. What is a courtesy only, and no safety: whose turn it is, who gave the lead up just now, and whose
PostgreSQL could not be started a moment ago.
"""

from collections.abc import Sequence

from sitecontrol.leadership import mending, reaching
from sitecontrol.leadership.claiming import CLAIM, claim
from sitecontrol.leadership.conditions import (
    MUTE_PATIENCE,
    canary_holds_back,
    rests_alone,
    swap_came_to_nothing,
)
from sitecontrol.leadership.effects import Fence, Reclaim, StartStandby
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.table import Row
from sitecontrol.leadership.turns import not_our_turn

AWAIT_TURN = "await-turn"
AFTER_GIVING_UP = 3.0  # seconds that a node which gave the lead up leaves it to others
LONGEST_REST = 60.0  # seconds that one whose PostgreSQL cannot be started does


def rest_after(failed_starts: int) -> float:
    """Seconds for which a node leaves the lead to others after so many starts in a row that failed: 2, 4, 8 … 60."""
    return float(min(2.0 ** min(failed_starts, 10), LONGEST_REST))


def starts_in_vain(f: Facts) -> bool:
    """Our PostgreSQL could not be started a moment ago, and somebody else could lead: with the lead we would only do as
    we did. Two such nodes would take it from one another several times a second, each time in another term.
    """
    failed_at, failures = f.pg.start_failed_at, f.pg.failed_starts
    return (
        f.pg.state is PgState.STOPPED
        and failed_at is not None
        and failures > 0
        and f.other_in_step
        and f.now - failed_at < rest_after(failures)
    )


ROWS: Sequence[Row] = (
    Row(
        "no-word-from-etcd",
        "Nobody can take the lead without etcd: go on as we are.",
        lambda f: not f.etcd_here or not f.lease_safe,
    ),
    Row(
        "kill-mute-leaderless",
        "Nobody leads, and our PostgreSQL runs but does not answer: end it, to start it again and see what it holds.",
        lambda f: f.pg.state is PgState.MUTE and f.now - f.pg.since > MUTE_PATIENCE,
        lambda _: Fence(reason="PostgreSQL does not answer"),
    ),
    Row(
        "reclaim",
        "etcd has lost our lease, but we never stopped serving and nobody else led: take the same term up again.",
        lambda f: (
            f.pg.state is PgState.PRIMARY
            and (f.recorded_leader or f.bad("sync"))
            and f.open
            and f.released_by is None
        ),
        lambda _: Reclaim(),
    ),
    Row(
        "in-step-unknown",
        "Nobody leads, and `sync` is not believed (`bad_records` names it): who holds every acknowledged message is"
        " not known. Hold until an operator says it (`sitectl node trust NODE`).",
        mending.in_step_unknown,
    ),
    Row(
        "barred-primary",
        "We run as a primary but may be missing acknowledged messages: stop.",
        lambda f: f.pg.state is PgState.PRIMARY and not f.may_lead,
        lambda _: Fence(reason="not recorded as holding every acknowledged message"),
    ),
    Row(
        "paused",
        "Automatic swaps are paused by an operator: hold.",
        lambda f: f.paused and not f.recorded_leader and not swap_came_to_nothing(f),
    ),
    Row(
        "replay-to-know",
        "We were in step but are stopped: start in recovery to see what we hold; after failures in a row, each time"
        " after a longer rest, of at most five seconds.",
        lambda f: (
            (f.our_place_in_step is not None or (f.recorded_leader and not f.may_lead))
            and f.pg.state is PgState.STOPPED
            and not f.pg.was_primary
        ),
        lambda f: None if rests_alone(f) else StartStandby(leader=f.node),
    ),
    Row(
        "canary-holds-back",
        "`leader` is gone, but the leader's canary still reaches us: it serves; give it time to return.",
        lambda f: f.may_lead and canary_holds_back(f),
    ),
    Row(
        "gave-up",
        "We gave the lead up a moment ago: leave it to the others who are complete.",
        lambda f: (
            f.released_by == f.node
            and f.other_in_step
            and (f.leader_absent_since is None or f.now - f.leader_absent_since < AFTER_GIVING_UP)
        ),
    ),
    Row(
        "rest-after-failed-start",
        "Nobody leads and we hold every acknowledged message, but our PostgreSQL ended as soon as it was last started,"
        " and another node that does is heard: leave the lead to it, after each failure for longer, up to a minute."
        " PostgreSQL's log tells why; when that is mended, starting this agent again has it try at once.",
        lambda f: f.may_lead and starts_in_vain(f),
    ),
    Row(
        "stray-leader",
        "`leader` holds something that is no leader (`bad_records` names it): whoever led has a moment to write it"
        " anew; and one of a later version, which we cannot read, leads.",
        lambda f: f.may_lead and mending.stray(f),
    ),
    Row(
        AWAIT_TURN,
        "Nobody leads and we hold every acknowledged message, but another who does comes first: one of the lost"
        " leader's site, or one that has received more. It has a moment.",
        lambda f: f.may_lead and not_our_turn(f),
    ),
    Row(
        "claim",
        CLAIM,
        lambda f: f.may_lead and f.pg.state in (PgState.PRIMARY, PgState.STANDBY, PgState.STOPPED),
        claim,
    ),
    reaching.HOLDING,
    Row(
        "barred",
        "Nobody leads, but we may be missing acknowledged messages: hold until a node that has them returns.",
        lambda _: True,
    ),
)
