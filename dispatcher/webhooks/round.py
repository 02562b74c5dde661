"""One round: what is due at one endpoint is posted, and what came of it is put together for the store.

Events of one message make a chain: the next is posted once the one before it was taken. Chains are posted beside each
other, a few at a time, in the order in which their first events happened.

Whatever is not posted any more (its chain broke, the endpoint seems dead, time is up) costs nothing as long as it lies
behind the last event that was tried: the position in the feed is not moved past it. What lies before becomes a letter.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import random
from typing import Final, Protocol
from uuid import UUID

from dispatcher.webhooks import events, pacing, signing
from dispatcher.webhooks.deliverer import POST_S
from dispatcher.webhooks.model import (
    Attempt,
    Batch,
    FeedEvent,
    KeptLetter,
    Letter,
    Position,
    Settlement,
    WebhookClaim,
)
from dispatcher.webhooks.pacing import Answer, Outcome
from sitecontrol.clock import Clock

AT_ONCE: Final = 8  # posts to one endpoint
HOPELESS: Final = 8  # failures, and nothing taken: the rest of the round is not tried
SLOW_S: Final = 5.0  # a round that takes longer is the last of its claim: others have their turn
LOGGED: Final = 100  # attempts of a round that are shown; failures go first


class Posting(Protocol):
    """What is asked of a `Deliverer`."""

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, within_s: float = POST_S
    ) -> Answer: ...


@dataclass(eq=False, slots=True)
class Item:
    """An event on its way. `position` is None for a letter, which the feed has behind it."""

    letter: Letter
    position: Position | None
    behind: bool = False
    answer: Answer | None = None


class Round:
    """`go` says whether posting is still this dispatcher's business; `ends_at` (clock.now()) is when the claim ends."""

    def __init__(
        self,
        batch: Batch,
        *,
        posting: Posting,
        clock: Clock,
        ends_at: float,
        go: Callable[[], bool],
        room: asyncio.Semaphore,
        post_s: float = POST_S,
        clock_agrees: bool,
        chance: Callable[[], float] = random,
    ) -> None:
        self._batch = batch
        self._posting = posting
        self._clock = clock
        self._ends_at = ends_at
        self._go = go
        self._room = room
        self._post_s = post_s
        self._clock_agrees = clock_agrees
        self._chance = chance
        self._began = clock.now()
        self._items = [Item(letter, None) for letter in batch.letters]
        self._items += [
            Item(_first_letter(one.event), one.event.position, behind=one.behind)
            for one in batch.events
            if batch.takes(one.event.kind)
        ]
        self._taken = 0
        self._failed = 0
        self._gone = False

    async def post(self) -> None:
        chains: dict[UUID, list[Item]] = {}
        for item in self._items:
            if not item.behind:
                # What has no subject is a chain by itself.
                chains.setdefault(item.letter.subject or item.letter.id, []).append(item)
        left = iter(chains.values())

        async def work() -> None:
            for chain in left:
                for item in chain:
                    if not await self._try(item):
                        break
                if self._over():
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(chains))):
                group.create_task(work())

    def _over(self) -> bool:
        hopeless = self._gone or (not self._taken and self._failed >= HOPELESS)
        return hopeless or not self._go() or self._ends_at - self._clock.now() <= self._post_s

    async def _try(self, item: Item) -> bool:
        """Whether it was taken."""
        async with self._room:
            if self._over():
                return False
            body = item.letter.body.encode()
            headers = signing.headers(
                self._batch.secrets, item.letter.id, int(self._clock.wall().timestamp()), body
            )
            answer = await self._posting.post(self._batch.url, headers, body, within_s=self._post_s)
        item.answer = answer
        self._taken += answer.taken
        self._failed += not answer.taken
        self._gone |= answer.outcome is Outcome.GONE
        return answer.taken

    @property
    def _slow(self) -> bool:
        return self._clock.now() - self._began > SLOW_S

    # -- what came of it

    @property
    def outcomes(self) -> list[Outcome]:
        return [item.answer.outcome for item in self._items if item.answer is not None]

    def settlement(self, claim: WebhookClaim, number: int, *, last: bool) -> Settlement:
        """`last`: the claim is given back in any case; else it is kept while there is more and it goes well."""
        position = self._position()
        letters: list[KeptLetter] = []
        broken: set[UUID] = set()  # messages of which one was not taken: the next ones wait behind it
        for item in self._items:
            if item.answer is not None and item.answer.taken:
                continue
            first = item.letter.subject not in broken and not item.behind
            if item.letter.subject is not None:
                broken.add(item.letter.subject)
            if item.position is not None and (position is None or item.position > position):
                continue  # the feed has it yet
            kept = self._kept(item, first=first)
            if kept is not None:
                letters.append(kept)
                if kept.dead and item.letter.subject is not None:
                    broken.discard(item.letter.subject)
        answers = [item.answer for item in self._items if item.answer is not None]
        refusal = next((a for a in reversed(answers) if not a.taken), None)
        failures, retry_s = self._pause(answers)
        return Settlement(
            claim_id=claim.claim_id,
            round=number,
            position=position,
            taken=self._taken,
            failed=self._failed,
            gone=[
                i.letter.number
                for i in self._items
                if i.position is None and i.answer is not None and i.answer.taken
            ],
            letters=letters,
            failures=failures,
            retry_s=retry_s,
            failure=None if refusal is None else refusal.failure,
            disable=self._why_disable(failures),
            log=self._log(),
            release=last or not self._batch.full or bool(failures) or self._slow or self._over(),
        )

    def _position(self) -> Position | None:
        """The last event that was tried, or that nobody wants, without one between that could be left to the feed."""
        untried = [
            i.position for i in self._items if i.position is not None and i.answer is None and not i.behind
        ]
        tried = [i.position for i in self._items if i.position is not None and i.answer is not None]
        known = [one.event.position for one in self._batch.events]
        if not untried:
            return self._batch.end or (known[-1] if known else None)
        reached = max(tried, default=None)
        before = [p for p in known if p < min(untried)]
        if reached is None or reached < min(untried):
            return before[-1] if before else None
        return reached

    def _kept(self, item: Item, *, first: bool) -> KeptLetter | None:
        """None: as it was."""
        letter, answer = item.letter, item.answer
        if answer is None:
            if item.position is None:
                return None
            return KeptLetter(letter=letter, retry_after_s=0.0 if first else None)
        attempts = letter.attempts + 1
        age = letter.age_s + self._clock.now() - self._began
        return KeptLetter(
            letter=Letter(
                number=letter.number,
                id=letter.id,
                subject=letter.subject,
                kind=letter.kind,
                at=letter.at,
                age_s=age,
                attempts=attempts,
                body=letter.body,
            ),
            retry_after_s=pacing.wait_s(attempts, self._chance(), answer.retry_after_s),
            failure=answer.failure,
            status=answer.status,
            dead=self._clock_agrees and age >= pacing.DIES_AFTER_S,
        )

    def _pause(self, answers: list[Answer]) -> tuple[int, float | None]:
        """How often the endpoint has failed now, and for how long it is left alone.

        What failed before and fails again says nothing of the endpoint: one event that a receiver can never take must
        not hold up the others.
        """
        if self._taken:
            return 0, None
        new_failed = any(
            i.answer is not None and not i.answer.taken and not i.letter.attempts for i in self._items
        )
        if not new_failed:
            return self._batch.failures, None
        failures = self._batch.failures + 1
        asked = max((a.retry_after_s or 0.0 for a in answers), default=0.0)
        return failures, pacing.wait_s(failures, self._chance(), asked)

    def _why_disable(self, failures: int) -> str | None:
        if self._gone:
            return "It answered 410 (gone)."
        failing_s = self._batch.failing_s + self._clock.now() - self._began
        long = self._batch.failures > 0 and failing_s >= pacing.DIES_AFTER_S
        if failures > self._batch.failures and long and self._clock_agrees:
            return f"It has taken nothing for {pacing.DIES_AFTER_S / 3_600:g} hours."
        return None

    def _log(self) -> list[Attempt]:
        tried = sorted(
            (item for item in self._items if item.answer is not None),
            key=lambda item: item.answer is not None and item.answer.taken,
        )
        return [
            Attempt(
                event_id=item.letter.id,
                kind=item.letter.kind,
                attempt=item.letter.attempts + 1,
                taken=item.answer.taken,
                status=item.answer.status,
                ms=item.answer.ms,
                failure=item.answer.failure,
            )
            for item in tried[:LOGGED]
            if item.answer is not None
        ]


def _first_letter(event: FeedEvent) -> Letter:
    return Letter(
        number=event.number,
        id=event.id,
        subject=event.subject,
        kind=event.kind,
        at=event.at,
        age_s=event.age_s,
        attempts=0,
        body=events.as_posted(event),
    )
