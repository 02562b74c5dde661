"""Accepts messages: those that arrive together are committed together, and each gets its own answer.

`grouping` decides when a group leaves; here are the timer, the commits and the waiters.

Rules:

* A waiter is told "accepted" only after the commit of the group that held its row (or the row it rides
  with) is known; everything else is told as what it is: refused, or unavailable (it may be stored or not).
* A commit belongs to nobody's request: a client that hangs up takes back nothing, and nobody else notices.
* One bad row fails alone. A group that the database refuses for a row's sake is halved until that row stands
  alone; ids stay the same, so that rows which did get in are found and not doubled.
* What waits is bounded, and nothing waits longer than `hold_for` for its turn.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar
from uuid import UUID

import asyncpg
import structlog

from dispatcher import grouping
from dispatcher.grouping import Pace, Queues, Traffic
from dispatcher.leadership import LANES, Lane, LeadershipState, Unavailable
from dispatcher.model import Accepted, Group, NewMessage, State, StoredDurability, Verdict
from dispatcher.store import DispatcherError, Store
from sitecontrol.clock import Clock
from sitecontrol.settings import DispatcherSettings

log = structlog.get_logger()

T = TypeVar("T")

LEAST_HOLD_S: Final = 0.05  # what is left for a group whose oldest row has waited nearly all of its time
RETRY_AFTER_S: Final = 1.0
ROW_FAULTS: Final = ("22", "23")  # SQLSTATE classes: data exception, integrity constraint violation


class LeadershipLike(Protocol):
    """What is asked of `leadership.Leadership`."""

    @property
    def state(self) -> LeadershipState: ...

    async def run(
        self,
        op: Callable[[Store, int], Awaitable[T]],
        *,
        lane: Lane = Lane.INTAKE,
        hold_for: float | None = None,
    ) -> T: ...


class RowRefused(DispatcherError):  # it is an answer to one row
    """The database refuses this one message; repeating it will not help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Acknowledgement:
    """The promise, and under which leadership it was given."""

    id: UUID  # of the first message when it is a duplicate
    verdict: Verdict
    state: State
    durability: StoredDurability
    term: int
    live_site: str | None


Answer = Acknowledgement | Unavailable | RowRefused


@dataclass(eq=False, slots=True)
class Waiting:
    """A row on its way, who waits for it, and the rows with the same reference that ride with it."""

    row: NewMessage
    since: float
    answer: asyncio.Future[Answer]
    bulk: bool
    riders: list["Waiting"] = field(default_factory=list)
    booked: bool = True  # counted, and owed an answer

    def tell(self, answer: Answer) -> None:
        if not self.answer.done():  # else its client hung up
            self.answer.set_result(answer)


@dataclass(frozen=True, kw_only=True)
class Committed:
    group: Group
    term: int
    live_site: str | None


class Intake:
    """Started by nothing, stopped by `stop`: work begins with the first message."""

    def __init__(
        self,
        leadership: LeadershipLike,
        settings: DispatcherSettings,
        clock: Clock,
        *,
        groups_in_flight: int = LANES[Lane.INTAKE],
    ) -> None:
        self._leadership = leadership
        self._clock = clock
        self._hold_for = settings.hold_for
        self._most = settings.hold_max
        # Bulk may fill half of the room, so that it never turns single requests away.
        self._most_bulk = min(settings.hold_max // 2, 4 * groups_in_flight * settings.group_max) or 1
        self._pace = Pace(
            wait_s=settings.group_wait_ms / 1_000, max_rows=settings.group_max, in_flight=groups_in_flight
        )
        self._traffic = Traffic()
        self._queues: Queues[Waiting] = Queues(deque(), deque())
        self._by_reference: dict[tuple[int, str], Waiting] = {}
        self._here = 0  # waiting or under way, riders included
        self._bulk_here = 0
        self._bulk_room = asyncio.Event()
        self._bulk_room.set()
        self._timer: asyncio.Handle | None = None
        self._groups: set[asyncio.Task[None]] = set()
        self._stopped = False

    @property
    def waiting(self) -> int:
        """Messages that have no answer yet."""
        return self._here

    async def accept(self, row: NewMessage) -> Acknowledgement:
        """Store one message with its group. Raises Unavailable or RowRefused."""
        if self._here >= self._most:
            raise Unavailable(RETRY_AFTER_S, f"{self._here} messages wait already")
        return settled(await self._enter(row, bulk=False).answer)

    async def offer(self, row: NewMessage) -> asyncio.Future[Answer]:
        """Take one line of a bulk request once there is room for it; the answer comes by the future.

        A refusal is the future's result, for `settled` to raise: one that nobody looks at is no error.
        """
        while self._bulk_here >= self._most_bulk or self._here >= self._most:
            self._bulk_room.clear()
            await self._bulk_room.wait()
        return self._enter(row, bulk=True).answer

    async def stop(self, within_s: float = 1.0) -> None:
        """Let the groups that are under way come back for a while, then answer everybody who still waits."""
        self._stopped = True
        self._turn_away()
        groups = set(self._groups)
        if groups:
            _, late = await asyncio.wait(groups, timeout=within_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*groups, return_exceptions=True)
        self._turn_away()  # riders that were queued again meanwhile
        if self._timer is not None:
            self._timer.cancel()

    def _turn_away(self) -> None:
        self._answer_all(
            self._queues.take(len(self._queues)), Unavailable(RETRY_AFTER_S, "this dispatcher stops")
        )

    # -- in

    def _enter(self, row: NewMessage, *, bulk: bool) -> Waiting:
        if self._stopped:
            raise Unavailable(RETRY_AFTER_S, "this dispatcher stops")
        waiting = Waiting(row, self._clock.now(), asyncio.get_running_loop().create_future(), bulk)
        self._here += 1
        self._bulk_here += bulk
        self._queue(waiting)
        return waiting

    def _queue(self, waiting: Waiting) -> None:
        row = waiting.row
        if row.reference is not None:
            key = (row.account_id, row.reference)
            if (first := self._by_reference.get(key)) is not None:
                first.riders.append(waiting)
                return
            self._by_reference[key] = waiting
        (self._queues.bulk if waiting.bulk else self._queues.single).append(waiting)
        first_single = not waiting.bulk and len(self._queues.single) == 1
        if self._timer is None or first_single or len(self._queues) == self._pace.max_rows:
            self._plan()

    def _plan(self) -> None:
        """Set the timer for the next departure, or send the group now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock.now()
        single, bulk = map(len, self._queues.both())
        at = grouping.departure(self._pace, self._traffic, now=now, single=single, bulk=bulk)
        loop = asyncio.get_running_loop()
        if at is None:
            if heads := [queue[0].since for queue in self._queues.both() if queue]:
                self._timer = loop.call_later(max(0, min(heads) + self._hold_for - now), self._expire)
            return
        # Even "now" waits for the end of this turn of the loop: what arrived with us leaves with us.
        self._timer = loop.call_soon(self._leave) if at <= now else loop.call_later(at - now, self._leave)

    def _leave(self) -> None:
        self._timer = None
        group = self._queues.take(self._pace.max_rows)
        if group:
            group.sort(key=lambda waiting: grouping.lock_order(waiting.row))
            self._traffic = grouping.left(self._traffic, now=self._clock.now())
            task = asyncio.get_running_loop().create_task(self._carry(group))
            self._groups.add(task)
            task.add_done_callback(self._groups.discard)
        self._plan()

    def _expire(self) -> None:
        """Answer those who waited for their turn as long as they may."""
        self._timer = None
        late = self._clock.now() - self._hold_for
        for queue in self._queues.both():
            while queue and queue[0].since <= late:
                expired = queue.popleft()
                self._answer(
                    expired, Unavailable(RETRY_AFTER_S, "no group came back in time to take this message")
                )
        self._plan()

    # -- through

    async def _carry(self, group: list[Waiting]) -> None:
        """Commit a group and answer everybody in it, whatever happens."""
        began = self._clock.now()
        took_s = None
        failure = Unavailable(RETRY_AFTER_S, "this dispatcher stops")
        try:
            if await self._commit(group, deadline=min(w.since for w in group) + self._hold_for):
                took_s = self._clock.now() - began
        except Exception as error:
            log.exception("group_failed", rows=len(group))
            failure = Unavailable(RETRY_AFTER_S, f"the group failed: {type(error).__name__}")
        finally:
            for waiting in group:
                if waiting.booked:
                    self._answer(waiting, failure)
            self._traffic = grouping.returned(self._traffic, now=self._clock.now(), took_s=took_s)
            self._plan()

    async def _commit(self, rows: Sequence[Waiting], *, deadline: float) -> bool:
        """Commit these rows and answer them; halve them as long as one of them is refused."""
        hold_for = max(LEAST_HOLD_S, deadline - self._clock.now())
        try:
            committed = await self._store([waiting.row for waiting in rows], hold_for)
        except Unavailable as unavailable:
            self._answer_all(rows, unavailable)
            return False
        except asyncpg.PostgresError as error:
            if not is_row_fault(error):
                log.error("intake_failed", rows=len(rows), sqlstate=error.sqlstate, error=str(error))  # noqa: TRY400 # the database's words say it
                self._answer_all(rows, Unavailable(RETRY_AFTER_S, "the database cannot take messages now"))
            elif len(rows) == 1:
                log.warning("row_refused", message_id=str(rows[0].row.id), sqlstate=error.sqlstate)
                self._answer_refused(rows[0], RowRefused(f"the database refuses it ({error.sqlstate})"))
            else:
                middle = len(rows) // 2
                await self._commit(rows[:middle], deadline=deadline)
                await self._commit(rows[middle:], deadline=deadline)
            return False
        for waiting, fate in zip(rows, committed.group.rows, strict=True):
            self._answer_accepted(waiting, grouping.own(waiting.row, fate), committed)
        return True

    async def _store(self, rows: Sequence[NewMessage], hold_for: float) -> Committed:
        async def accept(store: Store, term: int) -> Committed:
            told = self._leadership.state  # before the commit: production may move while it is under way
            group = await store.accept(term, rows)
            return Committed(
                group=group, term=term, live_site=told.leader_site if told.term == term else None
            )

        return await self._leadership.run(accept, lane=Lane.INTAKE, hold_for=hold_for)

    # -- out

    def _answer_accepted(self, waiting: Waiting, fate: Accepted, committed: Committed) -> None:
        riders = self._forget(waiting)
        waiting.tell(acknowledge(fate, committed))
        for rider in riders:
            shared = grouping.ride(waiting.row, fate, rider.row)
            if shared is None:
                self._queue(rider)  # its turn comes with a later group
            else:
                self._forget(rider)
                rider.tell(acknowledge(shared, committed))

    def _answer_refused(self, waiting: Waiting, refused: RowRefused) -> None:
        """A row is refused for its content; who rides with it may have other content, and gets a turn."""
        riders = self._forget(waiting)
        waiting.tell(refused)
        for rider in riders:
            self._queue(rider)

    def _answer_all(self, rows: Sequence[Waiting], answer: Answer) -> None:
        for waiting in rows:
            self._answer(waiting, answer)

    def _answer(self, waiting: Waiting, answer: Answer) -> None:
        """Answer a row, and those who ride with it, with the same refusal."""
        riders = self._forget(waiting)
        waiting.tell(answer)
        for rider in riders:
            self._forget(rider)
            rider.tell(answer)

    def _forget(self, waiting: Waiting) -> list[Waiting]:
        """Take a row off the books; returns who rode with it."""
        waiting.booked = False
        self._here -= 1
        self._bulk_here -= waiting.bulk
        if not self._bulk_room.is_set() and self._bulk_here < self._most_bulk:
            self._bulk_room.set()
        row = waiting.row
        if (
            row.reference is not None
            and self._by_reference.get(key := (row.account_id, row.reference)) is waiting
        ):
            del self._by_reference[key]
        riders, waiting.riders = waiting.riders, []
        return riders


def acknowledge(fate: Accepted, committed: Committed) -> Acknowledgement:
    return Acknowledgement(
        id=fate.id,
        verdict=fate.verdict,
        state=fate.state,
        durability=committed.group.durability,
        term=committed.term,
        live_site=committed.live_site,
    )


def settled(answer: Answer) -> Acknowledgement:
    """The acknowledgement, or the refusal raised."""
    if isinstance(answer, Acknowledgement):
        return answer
    # A fresh one each time: an exception raised by a thousand waiters would carry all their tracebacks.
    if isinstance(answer, Unavailable):
        raise Unavailable(answer.retry_after_s, str(answer))
    raise RowRefused(str(answer))


def is_row_fault(error: asyncpg.PostgresError) -> bool:
    """Whether the database refuses a row for what is in it, rather than all rows for its own sake."""
    return (error.sqlstate or "")[:2] in ROW_FAULTS
