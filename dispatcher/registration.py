"""Tells the cluster in etcd that this dispatcher is here, and during a swap that it has stopped.

The record is bound to a lease of its own and says nothing that anybody's safety rests on: a lease that is
lost, or an etcd that is away, is met by registering anew. While a swap waits for us the record is written at
once when the last answer has come, since every client's pause waits for it.
"""

import asyncio
from collections.abc import Callable

import structlog

from dispatcher.owned import Tasks, nap
from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Etcd, EtcdError
from sitecontrol.records import DispatcherRecord

log = structlog.get_logger()

LEASE_S = 5
RENEW_EVERY_S = 1.5
REPEAT_EVERY_S = 10.0
LOOK_EVERY_S = 0.02  # while a swap waits for our word
AGAIN_AFTER_S = 0.3
LEAVE_WITHIN_S = 0.3


class Registration:
    """Keeps `key` at what `describe` says. `wake` makes it look, `urgent` says that somebody waits."""

    def __init__(
        self,
        *,
        etcd: Etcd,
        key: str,
        describe: Callable[[], DispatcherRecord],
        urgent: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._etcd = etcd
        self._key = key
        self._describe = describe
        self._urgent = urgent
        self._clock = clock
        self._lease = 0
        self.wake = asyncio.Event()
        self.tasks = Tasks("registration")

    async def start(self) -> None:
        self.tasks.spawn(self._forever(), "register")

    async def stop(self) -> None:
        """Withdraw the record, if etcd takes the word for it in time; else the lease does it."""
        await self.tasks.stop()
        if self._lease:
            try:
                async with asyncio.timeout(LEAVE_WITHIN_S):
                    await self._etcd.revoke(self._lease)
            except (EtcdError, TimeoutError) as error:
                log.debug("registration_left_behind", error=str(error))
            self._lease = 0

    async def _forever(self) -> None:
        while True:
            try:
                self._lease = await self._etcd.grant(LEASE_S)
                await self._keep(self._lease)
            except EtcdError as error:
                log.debug("registration_interrupted", error=str(error))
            await self._clock.sleep(AGAIN_AFTER_S)

    async def _keep(self, lease: int) -> None:
        """Write every change and prolong the lease, until it is lost."""
        written: DispatcherRecord | None = None
        renewed_at = written_at = self._clock.now()
        while True:
            self.wake.clear()
            record = self._describe()
            # Again and again also without news: somebody else may have written over it.
            if record != written or self._clock.now() - written_at >= REPEAT_EVERY_S:
                await self._etcd.put(self._key, record.encode(), lease=lease)
                written, written_at = record, self._clock.now()
            if self._clock.now() - renewed_at >= RENEW_EVERY_S:
                renewed_at = self._clock.now()
                left = await self._etcd.keep_alive(lease)
                if left <= 0:
                    log.info("registration_lost")
                    return
            due = renewed_at + RENEW_EVERY_S - self._clock.now()
            await nap(self.wake, LOOK_EVERY_S if self._urgent() else max(due, LOOK_EVERY_S))
