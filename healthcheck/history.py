"""The last swaps: how each term began, read from `history/` in etcd and kept here for when etcd is lost.

A record that does not decode is left out and counted, never shown.
"""

from collections.abc import Callable

import structlog

from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Etcd, EtcdError
from sitecontrol.records import BadRecord, HistoryEntry
from sitecontrol.view import Snapshot

KEPT = 50
REREAD_EVERY = 30.0

log = structlog.get_logger()


class History:
    """`entries` is newest first. `run` reads again when the term or the swap changed, and now and then."""

    def __init__(self, etcd: Etcd, prefix: str, clock: Clock, snapshot: Callable[[], Snapshot]) -> None:
        self._etcd = etcd
        self._prefix = f"{prefix}history/"
        self._clock = clock
        self._snapshot = snapshot
        self._read_for: tuple[object, ...] | None = None
        self._read_at = 0.0
        self.entries: tuple[HistoryEntry, ...] = ()
        self.bad = 0

    async def refresh(self) -> bool:
        """Read if there may be something new; returns whether `entries` changed. A lost etcd is no error."""
        now = self._clock.now()
        sign = _sign(self._snapshot())
        if sign == self._read_for and now < self._read_at + REREAD_EVERY:
            return False
        try:
            answer = await self._etcd.get_prefix(self._prefix)
        except EtcdError as error:
            log.debug("history_not_read", error=str(error))
            return False
        self._read_for, self._read_at = sign, now
        found: list[HistoryEntry] = []
        bad = 0
        for kv in answer.kvs:
            try:
                found.append(HistoryEntry.decode(kv.value))
            except BadRecord:
                bad += 1
        found.sort(key=lambda e: e.at, reverse=True)
        before, self.entries, self.bad = self.entries, tuple(found[:KEPT]), bad
        return before != self.entries


def _sign(snapshot: Snapshot) -> tuple[object, ...]:
    """Changes whenever an entry may have been added or completed."""
    swap = snapshot.swap.record if snapshot.swap else None
    return (
        snapshot.term.record.term if snapshot.term else None,
        snapshot.leader.create_revision if snapshot.leader else None,
        (swap.id, swap.phase) if swap else None,
        snapshot.sync.mod_revision if snapshot.sync else None,
        snapshot.log_end.number,  # how long a failover took is written once it is over
    )
