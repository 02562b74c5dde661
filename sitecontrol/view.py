"""A live picture of our keys in etcd, followed by watch, for everybody who only needs to *see* who leads.

Seeing is not proof: the picture may be old (`read_at` tells when etcd last spoke). What must not be wrong is
decided by a transaction in etcd, or by the database, which knows its leader.

A watch that hangs, or a member that lags behind, shows an old leader for as long as nobody notices, while all other
calls are answered. Who tells others which site is live has `leader` read as soon as the watch is quiet, and now and
then while it speaks, for a member that lags behind tells old news without a pause (`confirm`).
"""

import asyncio

import structlog

from sitecontrol.belief import believe
from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Etcd, EtcdError, EventKind
from sitecontrol.frozen import replace
from sitecontrol.snapshot import (
    AUDIT,
    Bad,
    Entry,
    LogEnd,
    Snapshot,
    audit_key,
    audit_number,
    leader_revision,
    put,
    read_all,
    remove,
)

__all__ = [
    "AUDIT",
    "Bad",
    "ClusterView",
    "Entry",
    "LogEnd",
    "Snapshot",
    "audit_key",
    "audit_number",
    "put",
    "read_all",
    "remove",
]

log = structlog.get_logger()

QUIET = 0.5  # seconds without news after which `leader` is read; agents write once a second
READ_EVERY = 1.0  # seconds between two reads of `leader`, whatever the watch says
LOOK_EVERY = 0.1


class ClusterView:
    """Follows the prefix for as long as `run` runs; keeps the last picture when etcd is away."""

    def __init__(self, etcd: Etcd, prefix: str, clock: Clock) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._clock = clock
        self._changed = asyncio.Condition()
        self._read = Snapshot()  # as etcd has it
        self.snapshot = Snapshot()  # what is believed of it
        self._leader_read_at: float | None = None

    @property
    def leader_at(self) -> float | None:
        """When etcd last showed that who leads is as in the picture: by news, or by a read. None: never."""
        known = [at for at in (self.snapshot.read_at, self._leader_read_at) if at is not None]
        return max(known, default=None)

    async def run(self) -> None:
        """Read everything, then follow. Ends only by cancellation."""
        while True:
            try:
                answer = await self._etcd.get_prefix(self._prefix)
                await self._replace(read_all(answer, self._prefix))
                async for batch in self._etcd.watch(self._prefix, answer.revision + 1):
                    if batch.reset is not None:
                        await self._replace(read_all(batch.reset, self._prefix))
                        continue
                    snapshot = self._read
                    if batch.revision <= snapshot.revision:
                        continue  # a read that was newer came first: never go back
                    for event in batch.events:
                        if event.kv.mod_revision <= snapshot.revision:
                            continue
                        name = event.kv.key.removeprefix(self._prefix)
                        deleted = event.kind is EventKind.DELETE
                        snapshot = remove(snapshot, name) if deleted else put(snapshot, name, event.kv)
                    await self._replace(replace(snapshot, revision=batch.revision))
            except EtcdError as error:
                log.debug("cluster_view_interrupted", error=str(error))
            await self._clock.sleep(0.2)

    async def refresh(self) -> Snapshot:
        """Read everything by a linearizable read now. Raises EtcdError."""
        answer = await self._etcd.get_prefix(self._prefix)
        if answer.revision >= self.snapshot.revision:
            await self._replace(read_all(answer, self._prefix))
        return self.snapshot

    async def confirm(self) -> None:
        """Ask who leads whenever the watch is quiet, and every READ_EVERY. Ends only by cancellation."""
        read_at = self._clock.now()
        while True:
            await self._clock.sleep(LOOK_EVERY)
            known, now = self.leader_at, self._clock.now()
            if known is None or (now - known < QUIET and now - read_at < READ_EVERY):
                continue
            read_at = now
            try:
                await self.confirm_leader()
            except EtcdError as error:
                log.debug("leader_not_confirmed", error=str(error))

    async def confirm_leader(self) -> None:
        """Read `leader`; when it is not as in the picture, read everything. Raises EtcdError."""
        asked_at = self._clock.now()
        answer = await self._etcd.get(self._prefix + "leader")
        revision = answer.one.mod_revision if answer.one else 0
        if leader_revision(self.snapshot) != revision:
            log.info("watch_lags", revision=self.snapshot.revision, leader_read_at=answer.revision)
            await self.refresh()
        if leader_revision(self.snapshot) == revision:  # else it changed meanwhile, or etcd began anew
            self._leader_read_at = asked_at

    async def changed(self, after: int) -> Snapshot:
        """Wait for a picture with a serial above `after`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.snapshot.serial > after)
            return self.snapshot

    async def _replace(self, read: Snapshot) -> None:
        async with self._changed:
            self._read, before = read, self.snapshot
            believed = believe(before, read)
            self.snapshot = replace(believed, serial=before.serial + 1, read_at=self._clock.now())
            self._changed.notify_all()
