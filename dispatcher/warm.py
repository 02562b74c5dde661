"""Connections to one node, kept warm: dialled ahead of need, dialled again when lost.

A `Slot` keeps one connection standing for as long as it runs. A `Pool` lends the slots of one lane, one
statement at a time each. A `WarmNode` is all lanes of one node, and one slot more on which the node is asked
how it is. Nothing here knows who leads.

Rules:

* A connection that ended in doubt (an unknown commit, a cancelled caller) is thrown away, never lent again:
  its statement may still be running.
* Whoever waits for a connection can be sent away (`interrupt`) to look again who leads.
* Every node is dialled, also one that is down: backoff with jitter, short for a node that is needed now. While
  a node is down one slot, the scout, does the dialling, and calls the others as soon as it gets through. At a node
  that is not needed they come by and by: all at once they would take the processors from production, which is just
  about to reopen elsewhere.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from random import uniform
from typing import Protocol

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from dispatcher.owned import nap
from dispatcher.store import Store
from sitecontrol.settings_types import Name

log = structlog.get_logger()

BACKOFF_S = 1.0  # the longest pause between two attempts to reach a node
NEEDED_BACKOFF_S = 0.2  # the same for a node that is needed now
CALLED_BACKOFF_S = 3.0  # the same for slots that are called when the node can be reached, and is needed


class Connection(Protocol):
    """A store on one standing connection."""

    @property
    def store(self) -> Store: ...

    @property
    def closed(self) -> bool:
        """Whether it is gone, as far as this end knows."""
        ...

    def terminate(self) -> None:
        """Cut it now. A statement in flight fails with CommitUnknown or a lost connection."""
        ...

    async def aclose(self) -> None: ...


Dial = Callable[[Name], Awaitable[Connection]]  # raises whatever went wrong; is bounded in time by itself


class Lane(Enum):
    """Kinds of work that never wait for one another."""

    INTAKE = "intake"  # groups of new messages
    READ = "read"  # look-ups, lists, cancels
    CLAIM = "claim"  # claims, and what the engine asks about them
    SETTLE = "settle"  # results, receipts, replies
    WEBHOOK = "webhook"  # what is posted to accounts


class Slot:
    """Keeps one connection to `node` standing. `on_change` is called when one came or went."""

    def __init__(
        self, node: Name, dial: Dial, on_change: Callable[["Slot"], None], *, scouts: bool = False
    ) -> None:
        self._node = node
        self._dial = dial
        self._on_change = on_change
        self._lost = asyncio.Event()
        self._hurry = asyncio.Event()
        self._scouts = scouts  # one slot of each node finds out, and says, whether it can be reached
        self._complaint = ""
        longest = BACKOFF_S if scouts else CALLED_BACKOFF_S
        self._pause = wait_random_exponential(multiplier=longest / 10, max=longest)
        self.needed = False  # shortens the backoff
        self.unreachable = False  # the scout found nobody: wait to be called
        self.connection: Connection | None = None

    async def keep(self) -> None:
        """Dial, wait until the connection is lost, dial again. Ends only by cancellation."""
        try:
            while True:
                async for attempt in AsyncRetrying(
                    wait=self._backoff,
                    sleep=self._nap,
                    retry=retry_if_exception_type(Exception),
                    after=self._complain,
                ):
                    with attempt:
                        self._lost.clear()
                        self.connection = await self._dial(self._node)
                self._complaint = ""
                self._on_change(self)
                await self._lost.wait()
                if self.unreachable:
                    await self._nap(uniform(CALLED_BACKOFF_S / 2, CALLED_BACKOFF_S))  # noqa: S311 # spreads load
        finally:
            if self.connection is not None:
                await self.connection.aclose()

    def drop(self) -> None:
        """Cut the connection and dial a new one."""
        if self.connection is None:
            return
        self.connection.terminate()
        self.connection = None
        self._lost.set()
        self._on_change(self)

    def hurry(self) -> None:
        """Dial now, if it is pausing between two attempts."""
        self._hurry.set()

    def _backoff(self, state: RetryCallState) -> float:
        pause = self._pause(state)
        if not (self.needed and self._scouts):
            return pause
        # Not a bare bound: most pauses would be just that one, and all dispatchers dial in step.
        return min(pause, uniform(NEEDED_BACKOFF_S / 2, NEEDED_BACKOFF_S))  # noqa: S311 # spreads load

    async def _nap(self, seconds: float) -> None:
        self._hurry.clear()
        await nap(self._hurry, seconds)

    def _complain(self, state: RetryCallState) -> None:
        """Say why the node cannot be reached: once for each reason, not for each attempt."""
        error = state.outcome.exception() if state.outcome is not None else None
        complaint = f"{type(error).__name__}: {error}"
        if self._scouts and complaint != self._complaint:
            self._complaint = complaint
            log.warning("connection_failed", node=self._node, error=complaint)


@dataclass(frozen=True, kw_only=True)
class Loan:
    slot: Slot
    connection: Connection  # the slot may hold another by the time the loan ends


class Pool:
    """Lends the connections of one lane at one node, first come first served."""

    def __init__(self, node: Name, dial: Dial, size: int) -> None:
        self.slots = tuple(Slot(node, dial, self._changed) for _ in range(size))
        self._idle: deque[Slot] = deque()
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self.busy: set[Slot] = set()

    async def take(self) -> Loan | None:
        """A standing connection, to be given back; None when the caller was sent to look again."""
        while True:
            while self._idle:
                slot = self._idle.popleft()
                connection = slot.connection
                if connection is not None and not connection.closed:
                    self.busy.add(slot)
                    return Loan(slot=slot, connection=connection)
                slot.drop()
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                if not await waiter:
                    return None
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_one()  # what we were woken for is now another's
                raise

    def give_back(self, loan: Loan) -> None:
        slot = loan.slot
        self.busy.discard(slot)
        if slot.connection is loan.connection and loan.connection.closed:
            slot.drop()
        elif slot.connection is not None:
            self._lend(slot)

    def interrupt(self) -> None:
        """Send everybody who waits away, to look again who leads."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(False)

    def sweep(self) -> None:
        """Drop idle connections that the other end has closed, so that they are dialled again."""
        for slot in tuple(self._idle):
            if slot.connection is not None and slot.connection.closed:
                slot.drop()

    def _changed(self, slot: Slot) -> None:
        if slot.connection is None:
            if slot in self._idle:
                self._idle.remove(slot)
        elif slot not in self.busy:
            self._lend(slot)

    def _lend(self, slot: Slot) -> None:
        self._idle.append(slot)
        self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(True)
                return


class WarmNode:
    """All connections to one node: a pool for each lane, and `watch`, on which it is asked how it is."""

    def __init__(
        self, name: Name, dial: Dial, sizes: Mapping[Lane, int], on_watch: Callable[[], None]
    ) -> None:
        self.name = name
        self.lanes = {lane: Pool(name, dial, size) for lane, size in sizes.items()}
        self.watch = Slot(name, dial, self._scouted, scouts=True)
        self._on_watch = on_watch

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (self.watch, *(slot for pool in self.lanes.values() for slot in pool.slots))

    def need(self, *, needed: bool) -> None:
        """Whether this node leads: then its lost connections are dialled again without long pauses."""
        for slot in self.slots:
            slot.needed = needed
            if needed:
                slot.hurry()

    def _scouted(self, watch: Slot) -> None:
        _, *called = self.slots
        for slot in called:
            slot.unreachable = watch.connection is None
            if watch.connection is not None and slot.needed:
                slot.hurry()
        self._on_watch()

    def abandon(self) -> None:
        """Another leads now: cut what is in flight here (it may hang for ever), send the waiting away."""
        for pool in self.lanes.values():
            for slot in tuple(pool.busy):
                slot.drop()
            pool.interrupt()

    def drop(self) -> None:
        """It no longer answers: cut everything and dial anew."""
        for slot in self.slots:
            slot.drop()

    def sweep(self) -> None:
        for pool in self.lanes.values():
            pool.sweep()
