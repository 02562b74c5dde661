"""Settles what earlier lives of this dispatcher left open, by their journals.

What a life wrote and never heard of is in doubt at once: it is dead, and its sockets with it. What it learned is
handed in. What it had claimed and never written goes back to the queue, if its journal can be believed to be whole
(`journal.Remains.same_boot`); else its claims end by their time, like anybody's.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from math import inf

import asyncpg
import structlog

from dispatcher.engine.results import Results
from dispatcher.journal import Remains
from dispatcher.leadership import Lane, Leadership
from dispatcher.model import Held, SubmitOutcome, SubmitResult
from dispatcher.owned import Tasks
from sitecontrol.clock import Clock

log = structlog.get_logger()

AGAIN_AFTER_S = 1.0


def never_written(left: Remains, held: Sequence[Held]) -> list[SubmitResult]:
    """Of what is still claimed by that life: what it did not write."""
    if not left.same_boot:
        return []
    return [
        SubmitResult(
            claim_id=one.claim_id,
            message_id=one.message_id,
            segment=one.segment,
            attempt=one.attempt,
            outcome=SubmitOutcome.QUEUED,
            carrier="",
        )
        for one in held
        if one.claim_id > left.whole_above
        and (one.claim_id, one.message_id, one.segment, one.attempt) not in left.named
    ]


class Predecessors:
    def __init__(
        self, *, left: Callable[[], Iterable[Remains]], leadership: Leadership, results: Results, clock: Clock
    ) -> None:
        self._left = left
        self._leadership = leadership
        self._results = results
        self._clock = clock
        self.tasks = Tasks("predecessors")

    async def start(self) -> None:
        self.tasks.spawn(self._settle_all(), "settle")

    async def stop(self) -> None:
        await self.tasks.stop()

    async def _settle_all(self) -> None:
        for left in await asyncio.to_thread(lambda: list(self._left())):
            await self._settle(left)
        await asyncio.Event().wait()  # a task of ours never ends by itself

    async def _settle(self, left: Remains) -> None:
        for result in (*left.learned, *left.unanswered):
            self._results.put(result)
        unwritten = never_written(left, await self._held(left.identity))
        for result in unwritten:
            self._results.put(result)
        await self._results.all_stored()
        left.forget()
        log.info(
            "predecessor_settled",
            identity=left.identity,
            same_boot=left.same_boot,
            answered=len(left.learned),
            in_doubt=len(left.unanswered),
            never_written=len(unwritten),
        )

    async def _held(self, identity: str) -> Sequence[Held]:
        while True:
            try:
                return await self._leadership.run(
                    lambda store, term: store.claimed_by(term, identity), lane=Lane.CLAIM, hold_for=inf
                )
            except asyncpg.PostgresError as error:
                log.debug("claims_not_told", error=str(error))  # the schema may not be in place yet
                await self._clock.sleep(AGAIN_AFTER_S)
