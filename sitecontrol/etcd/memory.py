# ruff: noqa: ARG002  (the twin takes every argument that its model takes)
"""The twin of `client.GrpcEtcd` in memory, for tests and simulations, with the faults that a real etcd has.

Faults are of this client, not of the store behind it: another client of the same store goes on unharmed, as
the other site does when only we are cut off. `fail` arms faults for the next writing calls:

- LOST: the request never arrived. Unknown to the caller, never applied.
- APPLIED: it was applied, the answer was lost. Unknown to the caller.
- LATE: a hung member holds it. Unknown to the caller, applied when the test says so (`wake`).

`cut` makes every call unknown and watches silent, `mend` ends that; watches then go on where they were.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from typing import TypeVar

from sitecontrol.etcd.api import (
    Compare,
    Delete,
    EtcdError,
    EtcdUnknown,
    MemberStatus,
    Put,
    Range,
    TxnResult,
    WatchBatch,
)
from sitecontrol.etcd.memory_store import MemoryStore

T = TypeVar("T")


class Fault(Enum):
    LOST = auto()  # never applied
    APPLIED = auto()  # applied, but the answer is lost
    LATE = auto()  # applied when the hung member wakes


class MemoryEtcd:
    """Implements `api.Etcd` on a `MemoryStore`."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self._armed: deque[Fault] = deque()
        self._held: list[Callable[[], object]] = []
        self._reachable = True
        self._closed = False
        self._watches: set[asyncio.Event] = set()

    # Faults

    def fail(self, *faults: Fault) -> None:
        """The next writing calls (put, delete, txn, grant, revoke) meet these faults, in this order."""
        self._armed.extend(faults)

    def wake(self) -> None:
        """The hung member wakes and applies what it was sent (LATE), if that can still be applied."""
        held, self._held = self._held, []
        for apply in held:
            with suppress(EtcdError):  # the caller is long gone: nobody hears of a refusal
                apply()

    def cut(self) -> None:
        self._reachable = False

    def mend(self) -> None:
        self._reachable = True
        self._wake_watches()

    # Calls

    @property
    def strangers(self) -> Sequence[str]:
        return ()

    async def get(self, key: str, *, serializable: bool = False, timeout: float | None = None) -> Range:
        return await self._ask(partial(self.store.get, key))

    async def get_prefix(
        self, prefix: str, *, serializable: bool = False, timeout: float | None = None
    ) -> Range:
        return await self._ask(partial(self.store.get_prefix, prefix))

    async def put(self, key: str, value: bytes, *, lease: int = 0, timeout: float | None = None) -> int:
        return (await self.txn([], [Put(key=key, value=value, lease=lease)])).revision

    async def delete(self, key: str, *, timeout: float | None = None) -> int:
        return (await self.txn([], [Delete(key=key)])).revision

    async def txn(
        self,
        compares: Sequence[Compare],
        puts_and_deletes: Sequence[Put | Delete],
        *,
        read_on_failure: bool = False,
        timeout: float | None = None,
    ) -> TxnResult:
        step = partial(
            self.store.txn, tuple(compares), tuple(puts_and_deletes), read_on_failure=read_on_failure
        )
        return await self._change(step)

    async def grant(self, ttl: int, *, timeout: float | None = None) -> int:
        return await self._change(partial(self.store.grant, ttl))

    async def keep_alive(self, lease: int, *, timeout: float | None = None) -> int:
        return await self._ask(partial(self.store.keep_alive, lease))

    async def revoke(self, lease: int, *, timeout: float | None = None) -> None:
        await self._change(partial(self.store.revoke, lease))

    async def members(self, *, timeout: float | None = None) -> Sequence[MemberStatus]:
        await asyncio.sleep(0)
        return self.store.statuses() if self._reachable else ()

    async def move_leader(self, member_id: int, *, timeout: float | None = None) -> None:
        await self._ask(partial(self.store.move_leader, member_id))

    async def aclose(self) -> None:
        self._closed = True
        self._wake_watches()

    async def _ask(self, step: Callable[[], T]) -> T:
        await asyncio.sleep(0)  # let others in, as any call to a real etcd does
        self._check_reachable()
        return step()

    async def _change(self, step: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        self._check_reachable()
        if not self._armed:
            return step()
        fault = self._armed.popleft()
        if fault is Fault.APPLIED:
            step()
        elif fault is Fault.LATE:
            self._held.append(step)
        raise EtcdUnknown(f"no answer ({fault.name})")

    def _check_reachable(self) -> None:
        if self._closed:
            raise EtcdUnknown("this etcd client is closed; nothing was sent")
        if not self._reachable:
            raise EtcdUnknown("etcd cannot be reached")

    # Watching

    async def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch, None]:
        position = start_revision
        changed = asyncio.Event()
        unlisten = self.store.listen(changed.set)
        self._watches.add(changed)
        try:
            while not self._closed:
                changed.clear()
                batch = self._batch(prefix, position) if self._reachable else None
                if batch is None:
                    await self._change_or_expiry(changed)
                    continue
                position = batch.revision + 1
                yield batch
        finally:
            unlisten()
            self._watches.discard(changed)

    def _batch(self, prefix: str, position: int) -> WatchBatch | None:
        events = self.store.events(prefix, position)
        if events is None:
            now = self.store.get_prefix(prefix)
            return WatchBatch(revision=now.revision, reset=now)
        return WatchBatch(revision=events[-1].kv.mod_revision, events=events) if events else None

    async def _change_or_expiry(self, changed: asyncio.Event) -> None:
        """Until something changed, or a lease may have run out, which nobody would tell us of."""
        expiry = self.store.next_expiry
        if expiry is None or not self._reachable:
            await changed.wait()
            return
        alarm = asyncio.create_task(self._at(expiry, changed))
        try:
            await changed.wait()
        finally:
            alarm.cancel()
            await asyncio.gather(alarm, return_exceptions=True)

    async def _at(self, expiry: float, changed: asyncio.Event) -> None:
        clock = self.store.clock
        await clock.sleep(max(0.0, expiry - clock.now()))
        changed.set()

    def _wake_watches(self) -> None:
        for changed in self._watches:
            changed.set()
