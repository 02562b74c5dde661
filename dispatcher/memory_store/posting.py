"""How endpoints are claimed and posted to, and what came of it."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from uuid import UUID

import orjson

from dispatcher.memory_store.feed import Feed, LetterRow, WebhookRow
from dispatcher.webhooks.model import (
    Batch,
    FailingWebhook,
    Following,
    OpenWebhookClaim,
    Round,
    Settlement,
    WebhookClaim,
    WebhookCounts,
)

ROUNDS_KEPT = 20


class Posting(Feed):
    async def webhook_claims(self, term: int) -> Sequence[OpenWebhookClaim]:
        self._check(term)
        return [row.claim for row in self._webhooks.values() if row.claim is not None]

    async def claim_webhooks(
        self,
        term: int,
        dispatcher: str,
        claim_for_s: float,
        limit: int,
        *,
        holding: Sequence[int] = (),
        waited_out: Sequence[OpenWebhookClaim] = (),
    ) -> Sequence[WebhookClaim]:
        self._check(term)
        free = [
            row
            for row in self._webhooks.values()
            if row.told.enabled
            and self._is_due(row)
            and (
                row.claim is None
                or (row.claim.dispatcher == dispatcher and row.claim.claim_id not in holding)
                or any((row.claim.claim_id, row.claim.round) == (o.claim_id, o.round) for o in waited_out)
            )
        ]
        claimed = []
        for row in sorted(free, key=lambda row: row.served)[:limit]:
            number = next(self._numbers)
            row.claim = OpenWebhookClaim(
                claim_id=number, round=0, dispatcher=dispatcher, claim_for_s=claim_for_s
            )
            row.term, row.settled, row.served = term, 0, number
            claimed.append(
                WebhookClaim(claim_id=number, webhook_id=row.told.id, account_id=row.told.account_id)
            )
        return claimed

    def _is_due(self, row: WebhookRow) -> bool:
        now = self._clock.wall()
        if row.told.next_try_at is not None and row.told.next_try_at > now:
            return False
        return bool(self._due_letters(row) or self._after(row.told.account_id, row.reached, 1))

    def _due_letters(self, row: WebhookRow) -> list[LetterRow]:
        now = self._clock.wall()
        due = [
            one
            for one in row.living()
            if one.next_try_at is not None
            and one.next_try_at <= now
            and row.first_of(one.letter.subject) in {None, one}
        ]
        return sorted(due, key=lambda one: (one.next_try_at, one.letter.number))

    async def webhook_batch(
        self, term: int, claim_id: int, number: int, limit: int, trial_limit: int
    ) -> Batch | None:
        self._check(term)
        row = self._claimed(claim_id)
        if (
            row is None
            or row.claim is None
            or row.term != term
            or not row.told.enabled
            or row.settled >= number
        ):
            return None
        row.claim = replace(row.claim, round=number)
        told, now = row.told, self._clock.wall()
        limit = trial_limit if told.failures else limit
        due = self._due_letters(row)[: (limit + 1) // 2]
        following = self._after(told.account_id, row.reached, limit - len(due))
        old = told.old_secret_until is not None and told.old_secret_until > now
        return Batch(
            url=told.url,
            kinds=frozenset(told.kinds),
            secrets=(row.secret, row.old_secret) if old else (row.secret,),
            failures=told.failures,
            failing_s=0.0 if told.failing_since is None else self._age(told.failing_since),
            letters=[replace(one.letter, age_s=self._age(one.letter.at)) for one in due],
            events=[
                Following(
                    event=self._told_event(one),
                    behind=row.first_of(one.message_id) is not None,
                )
                for one in following
            ],
            end=None,
            full=len(due) + len(following) == limit or len(due) == (limit + 1) // 2,
        )

    def _claimed(self, claim_id: int) -> WebhookRow | None:
        rows = self._webhooks.values()
        return next((r for r in rows if r.claim is not None and r.claim.claim_id == claim_id), None)

    async def settle_webhook(self, settled: Settlement) -> bool:
        self._check_open()
        row = self._claimed(settled.claim_id)
        if row is None or row.claim is None or row.claim.round != settled.round:
            return False
        if row.settled < settled.round:
            row.settled = settled.round
            self._settle_webhook(row, settled)
        if settled.release:
            row.claim = None
        return True

    def _settle_webhook(self, row: WebhookRow, settled: Settlement) -> None:
        now, told = self._clock.wall(), row.told
        over = {row.letters.pop(n).letter.subject for n in settled.gone if n in row.letters}
        for kept in settled.letters:
            retry = None if kept.retry_after_s is None else now + timedelta(seconds=kept.retry_after_s)
            row.letters[kept.letter.number] = LetterRow(
                letter=kept.letter,
                next_try_at=retry,
                tried_at=now if kept.letter.attempts else None,
                failure=kept.failure,
                status=kept.status,
                dead_at=now if kept.dead else None,
            )
            if kept.dead:
                over.add(kept.letter.subject)
        self._wake_letters(row, over)
        if settled.position is not None:
            row.reached = settled.position[1]
        failing_since = (told.failing_since or now) if settled.failures else None
        row.told = replace(
            told,
            taken=told.taken + settled.taken,
            failed=told.failed + settled.failed,
            failures=settled.failures,
            failing_since=failing_since,
            next_try_at=None if settled.retry_s is None else now + timedelta(seconds=settled.retry_s),
            last_failure=settled.failure or told.last_failure,
            last_failure_at=now if settled.failure else told.last_failure_at,
            last_taken_at=now if settled.taken else told.last_taken_at,
            enabled=told.enabled and settled.disable is None,
            disabled_why=settled.disable or told.disabled_why,
        )
        if settled.log:
            log = orjson.loads(orjson.dumps([asdict(one) for one in settled.log], default=str))
            row.rounds.append(Round(number=next(self._numbers), at=now, attempts=log))
            del row.rounds[:-ROUNDS_KEPT]

    async def webhook_counts(self, term: int) -> WebhookCounts:
        self._check(term)
        rows = list(self._webhooks.values())
        enabled = [row for row in rows if row.told.enabled]
        failing = [row for row in enabled if row.told.failures]
        lags = [
            self._age(first.at)
            for row in enabled
            if not row.told.failures
            for first in self._after(row.told.account_id, row.reached, 1)
        ]
        return WebhookCounts(
            enabled=len(enabled),
            failing=len(failing),
            disabled=len(rows) - len(enabled),
            waiting=sum(self._shown(row).waiting for row in rows),
            dead=sum(self._shown(row).dead for row in rows),
            lag_s=max(lags, default=0.0),
            worst=[
                FailingWebhook(
                    webhook_id=row.told.id,
                    account_id=row.told.account_id,
                    failing_s=0.0 if row.told.failing_since is None else self._age(row.told.failing_since),
                    failure=row.told.last_failure,
                )
                for row in failing[:20]
            ],
        )

    async def tidy_feed(self, term: int, limit: int, kept_s: float, letters_s: float) -> int:
        self._check(term)
        forgotten = 0
        for account_id, feed in self._feeds.items():
            old = [one for one in feed if self._age(one.at) > kept_s][: limit - forgotten]
            if old:
                self._forgotten[account_id] = old[-1].number
                del feed[: len(old)]
                forgotten += len(old)
        for row in self._webhooks.values():
            row.letters = {
                number: one
                for number, one in row.letters.items()
                if not (
                    (one.dead_at is not None and self._age(one.dead_at) > letters_s)
                    or (not row.told.enabled and self._age(one.letter.at) > letters_s)
                )
            }
        return forgotten

    def _wake_letters(self, row: WebhookRow, subjects: set[UUID | None]) -> None:
        for subject in subjects:
            first = row.first_of(subject)
            if first is not None and first.next_try_at is None:
                first.next_try_at = self._clock.wall()
