"""Keeps this agent's one lease in etcd, to which its `members/<node>` and, when it leads, `leader` are bound.

The end of the lease is reckoned locally, from *before* the renewal was sent, on a clock that counts through a
suspend. A renewal without an answer changes nothing: the lease may or may not have been prolonged.

The lease's id is kept on disk, so that an agent that was restarted takes the same lease up again; whether that
still makes it the leader is decided by a linearizable read of `leader`, not here. The file knows itself by its inode:
the lease in a copy of it, as of a whole machine's folders, is another agent's, which may live.
"""

from dataclasses import replace
from pathlib import Path

import structlog

from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Etcd, EtcdError
from sitecontrol.leadership.facts import LeaseFacts
from sitecontrol.leadership.timing import RETRY_AFTER
from sitecontrol.settings import FailoverSettings

log = structlog.get_logger()


class Keeper:
    def __init__(self, etcd: Etcd, clock: Clock, settings: FailoverSettings, state_file: Path) -> None:
        self._etcd = etcd
        self._clock = clock
        self._settings = settings
        self._state_file = state_file
        self.lease = LeaseFacts()
        self.heard_at: float | None = None  # when etcd last answered us

    async def run(self) -> None:
        """Renew until cancelled. The lease is not revoked at the end: it is left to whoever restarts us."""
        self.lease = LeaseFacts(id=self._kept_id(), ends_at=self._clock.now())
        while True:
            started = self._clock.now()
            try:
                if self.lease.id:
                    await self._renew()
                else:
                    await self._grant()
            except EtcdError as error:
                log.debug(
                    "lease_not_renewed", error=str(error), ends_in_s=self.lease.ends_at - self._clock.now()
                )
                await self._clock.sleep(RETRY_AFTER)
                continue
            if self.lease.id:
                elapsed = self._clock.now() - started
                await self._clock.sleep(max(0.0, self._settings.renew_every - elapsed))

    async def _renew(self) -> None:
        sent_at = self._clock.now()
        ttl = await self._etcd.keep_alive(self.lease.id)
        self.heard_at = self._clock.now()
        if ttl == 0:
            log.warning("lease_lost", lease=f"{self.lease.id:x}")
            self.lease = LeaseFacts(former=self.lease.id)
        else:
            self.lease = replace(self.lease, ends_at=sent_at + ttl)

    async def _grant(self) -> None:
        sent_at = self._clock.now()
        lease = await self._etcd.grant(self._settings.lease_ttl)
        self.heard_at = self._clock.now()
        self._keep_id(lease)
        self.lease = replace(self.lease, id=lease, ends_at=sent_at + self._settings.lease_ttl)
        log.info("lease_granted", lease=f"{lease:x}", ttl_s=self._settings.lease_ttl)

    def _kept_id(self) -> int:
        try:
            lease, inode = self._state_file.read_text().split()
            return int(lease, 16) if int(inode) == self._state_file.stat().st_ino else 0
        except (OSError, ValueError):
            return 0

    def _keep_id(self, lease: int) -> None:
        fresh = self._state_file.with_suffix(".new")
        fresh.touch()
        fresh.write_text(f"{lease:x} {fresh.stat().st_ino}")
        fresh.replace(self._state_file)
