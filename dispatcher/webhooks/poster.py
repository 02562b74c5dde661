"""Shares the endpoints among the dispatchers of the live site, and posts to those that fall to this one.

Rules:

* Only the live site posts, and of its dispatchers one to each endpoint: by a claim that is committed first, names the
  term, and is good for `CLAIM_FOR_S`, counted from before each round's BEGIN on this machine's clock. A post is begun
  only if it must have ended by then.
* Who dies, or is cut off, leaves a claim. It is waited out: by whoever saw it unchanged for its whole length, on his
  own clock (no two machines' clocks are compared), in the same term or a later one. Then its round is posted again,
  with the same ids.
* What came of a round needs no term: a dispatcher that lost the lead while it posted still hands it in, and if nobody
  has waited out its claim it counts.
* Endpoints are served in turns: a claim is given back after a few rounds.
* Poll for truth: nobody tells us of events.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import asyncpg
import structlog

from dispatcher.engine.schema import SchemaSeen
from dispatcher.intake import LeadershipLike
from dispatcher.leadership import Lane, Unavailable
from dispatcher.owned import Tasks, nap
from dispatcher.store import Store
from dispatcher.webhooks.deliverer import POST_S, Deliverer
from dispatcher.webhooks.model import (
    Batch,
    OpenWebhookClaim,
    Settlement,
    WebhookClaim,
    WebhookCounts,
)
from dispatcher.webhooks.round import AT_ONCE, Round
from sitecontrol.clock import Clock

log = structlog.get_logger()

T = TypeVar("T")

POLL_S: Final = 0.5
CLAIM_FOR_S: Final = 30.0
MARGIN_S: Final = 2.0  # a claim's holder and whoever waits it out both leave so much
ENDPOINTS: Final = 32  # served at once
POSTS: Final = ENDPOINTS * AT_ONCE  # at once, in all: no endpoint waits for another's slow receiver
BATCH: Final = 200  # events of a round
TRIAL: Final = 5  # the same, at an endpoint that fails
ROUNDS: Final = 10  # of a claim
COUNT_EVERY_S: Final = 10.0
TIDY_EVERY_S: Final = 60.0
TIDIED: Final = 5_000  # events at a time
KEPT_S: Final = 10 * 86_400.0  # events: what died after 72 hours can be looked at for a week
LETTERS_S: Final = 30 * 86_400.0
HAND_IN_S: Final = CLAIM_FOR_S  # afterwards the claim is somebody else's


class Poster:
    def __init__(
        self,
        *,
        identity: str,
        leadership: LeadershipLike,
        deliverer: Deliverer,
        clock: Clock,
        clock_agrees: Callable[[], bool] = lambda: True,
        claim_for_s: float = CLAIM_FOR_S,
        post_s: float = POST_S,
    ) -> None:
        self._identity = identity
        self._leadership = leadership
        self._deliverer = deliverer
        self._clock = clock
        self._clock_agrees = clock_agrees
        self._claim_for_s = claim_for_s
        self._post_s = post_s
        self._room = asyncio.Semaphore(POSTS)
        self._wake = asyncio.Event()
        self._schema = SchemaSeen()
        self._serving: dict[int, asyncio.Task[None]] = {}  # by claim
        self._seen: dict[tuple[int, int], float] = {}  # others' claims and rounds -> since when
        self._stopping = False
        self._counted_at = self._tidied_at = clock.now()
        self.tasks = Tasks("webhooks")
        self.posts: Counter[str] = Counter()  # by outcome
        self.dead = 0  # letters that died here
        self.disabled = 0
        self.counts: WebhookCounts | None = None

    async def start(self) -> None:
        await self._deliverer.start()
        self.tasks.spawn(self._forever(), "post")

    async def stop(self, within_s: float = 1.0) -> None:
        """Nothing new is posted; what is under way is given a moment, then its claims are left to be waited out."""
        self._stopping = True
        await self.tasks.stop()
        serving = set(self._serving.values())
        if serving:
            _, late = await asyncio.wait(serving, timeout=within_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
        await self._deliverer.stop()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    @property
    def _may_post(self) -> bool:
        return not self._stopping and self._leadership.state.may_send

    async def _forever(self) -> None:
        while True:
            self._wake.clear()
            if self._may_post:
                await self._look()
            else:
                self._seen.clear()
                self.counts = None
            await nap(self._wake, POLL_S)

    async def _look(self) -> None:
        try:
            for claim in await self._claim():
                task = asyncio.get_running_loop().create_task(self._serve(claim))
                self._serving[claim.claim_id] = task
                task.add_done_callback(partial(self._served, claim.claim_id))
            await self._upkeep()
        except Unavailable:
            return
        except asyncpg.PostgresError as error:
            if not self._schema.is_awaited(error):
                log.error("webhooks_not_claimed", sqlstate=error.sqlstate, error=str(error))  # noqa: TRY400 # the database's words say it
            return
        self._schema.works()

    def _served(self, claim_id: int, task: "asyncio.Task[None]") -> None:
        del self._serving[claim_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhook_not_served", claim_id=claim_id, exc_info=error)
            return  # the next look is soon enough
        self._wake.set()

    async def _claim(self) -> Sequence[WebhookClaim]:
        waited_out = self._waited_out(await self._run(lambda store, term: store.webhook_claims(term)))
        free = ENDPOINTS - len(self._serving)
        if free <= 0:
            return []
        holding = list(self._serving)
        return await self._run(
            lambda store, term: store.claim_webhooks(
                term, self._identity, self._claim_for_s, free, holding=holding, waited_out=waited_out
            )
        )

    def _waited_out(self, claims: Sequence[OpenWebhookClaim]) -> list[OpenWebhookClaim]:
        now = self._clock.now()
        seen: dict[tuple[int, int], float] = {}
        over = []
        for claim in claims:
            if claim.claim_id in self._serving:
                continue
            key = (claim.claim_id, claim.round)
            seen[key] = since = self._seen.get(key, now)
            if now - since > claim.claim_for_s + MARGIN_S:
                over.append(claim)
        self._seen = seen
        return over

    async def _run(self, op: Callable[[Store, int], Awaitable[T]], hold_for: float = 0.0) -> T:
        return await self._leadership.run(op, lane=Lane.WEBHOOK, hold_for=hold_for)

    # -- one endpoint

    async def _serve(self, claim: WebhookClaim) -> None:
        for number in range(1, ROUNDS + 1):
            began = self._clock.now()
            try:
                batch = await self._batch(claim, number)
                if batch is None:
                    return
                settled = await self._post(claim, number, batch, ends_at=began + self._claim_for_s - MARGIN_S)
                held = await self._hand_in(settled)
            except (Unavailable, asyncpg.PostgresError) as error:
                log.warning("webhook_round_lost", webhook_id=str(claim.webhook_id), reason=str(error))
                return
            self._note(claim, batch, settled)
            if not held or settled.release:
                return

    async def _batch(self, claim: WebhookClaim, number: int) -> Batch | None:
        if not self._may_post:
            return None
        return await self._run(
            lambda store, term: store.webhook_batch(term, claim.claim_id, number, BATCH, TRIAL)
        )

    async def _post(self, claim: WebhookClaim, number: int, batch: Batch, *, ends_at: float) -> Settlement:
        turn = Round(
            batch,
            posting=self._deliverer,
            clock=self._clock,
            ends_at=ends_at,
            post_s=self._post_s,
            go=lambda: self._may_post,
            room=self._room,
            clock_agrees=self._clock_agrees(),
        )
        await turn.post()
        self.posts.update(turn.outcomes)
        return turn.settlement(claim, number, last=number == ROUNDS)

    async def _hand_in(self, settled: Settlement) -> bool:
        return await self._run(lambda store, _: store.settle_webhook(settled), hold_for=HAND_IN_S)

    def _note(self, claim: WebhookClaim, batch: Batch, settled: Settlement) -> None:
        """One line when an endpoint begins to fail, when it recovers, and when something ends for good."""
        told = log.bind(webhook_id=str(claim.webhook_id), account_id=claim.account_id)
        dead = sum(letter.dead for letter in settled.letters)
        self.dead += dead
        if dead:
            told.warning("webhook_letters_died", letters=dead, reason=settled.failure)
        if settled.disable is not None:
            self.disabled += 1
            told.warning("webhook_switched_off", reason=settled.disable)
        elif settled.failures and not batch.failures:
            told.warning(
                "webhook_fails", reason=settled.failure, again_after_s=round(settled.retry_s or 0, 1)
            )
        elif batch.failures and not settled.failures:
            told.info("webhook_takes_again", failing_s=round(batch.failing_s))

    # -- what has to be done now and then

    async def _upkeep(self) -> None:
        now = self._clock.now()
        if self.counts is None or now - self._counted_at >= COUNT_EVERY_S:
            self._counted_at = now
            self.counts = await self._run(lambda store, term: store.webhook_counts(term))
        if now - self._tidied_at >= TIDY_EVERY_S and self._clock_agrees():
            forgotten = await self._run(lambda store, term: store.tidy_feed(term, TIDIED, KEPT_S, LETTERS_S))
            # As long as there is more it goes on with the next look.
            self._tidied_at = now if forgotten < TIDIED else self._tidied_at
