"""Hands the texts of running campaigns to the queue, at the pace at which they leave it.

A campaign's list stays where it is and only the next few batches are in the queue. So pausing is to stop feeding, a
million texts cost the queue no more than a few thousand, and canceling finds nearly all of them where they can be let
go at once.

Rules:

* The live site feeds, and any of its dispatchers may: a batch moves from its list into the queue in one transaction,
  under a lock on its campaign. Whoever crashes, or loses the lead, in the middle has moved the whole batch or none.
* Nobody is told to go on after a swap: the campaign's row says that it runs, and the next one to lead looks there.
* A campaign that is to begin at a time begins only while the leader's clock agrees with the others (`clocks`).
* Feeding is looked for often while there is something to feed, and once a second otherwise.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import asyncpg
import structlog

from dispatcher.campaigns.model import Fed
from dispatcher.engine.schema import SchemaSeen
from dispatcher.intake import LeadershipLike
from dispatcher.leadership import Lane, Unavailable
from dispatcher.owned import Tasks, nap
from dispatcher.store import Store
from dispatcher.uuid7 import Ids

log = structlog.get_logger()

AHEAD: Final = 8  # batches of a campaign that may wait in the queue: a second's worth of the fastest sending
BATCHES: Final = 4  # moved in one commit: over a long line one would not keep up
SWEEP_BATCHES: Final = 50
SOON_S: Final = 0.05
IDLE_S: Final = 1.0
SLOWER: Final = 1.5  # from the one to the other, while there is nothing to feed


class Feeder:
    def __init__(self, *, leadership: LeadershipLike, ids: Ids) -> None:
        self._leadership = leadership
        self._ids = ids
        self._wake = asyncio.Event()
        self._schema = SchemaSeen()
        # Whether the leader's wall clock may be believed: set by whoever can tell.
        self.clock_agrees: Callable[[], bool] = lambda: True
        self.tasks = Tasks("campaigns")
        self.fed = 0  # texts, by this process

    async def start(self) -> None:
        self.tasks.spawn(self._forever(), "feed")

    async def stop(self) -> None:
        await self.tasks.stop()

    def wake(self) -> None:
        """A campaign was started, resumed or canceled here: look now."""
        self._wake.set()

    async def _forever(self) -> None:
        pause = IDLE_S
        while True:
            self._wake.clear()
            fed = await self._once() if self._leadership.state.may_send else None
            if fed is not None:
                self.fed += fed.texts
                pause = SOON_S
                await asyncio.sleep(0)
                continue
            await nap(self._wake, pause)
            pause = SOON_S if self._wake.is_set() else min(IDLE_S, pause * SLOWER)

    async def _once(self) -> Fed | None:
        """One step of feeding, and when there is none to make one of canceling."""
        try:
            fed = await self._leadership.run(self._feed, lane=Lane.INTAKE, hold_for=0.0)
            if fed is None:
                await self._leadership.run(self._sweep, lane=Lane.READ, hold_for=0.0)
        except Unavailable:
            return None
        except asyncpg.PostgresError as error:
            if not self._schema.is_awaited(error):
                log.error("campaigns_not_fed", sqlstate=error.sqlstate, error=str(error))  # noqa: TRY400 # the database's words say it
            return None
        self._schema.works()
        if fed is not None and not fed.texts:
            log.info("campaign_stands", campaign_id=str(fed.campaign_id))
        return fed

    async def _feed(self, store: Store, term: int) -> Fed | None:
        # A new id for each try: it tells when its texts came into the queue, and what a try moved stays moved.
        return await store.feed_campaign(
            term, self._ids.new(), BATCHES, AHEAD, clock_agrees=self.clock_agrees()
        )

    async def _sweep(self, store: Store, term: int) -> int:
        return await store.sweep_campaigns(term, None, SWEEP_BATCHES)
