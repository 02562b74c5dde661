"""Who should leave step and who may come into it: pure questions for the `step` lane (failover rules 2 and 3)."""

from sitecontrol.leadership.facts import Facts, StandbyFacts
from sitecontrol.records import Role

RESTART_GRACE = 1.0  # seconds after our PostgreSQL started in which its standbys may still be reconnecting
SILENT_AFTER = 0.7  # seconds without a flush, while there is something to flush
SILENT_LOOKS = 4  # and as many looks: a stall of our own must not throw a standby out
ETCD_HEARD_AFTER = (
    0.5  # seconds into that silence at which etcd was still heard: so it is not we who hear nothing
)
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


def joinable(f: Facts) -> str | None:
    """A standby that streams, is known by our file and by its member record, and has nearly caught up."""
    in_sync = {s.node for s in f.sync.standbys} if f.sync else set()
    for standby in f.pg.standbys:
        member = f.member(standby.name)
        if (
            standby.name not in in_sync
            and standby.name in f.site_of
            and [s.name for s in f.pg.standbys].count(standby.name) == 1  # two would flush for one another
            and standby.streaming
            and member is not None
            and member.record.role
            is Role.STANDBY  # a record from before it was rewound would be refused later
            and member.record.incarnation is not None
            and f.pg.received_lsn - standby.flush_lsn < JOIN_LAG_BYTES
        ):
            return standby.name
    return None
