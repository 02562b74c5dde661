"""What follows from the facts: the one table of decisions, in lanes. Pure: no I/O, no clock, no logger.

Each lane is a list of rows, read from the top; the first row whose condition holds is taken, and the rows below
may rely on the ones above not holding. A row carries a sentence for the operator: the agent's `/status` shows that
of each lane, `sitectl status` the one that holds for PostgreSQL, and the history keeps that of an election. A row
without effects is a decision too: to hold still, for the reason that it names.

The safety of all this rests on few things (docs/failover.md): every write to etcd compares all that was reasoned
from; a node leads only when it can be missing nothing; an open leader that can no longer prove both stops.
"""

import functools
from collections.abc import Sequence

from sitecontrol.leadership import (
    alone,
    anew,
    beginning,
    electing,
    failback,
    health,
    leaving,
    mending,
    reaching,
    steps,
    swapping,
    upkeep,
)
from sitecontrol.leadership.conditions import (
    MUTE_PATIENCE,
    apart,
    canary_late,
    cannot_follow,
    cannot_start,
    ended_at_once,
    foreign,
    in_step_of_older_term,
    initialized,
    leader_name,
    led_by_other,
    nothing_exists,
    nothing_of_ours,
    on_leaders_timeline,
    other_data,
    our_turn_to_begin,
    promotion_stuck,
    restart_in_place,
    running,
    serving_without_proof,
    settled,
    without_data,
)
from sitecontrol.leadership.effects import (
    Bootstrap,
    Clone,
    Fence,
    GiveUp,
    Narrow,
    Open,
    Promote,
    Rewind,
    StartPrimary,
    StartStandby,
)
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.steps import unawaited
from sitecontrol.leadership.table import Decision, Lane, Row

FOLLOW_PATIENCE = 5.0  # seconds that a standby may run without streaming before it is repaired
STALL_PATIENCE = (
    5.0  # seconds that a disk may take no WAL: short stalls are common, and the swap costs one as well
)


POSTGRES: Sequence[Row] = (
    Row(
        "canary-late",
        "etcd is silent, and the canary by which we served without it waits: nobody is let in until one commits or"
        " etcd speaks. Nothing is ended: while commits wait nothing is acknowledged, and without etcd nobody could"
        " start it again.",
        canary_late,
    ),
    Row(
        "lost-proof",
        "Neither etcd nor the canary shows that we still lead: fence.",
        serving_without_proof,
        lambda _: Fence(reason="no proof of leadership: lease run out, canary stale"),
    ),
    Row(
        "etcd-unread",
        "etcd was not read since this agent started: leave PostgreSQL as it is.",
        lambda f: not f.cluster_read,
    ),
    Row(
        "foreign-data-runs",
        "The data directory belongs to another cluster, and PostgreSQL runs on it: stop it.",
        lambda f: foreign(f) and running(f),
        lambda _: Fence(reason="data directory of another cluster"),
    ),
    Row(
        "foreign-data",
        "The data directory belongs to another cluster: move it away or correct replication.data_dir.",
        foreign,
    ),
    Row(
        "name-taken-runs",
        "Another agent uses this node's name, with another data directory: stop ours, or its word would count for"
        " our PostgreSQL.",
        lambda f: f.name_taken_by is not None and running(f),
        lambda _: Fence(reason="another agent uses this node's name"),
    ),
    Row(
        "name-taken",
        "Another agent uses this node's name, with another data directory: stay out. Stop that agent, or give this"
        " one a name of its own (site.node).",
        lambda f: f.name_taken_by is not None,
    ),
    # -- the first start of all ---------------------------------------------------------------------------
    Row(
        "records-unread",
        "`initialize` or `term` is not believed (`bad_records` names it), and nothing else tells what it was: an"
        " operator has to write it as it was (`sitectl cluster adopt`).",
        lambda f: not initialized(f) and (f.bad("initialize") or f.bad("term")),
    ),
    Row(
        "data-without-records",
        "There is data, but etcd knows of no cluster: etcd lost its data, or this is the wrong etcd. An operator"
        " has to decide (`sitectl cluster adopt`).",
        lambda f: (
            not initialized(f)
            and f.pg.state not in (PgState.ABSENT, PgState.UNUSABLE)
            and not f.pg.unfinished
        ),
    ),
    Row(
        "bootstrap",
        "Nothing exists yet: make the first data directory and the cluster's first records.",
        lambda f: nothing_exists(f) and f.lease_safe and our_turn_to_begin(f),
        lambda _: Bootstrap(),
    ),
    Row(
        "await-bootstrap",
        "The cluster's first node is not ready yet: wait for it.",
        lambda f: not initialized(f),
    ),
    # -- we lead ----------------------------------------------------------------------------------------------
    *reaching.BEFORE_OPENING,
    *leaving.ROWS,
    Row(
        "lead-without-data",
        "We hold the lead but have no usable data, or not that which took the lead: give it up.",
        lambda f: without_data(f) and (f.other_in_step or f.short_of is not None),
        lambda _: GiveUp(reason="no usable data directory, or another than took the lead"),
    ),
    Row(
        "lead-with-other-data",
        "The data here is not what took the lead and may lack acknowledged messages: hold until that is put back.",
        other_data,
        lambda f: Fence(reason="another data directory than took the lead") if running(f) else None,
    ),
    *anew.ROWS,
    Row(
        "give-up-dead",
        "PostgreSQL is down longer than a restart may take, or ended as soon as it was started, and another node is in"
        " step: give the lead up.",
        lambda f: (
            f.lead
            and f.pg.state in (PgState.STOPPED, PgState.STARTING)
            and not restart_in_place(f)
            and f.etcd_here
        ),
        lambda f: GiveUp(
            reason="PostgreSQL cannot be started"
            if ended_at_once(f)
            else "PostgreSQL did not come back in time"
        ),
    ),
    *alone.ROWS,
    Row(
        "recovering",
        "PostgreSQL of the leader recovers: wait until it takes connections.",
        lambda f: f.lead and f.pg.state is PgState.STARTING,
    ),
    Row(
        "restart-in-place",
        "PostgreSQL of the leader is down: start it again, closed until a barrier has committed.",
        lambda f: f.lead and f.pg.state is PgState.STOPPED and f.pg.was_primary,
        lambda _: StartPrimary(),
    ),
    Row(
        "start-before-promotion",
        "We won the lead with PostgreSQL stopped as a standby: start it in recovery first.",
        lambda f: f.lead and f.pg.state is PgState.STOPPED,
        lambda f: StartStandby(leader=f.node),
    ),
    Row(
        "give-up-mute",
        "PostgreSQL of the leader runs but does not answer: give the lead up.",
        lambda f: (
            f.lead
            and f.pg.state is PgState.MUTE
            and f.now - f.pg.since > MUTE_PATIENCE
            and f.other_in_step
            and f.etcd_here
        ),
        lambda _: GiveUp(reason="PostgreSQL does not answer"),
    ),
    Row(
        "give-up-stalled",
        "PostgreSQL of the leader answers, but its disk takes no WAL, so nothing commits: give the lead up.",
        lambda f: (
            f.lead
            and f.unflushed_for > STALL_PATIENCE
            and f.other_in_step
            and f.etcd_here
            and not f.swap_leaves_us
        ),
        lambda _: GiveUp(reason="the disk takes no WAL"),
    ),
    Row(
        "kill-mute",
        "PostgreSQL of the leader does not answer and nobody else is in step: end it, to start it again.",
        lambda f: f.lead and f.pg.state is PgState.MUTE and f.now - f.pg.since > MUTE_PATIENCE,
        lambda _: Fence(reason="PostgreSQL does not answer"),
    ),
    Row(
        "mute",
        "PostgreSQL does not answer: wait a little before anything is ended.",
        lambda f: f.lead and f.pg.state is PgState.MUTE,
    ),
    Row(
        "give-up-unpromoted",
        "We were given the lead, but our PostgreSQL does not come out of recovery: give the lead up.",
        lambda f: f.lead and promotion_stuck(f) and f.other_in_step and f.etcd_here,
        lambda _: GiveUp(reason="the promotion does not end"),
    ),
    Row(
        "promote",
        "We hold the lead and PostgreSQL is in recovery: promote it.",
        lambda f: f.lead and f.pg.state is PgState.STANDBY and f.lease_safe,
        lambda _: Promote(),
    ),
    Row(
        "narrow",
        "`sync` is of an older term, or names others for whom our commits do not wait: write that only we hold"
        " everything, before anybody is let in.",
        lambda f: (
            f.lead
            and f.pg.state is PgState.PRIMARY
            and not f.open
            and (f.sync is None or (f.sync.leader, f.sync.term) != (f.node, f.term) or bool(unawaited(f)))
        ),
        lambda _: Narrow(),
    ),
    Row(
        "open",
        "PostgreSQL takes writes and we lead: commit a barrier and let the dispatchers in.",
        lambda f: f.lead and f.pg.state is PgState.PRIMARY and not f.open and f.lease_safe,
        lambda _: Open(),
    ),
    Row("leads", "We lead and are open.", lambda f: f.lead and f.open),
    Row("lead-pending", "We hold the lead; the next step waits for a fresh lease.", lambda f: f.lead),
    # -- another leads ---------------------------------------------------------------------------------------
    Row(
        "superseded",
        "Another node leads: stop being a primary at once.",
        lambda f: led_by_other(f) and (f.pg.state is PgState.PRIMARY or f.pg.open_term is not None),
        lambda f: Fence(reason=f"{leader_name(f)} leads in term {f.term}"),
    ),
    Row(
        "clone",
        "There is no usable data here: take a copy of the leader.",
        lambda f: led_by_other(f) and nothing_of_ours(f) and settled(f),
        lambda f: Clone(leader=leader_name(f)),
    ),
    Row(
        "clone-apart",
        "A timeline of ours has the number of one of the leader's, and is another one: take a fresh copy of it.",
        lambda f: apart(f) and settled(f),
        lambda f: Clone(leader=leader_name(f)),
    ),
    Row(
        "follow-after-hand-over",
        "We handed over clean and the leader has all of ours: follow it without a rewind.",
        lambda f: led_by_other(f) and f.pg.state is PgState.STOPPED and f.handed_cleanly,
        lambda f: StartStandby(leader=leader_name(f)),
    ),
    Row(
        "await-leader",
        "Another node leads but has not opened yet: keep what we hold until it has.",
        lambda f: (
            led_by_other(f)
            and f.pg.state is PgState.STOPPED
            and ((f.pg.was_primary and not settled(f)) or in_step_of_older_term(f))
        ),
    ),
    Row(
        "clone-after-rewind",
        "Rewinding did not help: take a fresh copy of the leader.",
        lambda f: led_by_other(f) and f.pg.state is PgState.STOPPED and f.pg.was_primary and f.repairs > 0,
        lambda f: Clone(leader=leader_name(f)),
    ),
    Row(
        "rewind",
        "We were a primary and another node leads now: rewind to its history.",
        lambda f: led_by_other(f) and f.pg.state is PgState.STOPPED and f.pg.was_primary,
        lambda f: Rewind(leader=leader_name(f)),
    ),
    Row(
        "cannot-start-rewind",
        "Our standby ends as soon as it is started: rewind to the leader's history.",
        lambda f: cannot_start(f) and f.repairs == 0,
        lambda f: Rewind(leader=leader_name(f)),
    ),
    Row(
        "cannot-start-clone",
        "Our standby ends as soon as it is started, even after a rewind: take a fresh copy of the leader.",
        cannot_start,
        lambda f: Clone(leader=leader_name(f)),
    ),
    Row(
        "start-standby",
        "Another node leads: start as its standby.",
        lambda f: led_by_other(f) and f.pg.state is PgState.STOPPED,
        lambda f: StartStandby(leader=leader_name(f)),
    ),
    Row(
        "await-narrow",
        "Another node was given the lead and has yet to write that it alone is complete: take nothing from it until"
        " then, for we may have to lead after it.",
        lambda f: (
            led_by_other(f)
            and f.pg.state is PgState.STANDBY
            and f.pg.follows != leader_name(f)
            and in_step_of_older_term(f)
        ),
    ),
    Row(
        "re-point",
        "The leader has changed, or leads in a new term: see that its history goes on from ours, and follow it.",
        lambda f: (
            led_by_other(f)
            and f.pg.state is PgState.STANDBY
            and (f.pg.follows != leader_name(f) or not f.compared)
        ),
        lambda f: StartStandby(leader=leader_name(f)),
    ),
    Row(
        "repair-by-rewind",
        "We cannot stream from the leader for a while: rewind to its history.",
        lambda f: cannot_follow(f, FOLLOW_PATIENCE) and f.repairs == 0 and not on_leaders_timeline(f),
        lambda f: Rewind(leader=leader_name(f)),
    ),
    Row(
        "repair-by-clone",
        "We cannot stream from the leader, even after a rewind, or on its own timeline, where there is nothing to"
        " rewind and the WAL that we need is gone: take a fresh copy.",
        lambda f: cannot_follow(f, FOLLOW_PATIENCE * (1 + f.repairs)),
        lambda f: Clone(leader=leader_name(f), unless_followed=True),
    ),
    Row(
        "kill-mute-standby",
        "Our standby runs but does not answer: end it, to start it again.",
        lambda f: led_by_other(f) and f.pg.state is PgState.MUTE and f.now - f.pg.since > MUTE_PATIENCE,
        lambda _: Fence(reason="PostgreSQL does not answer"),
    ),
    Row(
        "follows-unheard",
        "Neither etcd nor the leader is heard: nobody can take the lead without etcd, so hold what we have.",
        lambda f: led_by_other(f) and not f.etcd_here and not f.pg.upstream,
    ),
    Row("follows", "Another node leads and we follow it.", led_by_other),
    Row(
        "own-old-lease",
        "`leader` names us with a lease that is not ours any more: wait until it has run out.",
        lambda f: f.leader is not None,
    ),
    # -- nobody leads -------------------------------------------------------------------------------------------
    *electing.ROWS,
)


TABLE: dict[Lane, Sequence[Row]] = {
    Lane.POSTGRES: POSTGRES,
    Lane.STEP: steps.ROWS,
    Lane.SWAP: (*beginning.ROWS, *swapping.ROWS),
    Lane.HEALTH: (*failback.ROWS, *health.ROWS),
    Lane.RECORDS: mending.ROWS,
    Lane.REACHED: reaching.ROWS,
    Lane.UPKEEP: upkeep.ROWS,
}


def decide(lane: Lane, facts: Facts) -> Decision:
    """The first row of the lane that holds. The last row of each lane always does."""
    for row in TABLE[lane]:
        if row.when(facts):
            if (effect := row.then(facts)) is None:
                return holds_still(lane, row)
            return Decision(lane=lane, rule=row.name, sentence=row.sentence, effect=effect)
    raise AssertionError(lane)


@functools.cache
def holds_still(lane: Lane, row: Row) -> Decision:
    """Of most looks, so it is made only once."""
    return Decision(lane=lane, rule=row.name, sentence=row.sentence, effect=None)
