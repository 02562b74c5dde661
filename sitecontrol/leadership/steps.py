"""Who should leave step and who may come into it: pure questions for the `step` lane (failover rules 2 and 3)."""

from collections.abc import Sequence

from sitecontrol.leadership.effects import Join, Leave, ShowRemote
from sitecontrol.leadership.facts import Facts, PgState, StandbyFacts
from sitecontrol.leadership.mending import mend_sync, mends_sync
from sitecontrol.leadership.table import Row
from sitecontrol.records import Phase, Role

RESTART_GRACE = 1.0  # seconds after our PostgreSQL started in which its standbys may still be reconnecting
SILENT_AFTER = 0.7  # seconds without a flush, while there is something to flush
SILENT_LOOKS = 4  # and as many looks: a stall of our own must not throw a standby out
ETCD_HEARD_AFTER = (
    0.5  # seconds into that silence at which etcd was still heard: so it is not we who hear nothing
)
LONGEST_JOIN_PAUSE = 60.0
OLD_LEADER_FIRST_FOR = 3.0  # seconds, in each phase after the hand-over
JOIN_LAG_BYTES = 2 * 1024 * 1024  # a standby further behind catches up first


def _lost(f: Facts, standby: StandbyFacts | None) -> bool:
    if standby is None or not standby.streaming:
        return f.now - f.pg.since > RESTART_GRACE
    silent = f.pg.looked_at - standby.moved_at > SILENT_AFTER and standby.still >= SILENT_LOOKS
    return silent and not _deaf(f, standby)


def _deaf(f: Facts, standby: StandbyFacts) -> bool:
    """Perhaps it is we who hear nothing any more. What we write to etcd may still arrive there: taking the standby
    out of step then, with the last words that get through, would leave nobody who may lead.
    """
    return f.etcd_heard_at is None or f.etcd_heard_at - standby.moved_at < ETCD_HEARD_AFTER


def unawaited(f: Facts) -> tuple[str, ...]:
    """Standbys in `sync` that our commits do not wait for: as after a hand-over, or a promotion."""
    return tuple(s.node for s in f.sync.standbys if s.node not in f.pg.names) if f.sync else ()


def leaving(f: Facts) -> tuple[str, ...]:
    """Standbys in `sync` that no longer earn it: gone, silent, not waited for, or with another data directory."""
    if f.sync is None:
        return ()

    def other_disk(node: str, incarnation: str) -> bool:
        member = f.member(node)
        return member is not None and member.record.incarnation not in (None, incarnation)

    return tuple(
        s.node
        for s in f.sync.standbys
        if _lost(f, f.standby(s.node)) or other_disk(s.node, s.incarnation) or s.node in unawaited(f)
    )


def strangers(f: Facts) -> tuple[str, ...]:
    """Names that commits wait for without being in `sync`: left from a join or a leave that was cut off."""
    in_sync = {s.node for s in f.sync.standbys} if f.sync else set()
    return tuple(name for name in f.pg.names if name not in in_sync)


def expected_remote(f: Facts) -> tuple[str, ...]:
    """Standbys of other sites that are in `sync` and that commits wait for."""
    in_sync = {s.node for s in f.sync.standbys} if f.sync else set()
    return tuple(sorted(n for n in f.pg.names if n in in_sync and f.site_of.get(n, f.site) != f.site))


def joinables(f: Facts) -> tuple[str, ...]:
    """Standbys that stream, are known by our file and by their member records, and have nearly caught up."""
    in_sync = {s.node for s in f.sync.standbys} if f.sync else set()
    return tuple(
        standby.name
        for standby in f.pg.standbys
        if standby.name not in in_sync
        and standby.name in f.site_of
        and [s.name for s in f.pg.standbys].count(standby.name) == 1  # two would flush for one another
        and standby.streaming
        and (member := f.member(standby.name)) is not None
        # A record from before it was rewound would be refused later; one of an older term is from before it had
        # compared its history with ours.
        and member.record.role is Role.STANDBY
        and member.record.term == f.term
        # One that has more of an older timeline than ours goes on from is streamed to all the same, up to the fork, and
        # what it says that it has flushed is not of ours.
        and member.record.timeline >= f.pg.timeline
        and member.record.incarnation is not None
        and f.pg.received_lsn - standby.flush_lsn < JOIN_LAG_BYTES
    )


def joinable(f: Facts) -> str | None:
    """Whom to bring in next. While no other site has every commit, one that is elsewhere comes first. One that failed
    waits for its time (`pause_before_join`): commits wait in vain at each try.
    """
    ready = [node for node in joinables(f) if f.join_after.get(node, f.now) <= f.now]
    if old_leader_first(f):
        ready = [node for node in ready if f.swap and node == f.swap.from_node]
    return min(ready, key=lambda node: (f.site_of[node] == f.site, node), default=None)


def follows_unnoted(f: Facts) -> bool:
    """The old leader could come back into step, but the swap's record has yet to say that it follows: whichever of the
    two is written first overtakes the other, and coming into step is the longer one.
    """
    swap = f.swap
    return (
        swap is not None
        and f.in_phase(Phase.HANDED, Phase.OPENED)
        and swap.from_node != f.node
        and swap.from_node in joinables(f)
    )


def old_leader_first(f: Facts) -> bool:
    """A swap was handed to us, and its record is about to be written again: when the old leader follows, and when it is
    in step. Whoever else were on the way in then would be overtaken by that, and commits would have waited in vain. An
    old leader that does not come is not waited for long: without the others there may be no second site.
    """
    swap = f.swap
    if swap is None or swap.to_node != f.node or not f.in_phase(Phase.HANDED, Phase.OPENED, Phase.FOLLOWING):
        return False
    in_step = f.sync is not None and swap.from_node in {s.node for s in f.sync.standbys}
    return in_step or (f.member(swap.from_node) is not None and f.phase_age <= OLD_LEADER_FIRST_FOR)


def pause_before_join(failures: int) -> float:
    """Seconds after so many tries in a row that failed: 1, 2, 4, up to a minute."""
    return float(min(2.0 ** min(failures - 1, 10), LONGEST_JOIN_PAUSE))


ROWS: Sequence[Row] = (
    Row(
        "mend-sync",
        "`sync` is not what was written: write anew which standbys that our commits wait for are in step.",
        mends_sync,
        mend_sync,
    ),
    Row(
        "awaits-mending",
        "A record that who is in step rests on is not believed: nothing changes until it is written over.",
        lambda f: not f.cluster.bad.keys().isdisjoint(("leader", "term", "sync", "swap")),
    ),
    Row(
        "not-ours",
        "Only an open leader with etcd at hand changes who is in step.",
        lambda f: (
            not (f.lead and f.pg.state is PgState.PRIMARY and f.etcd_here and f.lease_safe)
            or f.sync is None
            or f.sync.leader != f.node
            or f.sync.term != f.term
        ),
    ),
    Row(
        "narrow-first",
        "`sync` is about to be narrowed, so that we can open: a second write to it would only be in the way.",
        lambda f: not f.open and bool(unawaited(f)),
    ),
    Row(
        "leave",
        "A standby in step is gone or silent: take it out in etcd first, then stop waiting for it.",
        lambda f: bool(leaving(f)),
        lambda f: Leave(nodes=leaving(f), reason="gone, silent, or with another data directory"),
    ),
    Row(
        "clear-strangers",
        "Commits wait for a standby that is not in `sync`: stop waiting for it.",
        lambda f: bool(strangers(f)),
        lambda f: Leave(nodes=strangers(f), reason="waited for without being in step"),
    ),
    Row("closed", "Nothing joins before we are open.", lambda f: not f.open),
    Row(
        "show-remote",
        "The row of the database does not tell truly which other sites every commit waits for: correct it.",
        lambda f: set(f.pg.remote_in_step) != set(expected_remote(f)),
        lambda f: ShowRemote(nodes=expected_remote(f)),
    ),
    Row(
        "swap-first",
        "A swap holds requests, or is about to note that the old leader streams, or is in step: nobody else joins"
        " meanwhile.",
        lambda f: (
            f.in_phase(Phase.HELD)
            or follows_unnoted(f)
            or (old_leader_first(f) and joinable(f) is None and bool(joinables(f)))
        ),
    ),
    Row(
        "join",
        "A standby streams and has nearly caught up: bring it into step; first one of another site, if none is.",
        lambda f: joinable(f) is not None,
        lambda f: Join(node=joinable(f) or ""),
    ),
    Row(
        "join-later",
        "A standby could come into step, but failed to a moment ago while commits waited for it: it waits, longer"
        " each time.",
        lambda f: bool(joinables(f)),
    ),
    Row("in-step", "Every standby that streams is in step.", lambda _: True),
)
