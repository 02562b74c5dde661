"""Whether a site has room for what the live site carries now: as many dispatchers, and as many carrier links; and
whether a node has room on its disk for the WAL that a leader writes and keeps. Pure.

Room on disk is part of what makes a node ready (`AgentState.reasons`): without it no swap goes there, not even one that
health asks for, since production would soon stand still. Who may lead after a loss does not ask for it.

The rest is asked before a planned swap, which has time to wait until what is missing was put right. No more is asked
for than the site was built with: all dispatchers of the settings, and all links of those that are heard. A swap that
leaves an unfit site does not ask: less than it had is better than nothing.
"""

from collections.abc import Iterator, Sequence

from sitecontrol.leadership.facts import Facts
from sitecontrol.records import DispatcherRecord

MB = 1024 * 1024
ROOM = 1024 * MB  # where no other figure is set


def lacks_room(f: Facts, site: str) -> Iterator[str]:
    """What the site lacks for the load of the live one; each is a sentence for the operator."""
    live = f.site_of.get(f.leader.record.node) if f.leader else None
    if live is None or live == site:
        return
    here, there = _heard(f, live), _heard(f, site)
    yield from _lacks_dispatchers(f, site, live, here, there)
    if f.live_site_sends:
        yield from _lacks_links(site, live, here, there)


def lacks_wal_room(f: Facts) -> Iterator[str]:
    """Of our own node."""
    free, wanted = f.pg.wal_free, wanted_wal_room(f)
    if free is None or free >= wanted:
        return
    if f.wal_room is not None:
        why = "replication.wal_room_mb"
        cure = "make room there"
    else:
        why = f"where replication.wal_room_mb is not set: {ROOM // MB} MB, or a quarter of a smaller volume"
        cure = "make room there, or set less if PostgreSQL's max_wal_size and wal_keep_size fit into it"
    yield (
        f"{free // MB} MB are free for the WAL of {f.node}, and {wanted // MB} MB should be before it leads ({why}):"
        f" {cure}"
    )


def wanted_wal_room(f: Facts) -> int:
    """Bytes. What is set counts as it is; what is not leaves a small volume usable."""
    if f.wal_room is not None:
        return f.wal_room
    return ROOM if f.pg.wal_volume is None else min(ROOM, f.pg.wal_volume // 4)


def _heard(f: Facts, site: str) -> list[DispatcherRecord]:
    return [entry.record for entry in f.cluster.dispatchers.values() if entry.record.site == site]


def _lacks_dispatchers(
    f: Facts, site: str, live: str, here: Sequence[DispatcherRecord], there: Sequence[DispatcherRecord]
) -> Iterator[str]:
    carry, could = sum(d.ready for d in here), sum(d.ready for d in there)
    known = {*f.dispatchers_of.get(site, ()), *(d.name for d in there)}
    if could >= min(carry, len(known)):
        return
    reasons = {d.name: "; ".join(d.reasons) or "not ready" for d in there if not d.ready}
    silent = dict.fromkeys(known - {d.name for d in there}, "is not heard")
    missing = ", ".join(f"{name}: {why}" for name, why in sorted((reasons | silent).items()))
    yield f"{site} has no room for the load: {could} of its dispatchers are ready, {carry} in {live} ({missing})"


def _lacks_links(
    site: str, live: str, here: Sequence[DispatcherRecord], there: Sequence[DispatcherRecord]
) -> Iterator[str]:
    carry, could = sum(d.links_up for d in here), sum(d.links_up for d in there)
    built = sum(d.links for d in there)
    if could < min(carry, built):
        yield f"{site} has no room for the load: {could} of its {built} carrier links are bound, {carry} in {live}"
