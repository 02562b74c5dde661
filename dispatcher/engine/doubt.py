"""Ends claims that nobody will settle any more, and puts into the queue what has become due.

Rules:

* A claim is given up only when it was seen open for its whole length and a margin *on our own clock*: its
  deadline was counted from before we first saw it, so by then its dispatcher writes nothing more. What is
  still unsettled of it becomes in doubt.
* A claim of this very process that it was never told of (its commit was unknown) is returned instead: not one
  of its segments can have been written. The identity in a claim is unique to one life of a process, so the
  claims of a predecessor by the same name are waited out like anybody's.
* A leader whose wall clock disagrees with both other places expires nothing and releases nothing until it agrees
  again (`clocks`). Claims are ended all the same, by lengths that are counted on our own clock, and so is the upkeep
  that depends on none.
* Claims are given up by dispatchers that may send; that several do it at once is harmless. One's own lost
  claims are returned from either site: the leader may have moved with their answers on the way.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import asyncpg
import structlog

from dispatcher.engine.sender import Sender
from dispatcher.leadership import Lane, Leadership, Unavailable
from dispatcher.metrics import Metrics
from dispatcher.model import OpenClaim
from dispatcher.owned import Tasks
from dispatcher.store import Store
from sitecontrol.clock import Clock
from sitecontrol.settings import DispatcherSettings
from sitecontrol.settings_types import Name

log = structlog.get_logger()

EVERY_S = 0.5
MARGIN_S = 0.5  # more than two clocks' drift over a claim's length, and more than one late write
BATCH_MAX = 1_000
BATCHES_AT_ONCE = 20  # of what is due, before the claims are looked at again


# By a claim's number and its term: a number that a lost leader gave out may be given out again by the next.
Seen = Mapping[tuple[int, int], float]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to be done with the open claims, and since when each has been seen."""

    seen: Seen
    give_up: tuple[int, ...]
    give_back: tuple[int, ...]


def judge(
    claims: Sequence[OpenClaim],
    *,
    seen: Seen,
    issued: Collection[int],
    identity: str,
    now: float,
) -> Verdict:
    """`seen`: when each was first seen open; `issued`: the claims that reached this process."""
    first = {(c.claim_id, c.term): seen.get((c.claim_id, c.term), now) for c in claims}
    lost = {c.claim_id for c in claims if c.dispatcher == identity and c.claim_id not in issued}
    return Verdict(
        seen=first,
        give_up=tuple(
            c.claim_id
            for c in claims
            if c.claim_id not in lost and now - first[c.claim_id, c.term] >= c.claim_for_s + MARGIN_S
        ),
        give_back=tuple(sorted(lost)),
    )


class Doubt:
    def __init__(
        self,
        *,
        leadership: Leadership,
        sender: Sender,
        identity: str,
        settings: DispatcherSettings,
        clock_agrees: Callable[[Name | None], bool],  # whether the wall clock of that node may be believed
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._clock_agrees = clock_agrees
        self._leadership = leadership
        self._sender = sender
        self._identity = identity
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._seen: Seen = {}
        self.tasks = Tasks("doubt")

    async def start(self) -> None:
        self.tasks.spawn(self._forever(), "doubt")

    async def stop(self) -> None:
        await self.tasks.stop()

    async def _forever(self) -> None:
        while True:
            await self._clock.sleep(EVERY_S)
            if not self._leadership.gate.open:
                continue
            for work in (
                self._end_claims,
                self._work_off_what_is_due,
            ):  # neither waits for the other to succeed
                try:
                    await work()
                except Unavailable:
                    pass
                except asyncpg.PostgresError as error:
                    if not self._sender.schema.is_awaited(error):
                        log.error("doubt_failed", error=str(error))  # noqa: TRY400 # the database's words say it
            self._sender.forget_old_claims()

    async def _end_claims(self) -> None:
        async with self._sender.claiming:  # so that a claim just made cannot look like one that got lost
            claims = await self._leadership.run(
                lambda store, term: store.open_claims(term), lane=Lane.CLAIM, hold_for=0.0
            )
        self._sender.schema.works()
        verdict = judge(
            claims,
            seen=self._seen,
            issued=self._sender.issued,
            identity=self._identity,
            now=self._clock.now(),
        )
        self._seen = verdict.seen
        if verdict.give_up or verdict.give_back:
            await self._leadership.run(
                lambda store, term: self._carry_out(store, term, verdict), lane=Lane.CLAIM, hold_for=0.0
            )

    async def _carry_out(self, store: Store, term: int, verdict: Verdict) -> None:
        if verdict.give_back:
            segments = await store.return_claims(term, self._identity, verdict.give_back)
            log.info("claims_returned", claims=len(verdict.give_back), segments=segments, term=term)
        if verdict.give_up and self._sender.may_send:
            segments = await store.give_up_claims(term, verdict.give_up)
            self._metrics.given_up += segments
            log.warning("claims_given_up", claims=len(verdict.give_up), segments=segments, term=term)

    async def _work_off_what_is_due(self) -> None:
        """Batch by batch, without a pause while there is more: a whole campaign may expire in one moment."""
        for _ in range(BATCHES_AT_ONCE):
            if not self._sender.may_send:
                return
            released = await self._leadership.run(self._queue_due, lane=Lane.CLAIM, hold_for=0.0)
            if released < BATCH_MAX:
                return

    async def _queue_due(self, store: Store, term: int) -> int:
        agrees = self._clock_agrees(self._leadership.gate.node)
        released = await store.release_due(term, BATCH_MAX, clock_agrees=agrees)
        if not agrees:
            return released
        resent = await store.resend_doubtful(term, self._settings.doubt_grace, BATCH_MAX)
        if resent:
            log.warning("resent_after_doubt", segments=resent, term=term)
        return released
