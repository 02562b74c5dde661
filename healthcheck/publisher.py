"""Publishes what this place observes at `observations/<place>`, bound to a lease of its own.

Rules.
- Whatever etcd does, nobody here waits for it: the page and the probes go on. A lost etcd is tried again
  every second, a lost lease is granted anew.
- A put wakes every agent and every dispatcher, so the record is put when it says something new, and otherwise
  only often enough that its time shows a living observer.
- Stopping revokes the lease: the observation disappears at once instead of growing old.
"""

import asyncio
from contextlib import suppress

import structlog

from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Etcd, EtcdError, LeaseLost
from sitecontrol.records import Observation

LEASE_TTL = 5
RENEW_EVERY = 1.5
REPEAT_EVERY = 10.0
RETRY_AFTER = 1.0

log = structlog.get_logger()


class Publisher:
    """`offer` gives it the newest observation; `run` does the rest until cancelled."""

    def __init__(self, etcd: Etcd, key: str, clock: Clock) -> None:
        self._etcd = etcd
        self._key = key
        self._clock = clock
        self._offered: Observation | None = None
        self._news = asyncio.Event()
        self._lease = 0
        self._put: Observation | None = None
        self._put_at = 0.0
        self.published = False  # whether etcd holds a record of ours, as far as known

    def offer(self, observation: Observation) -> None:
        if self._offered is None or not _same(self._offered, observation):
            self._news.set()
        self._offered = observation

    async def run(self) -> None:
        while True:
            try:
                await self._once()
                pause = RENEW_EVERY
            except EtcdError as error:
                self._tell(published=False, why=str(error))
                pause = RETRY_AFTER
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    async def aclose(self) -> None:
        if self._lease:
            with suppress(EtcdError, TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._etcd.revoke(self._lease)
            self._lease = 0

    async def _once(self) -> None:
        """Keep the lease, and put what is new. Raises EtcdError."""
        self._news.clear()
        if self._lease and await self._etcd.keep_alive(self._lease) <= 0:
            self._forget_lease()
        if self._offered is None:
            return
        if not self._lease:
            self._lease = await self._etcd.grant(LEASE_TTL)
        now = self._clock.now()
        if self._put is not None and _same(self._put, self._offered) and now < self._put_at + REPEAT_EVERY:
            return
        offered = self._offered
        try:
            await self._etcd.put(self._key, offered.encode(), lease=self._lease)
        except LeaseLost:
            self._forget_lease()
            raise
        except EtcdError:
            self._put = None  # unknown whether it was applied: put again
            raise
        self._put, self._put_at = offered, now
        self._tell(published=True, why="")

    def _forget_lease(self) -> None:
        self._lease = 0
        self._put = None

    def _tell(self, *, published: bool, why: str) -> None:
        if published != self.published:
            self.published = published
            log.info("observation_published" if published else "observation_not_published", why=why)


def _same(one: Observation, other: Observation) -> bool:
    """Whether both say the same, their times apart."""
    return one.model_copy(update={"at": other.at}) == other
