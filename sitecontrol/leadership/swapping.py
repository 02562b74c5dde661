"""The planned swap as rows of the `swap` lane: rolled back before the hand-over, forward after it.

`requested → checked → held → (flushed) → handed → (promoted) → opened → following → in step`. The phases in
brackets are only noted among the record's times, with the write that follows them: they would each cost a
round trip through etcd in the middle of the pause.
"""

from collections.abc import Callable, Mapping, Sequence

from sitecontrol.etcd.api import FULL
from sitecontrol.leadership.alike import differences_between
from sitecontrol.leadership.effects import Advance, Finish, HandOver, RollBack
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.observed import HEALTH_SWAP
from sitecontrol.leadership.room import lacks_room
from sitecontrol.leadership.table import Row
from sitecontrol.records import Phase

REPLAY_LAG_BYTES = 16 * 1024 * 1024  # more than this to replay would lengthen the pause
TARGET_PATIENCE = 1.5  # seconds that a target may be silent while everything waits for it

# Which setting bounds each phase, counted from when the one who drives the swap first saw it in that phase. (The two
# that are only noted have none: nothing waits in them.)
DEADLINES: Mapping[Phase, str] = {
    Phase.REQUESTED: "swap_prepare_within",  # the checks, and a checkpoint: nothing is held yet
    Phase.CHECKED: "swap_deadline",  # one write
    Phase.HELD: "swap_deadline",  # the pause: drain, shut down, the target's last flush, the hand-over
    Phase.HANDED: "swap_follow_within",
    Phase.OPENED: "swap_follow_within",
    Phase.FOLLOWING: "swap_follow_within",
}
BEFORE_HAND_OVER = (Phase.REQUESTED, Phase.CHECKED, Phase.HELD)
AFTER_HAND_OVER = (Phase.HANDED, Phase.OPENED, Phase.FOLLOWING)  # those that a swap stands in


def nobody_leads(f: Facts) -> str:
    """As an obstacle, with what ends it when that is up to an operator."""
    if f.leader is None and f.paused:
        return (
            "nobody leads at the moment, and automatic swaps are paused: `sitectl resume` lets a node that is in step"
            " take the lead"
        )
    return "nobody leads at the moment"


def obstacles(f: Facts, to_node: str, *, planned: bool = True) -> tuple[str, ...]:
    """Why `to_node` could not take over now; each is a sentence for the operator. Empty: it could.

    `planned`: nothing is wrong with the live site, so that what can be put in order first should be.
    """
    found: list[str] = []
    leader = f.leader
    if to_node not in f.site_of:
        return _cannot_be_handed_to(f, to_node)
    if leader is None or f.sync is None:
        return (nobody_leads(f),)
    if leader.record.node == to_node:
        return _cannot_be_handed_to(f, to_node)
    if f.etcd_full:
        found.append(FULL)
    found.extend(_cannot_be_handed_to(f, to_node))
    member = f.member(to_node)
    if member is not None:
        found.extend(member.record.reasons if not member.record.ready else ())
        behind = member.record.received_lsn - member.record.replayed_lsn
        if behind > REPLAY_LAG_BYTES:
            found.append(f"{to_node} has {behind} bytes still to replay")
        at_leader = f.member(leader.record.node)
        if planned and at_leader is not None:
            found.extend(
                f"{sentence}: make it alike and start the agent again"
                for sentence in differences_between(at_leader.record, member.record)
            )
    site = f.site_of[to_node]
    work = f.maintenance(site)
    if work is not None:
        found.append(
            f"{site} is in maintenance until {work.until.isoformat(' ', 'minutes')}, by {work.by}: {work.reason}"
            f" (`sitectl maintenance end --site {site}` ends it)"
        )
    there = [d.record for d in f.cluster.dispatchers.values() if d.record.site == site]
    if not any(d.ready for d in there):
        found.append(f"no dispatcher in {site} is ready")
    if there and any(d.links for d in there) and not any(d.links_up for d in there):
        found.append(f"no carrier link is bound in {site}")
    if planned and not found:
        found.extend(lacks_room(f, site))
    return tuple(found)


def _cannot_be_handed_to(f: Facts, node: str) -> tuple[str, ...]:
    """Why the hand-over to this node would be refused, or would lose something, however well all else is."""
    if node not in f.site_of:
        return (f"no node {node!r} is configured",)
    if f.leader is not None and f.leader.record.node == node:
        return (f"{node} leads already",)
    found: list[str] = []
    if f.sync is None or node not in {s.node for s in f.sync.standbys}:
        found.append(f"{node} is not in step: it might lack acknowledged messages")
    elif _another_disk(f, node):
        found.append(f"{node} has another data directory than the one that is in step")
    if f.member(node) is None:
        found.append(f"the agent of {node} is not heard")
    return tuple(found)


def target_lost(f: Facts) -> tuple[str, ...]:
    """Why the swap in progress, past its checks, cannot be handed over any more. Less than `obstacles`: what would only
    have been a reason not to begin it, such as a carrier's link, is none to have held requests for nothing.
    """
    return _cannot_be_handed_to(f, f.swap.to_node) if f.swap is not None else ()


def _another_disk(f: Facts, node: str) -> bool:
    """What it tells of itself is not of the data directory that `sync` names."""
    member = f.member(node)
    named = {s.incarnation for s in f.sync.standbys if s.node == node} if f.sync else set()
    return member is not None and member.record.incarnation not in named


def _obstacles_in_progress(f: Facts) -> tuple[str, ...]:
    """Of the swap in progress. One that health asked for leaves an unfit site."""
    swap = f.swap
    if swap is None:
        return ()
    return obstacles(f, swap.to_node, planned=(swap.evidence or {}).get("rule") != HEALTH_SWAP)


def deadline(f: Facts, phase: Phase) -> float:
    seconds: float = getattr(f.settings, DEADLINES[phase])
    return seconds


def in_time(f: Facts) -> bool:
    return f.swap is None or f.phase_age <= deadline(f, f.swap.phase)


def _late(f: Facts) -> str:
    """What is said of a swap that is past its phase's deadline."""
    phase = f.swap.phase if f.swap else Phase.REQUESTED
    return f"longer than {deadline(f, phase):g} s in phase {phase.value} (failover.{DEADLINES[phase]})"


def _target_has_all(f: Facts) -> bool:
    end = f.pg.clean_shutdown_lsn
    peer = f.peers.get(f.swap.to_node) if f.swap else None
    return end is not None and peer is not None and peer.received_lsn >= end


def _target_silent(f: Facts) -> bool:
    peer = f.peers.get(f.swap.to_node) if f.swap else None
    heard = peer.asked_at if peer is not None else f.swap_phase_since
    return heard is not None and f.now - heard > TARGET_PATIENCE


def _leaves_us(phase: Phase) -> Callable[[Facts], bool]:
    return lambda f: f.swap_leaves_us and f.in_phase(phase)


def _arrived(f: Facts) -> bool:
    """The swap was handed to us and we lead the term that it made. A phase in which no swap ever stands was written by
    somebody else, and has no deadline: such a record is ended as one that was overtaken.
    """
    swap = f.swap
    return (
        swap is not None
        and f.lead
        and swap.to_node == f.node
        and swap.phase in AFTER_HAND_OVER
        and f.term == swap.term + 1
    )


def _old_leader_streams(f: Facts) -> bool:
    standby = f.standby(f.swap.from_node) if f.swap else None
    return standby is not None and standby.streaming


def _old_leader_in_step(f: Facts) -> bool:
    swap, sync = f.swap, f.sync
    return (
        swap is not None and sync is not None and swap.from_node in {s.node for s in sync.standbys} and f.open
    )


ROWS: Sequence[Row] = (
    Row("no-swap", "No swap is in progress.", lambda f: f.swap is None, lambda _: None),
    Row("not-leader", "The leader drives the swap.", lambda f: not f.lead or not f.etcd_here, lambda _: None),
    # -- before the hand-over: the old leader drives, and any doubt rolls back --------------------------------
    Row(
        "overdue",
        "The swap is past its phase's deadline, and was not handed over: roll it back.",
        lambda f: f.swap_leaves_us and not in_time(f),
        lambda f: RollBack(reason=_late(f)),
    ),
    Row(
        "refused",
        "The target cannot take over: roll the swap back and name what stands in the way.",
        lambda f: _leaves_us(Phase.REQUESTED)(f) and bool(_obstacles_in_progress(f)),
        lambda f: RollBack(reason="; ".join(_obstacles_in_progress(f))),
    ),
    Row(
        "target-lost",
        "The target can be handed nothing any more: it has left step, has another data directory, its agent is gone, or"
        " nobody ever checked it. Roll back at once, before anything is shut down for it.",
        lambda f: (_leaves_us(Phase.CHECKED)(f) or _leaves_us(Phase.HELD)(f)) and bool(target_lost(f)),
        lambda f: RollBack(reason="; ".join(target_lost(f))),
    ),
    Row(
        "check",
        "Nothing stands in the way: take a checkpoint so that the shutdown is short.",
        _leaves_us(Phase.REQUESTED),
        lambda _: Advance(phase=Phase.CHECKED),
    ),
    Row(
        "hold",
        "The checkpoint is taken: ask the dispatchers to hold requests and to drain.",
        _leaves_us(Phase.CHECKED),
        lambda _: Advance(phase=Phase.HELD),
    ),
    Row(
        "unclean",
        "PostgreSQL did not shut down clean: roll back and start it again.",
        lambda f: (
            _leaves_us(Phase.HELD)(f) and f.pg.state is PgState.STOPPED and f.pg.clean_shutdown_lsn is None
        ),
        lambda _: RollBack(reason="PostgreSQL did not shut down clean in time"),
    ),
    Row(
        "hand-over",
        "We are shut down clean and the target holds our last record: hand the lead over.",
        lambda f: (
            _leaves_us(Phase.HELD)(f)
            and f.pg.state is PgState.STOPPED
            and _target_has_all(f)
            and not _another_disk(f, f.swap.to_node if f.swap else "")
        ),
        lambda f: HandOver(shutdown_lsn=f.pg.clean_shutdown_lsn or 0),
    ),
    Row(
        "target-silent",
        "We are shut down, and the target has not told its position for a while: roll back and start again.",
        lambda f: _leaves_us(Phase.HELD)(f) and f.pg.state is PgState.STOPPED and _target_silent(f),
        lambda _: RollBack(reason="the target's PostgreSQL does not answer"),
    ),
    Row(
        "await-drain",
        "Waiting for the shutdown, or for the target's word.",
        _leaves_us(Phase.HELD),
    ),
    # -- after the hand-over: the target drives, forward --------------------------------------------------------
    Row(
        "following",
        "The old leader streams from us.",
        lambda f: _arrived(f) and f.in_phase(Phase.OPENED) and _old_leader_streams(f),
        lambda _: Advance(phase=Phase.FOLLOWING),
    ),
    Row(
        "opened",
        "Dispatchers are let in at the target: note it.",
        lambda f: _arrived(f) and f.open and f.in_phase(Phase.HANDED),
        lambda _: Advance(phase=Phase.OPENED),
    ),
    Row(
        "arrived-in-step",
        "The old leader is in step again: the swap is done.",
        lambda f: _arrived(f) and _old_leader_in_step(f),
        lambda _: Finish(),
    ),
    Row(
        "arrived-alone",
        "Production has moved; the old leader does not follow in time, and its return is no part of this any more.",
        lambda f: _arrived(f) and f.open and f.in_phase(Phase.OPENED, Phase.FOLLOWING) and not in_time(f),
        lambda _: Finish(),
    ),
    Row("arriving", "The target opens, or waits for the old leader to follow.", _arrived, lambda _: None),
    # -- anything else: the swap was overtaken by an election ----------------------------------------------------
    Row(
        "overtaken",
        "The lead changed in the middle of the swap: end its record.",
        lambda _: True,
        lambda _: RollBack(reason="overtaken by a change of leader"),
    ),
)
