"""Tells the others about this node: keeps `members/<node>` in etcd up to date, bound to the agent's lease.

The key is created only when it is absent, and rewritten only while it is bound to our own lease: so two agents
cannot use one name. A value that is no member's record at all is nobody's, and written over.
"""

from collections.abc import Callable

import structlog

from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Compare, Etcd, EtcdError, Put, Target
from sitecontrol.records import Member

log = structlog.get_logger()

EVERY = 1.0  # seconds between two writes when nothing but positions changed
LOOK_EVERY = 0.1
RETRY_AFTER = 0.5


class Publisher:
    """`told` gives what is told at once when it has changed, and the lease to bind it to (0: none yet); `describe` the
    whole record of now; `bad` the revision of a value under our key that is not believed (None: there is none).
    """

    def __init__(
        self,
        etcd: Etcd,
        key: str,
        told: Callable[[], tuple[object, int]],
        describe: Callable[[], Member],
        bad: Callable[[], int | None],
        clock: Clock,
    ) -> None:
        self._etcd = etcd
        self._key = key
        self._told = told
        self._describe = describe
        self._bad = bad
        self._clock = clock

    async def run(self) -> None:
        written: tuple[object, int] | None = None
        written_at = 0.0
        while True:
            await self._clock.sleep(LOOK_EVERY)
            told = _, lease = self._told()
            due = self._clock.now() - written_at >= EVERY or self._bad() is not None
            if lease and (due or told != written) and await self.write(self._describe(), lease):
                written, written_at = told, self._clock.now()

    async def write(self, record: Member, lease: int) -> bool:
        """Whether it was written, and was ours to write."""
        put = Put(key=self._key, value=record.encode(), lease=lease)
        ours = Compare(key=self._key, target=Target.LEASE, to=lease)
        absent_or_bad = Compare(key=self._key, target=Target.MOD_REVISION, to=self._bad() or 0)
        try:
            if (await self._etcd.txn((ours,), (put,))).succeeded:
                return True
            if (await self._etcd.txn((absent_or_bad,), (put,))).succeeded:
                return True
        except EtcdError as error:
            log.debug("member_not_written", error=str(error))
            return False
        log.warning(
            "member_name_taken",
            key=self._key,
            cure="our former lease runs out in a moment; if this stays, another agent uses this node's name",
        )
        await self._clock.sleep(RETRY_AFTER)
        return False
