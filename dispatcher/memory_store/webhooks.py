"""Webhooks: what their functions in SQL mean, in the plainest way. What accounts ask for; `posting` has the rest."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from uuid import UUID

from dispatcher.memory_store.feed import LetterRow, WebhookRow
from dispatcher.memory_store.posting import Posting
from dispatcher.webhooks.model import DeadLetter, Letter, NewWebhook, Round, Webhook


class Webhooks(Posting):
    async def create_webhook(self, term: int, new: NewWebhook, most: int) -> Webhook | None:
        self._check(term)
        self._feeds.setdefault(new.account_id, [])
        if new.id not in self._webhooks:
            if sum(row.told.account_id == new.account_id for row in self._webhooks.values()) >= most:
                return None
            now = self._clock.wall()
            told = Webhook(
                id=new.id,
                account_id=new.account_id,
                url=new.url,
                description=new.description,
                kinds=tuple(new.kinds),
                created_at=now,
                created_by=new.created_by,
                changed_at=now,
                enabled=True,
                disabled_why=None,
                old_secret_until=None,
                failures=0,
                failing_since=None,
                next_try_at=None,
                last_failure=None,
                last_failure_at=None,
                last_taken_at=None,
                taken=0,
                failed=0,
                waiting=0,
                dead=0,
            )
            self._webhooks[new.id] = WebhookRow(told=told, secret=new.secret, reached=next(self._numbers))
        row = self._endpoint(new.account_id, new.id)
        return None if row is None else self._shown(row)

    def _endpoint(self, account_id: int, webhook_id: UUID) -> WebhookRow | None:
        row = self._webhooks.get(webhook_id)
        return row if row is not None and row.told.account_id == account_id else None

    async def webhooks(self, term: int, account_id: int, webhook_id: UUID | None = None) -> Sequence[Webhook]:
        self._check(term)
        return [
            self._shown(row)
            for row in self._webhooks.values()
            if row.told.account_id == account_id and webhook_id in {None, row.told.id}
        ]

    async def change_webhook(
        self,
        term: int,
        account_id: int,
        webhook_id: UUID,
        *,
        url: str | None = None,
        description: str | None = None,
        kinds: Sequence[str] | None = None,
        enabled: bool | None = None,
        skip: bool = False,
    ) -> Webhook | None:
        self._check(term)
        row = self._endpoint(account_id, webhook_id)
        if row is None:
            return None
        now, told = self._clock.wall(), row.told
        row.told = replace(
            told,
            url=told.url if url is None else url,
            description=told.description if description is None else description,
            kinds=told.kinds if kinds is None else tuple(kinds),
            enabled=told.enabled if enabled is None else enabled,
            changed_at=now,
            disabled_why=told.disabled_why if enabled is None else None,
        )
        if url is not None or enabled:
            row.told = replace(row.told, failures=0, failing_since=None, next_try_at=None)
            for one in row.living():
                if one.next_try_at is not None:
                    one.next_try_at = min(one.next_try_at, now)
        if skip:
            row.reached = next(self._numbers)
            row.letters = {n: one for n, one in row.letters.items() if one.dead_at is not None}
            row.settled = 0 if row.claim is None else row.claim.round
        return self._shown(row)

    async def delete_webhook(self, term: int, account_id: int, webhook_id: UUID) -> bool:
        self._check(term)
        if self._endpoint(account_id, webhook_id) is None:
            return False
        del self._webhooks[webhook_id]
        return True

    async def rotate_webhook_secret(
        self, term: int, account_id: int, webhook_id: UUID, secret: bytes, overlap_s: float
    ) -> Webhook | None:
        self._check(term)
        row = self._endpoint(account_id, webhook_id)
        if row is None:
            return None
        if row.secret != secret:
            now = self._clock.wall()
            until = now + timedelta(seconds=overlap_s) if overlap_s > 0 else None
            row.old_secret, row.secret = row.secret, secret
            row.told = replace(row.told, old_secret_until=until, changed_at=now)
        return self._shown(row)

    async def test_webhook(
        self, term: int, account_id: int, webhook_id: UUID, event_id: UUID, kind: str, body: str
    ) -> bool:
        self._check(term)
        row = self._endpoint(account_id, webhook_id)
        if row is None or not row.told.enabled:
            return False
        now = self._clock.wall()
        row.told = replace(row.told, next_try_at=None)
        if all(one.letter.id != event_id for one in row.letters.values()):
            number = next(self._numbers)
            letter = Letter(
                number=number, id=event_id, subject=None, kind=kind, at=now, age_s=0.0, attempts=0, body=body
            )
            row.letters[number] = LetterRow(letter=letter, next_try_at=now)
        return True

    async def webhook_rounds(
        self, term: int, account_id: int, webhook_id: UUID, *, before: int | None = None, limit: int = 20
    ) -> Sequence[Round]:
        self._check(term)
        row = self._endpoint(account_id, webhook_id)
        rounds = [] if row is None else [r for r in row.rounds if before is None or r.number < before]
        return rounds[::-1][:limit]

    async def dead_letters(
        self, term: int, account_id: int, webhook_id: UUID, *, after: int = 0, limit: int = 50
    ) -> Sequence[DeadLetter]:
        self._check(term)
        row = self._endpoint(account_id, webhook_id)
        letters = () if row is None else (row.letters[n] for n in sorted(row.letters) if n > after)
        dead = (
            DeadLetter(
                number=one.letter.number,
                id=one.letter.id,
                subject=one.letter.subject,
                kind=one.letter.kind,
                at=one.letter.at,
                body=one.letter.body,
                attempts=one.letter.attempts,
                tried_at=one.tried_at,
                failure=one.failure,
                status=one.status,
                dead_at=one.dead_at,
            )
            for one in letters
            if one.dead_at is not None
        )
        return list(islice(dead, limit))

    async def replay_letters(
        self, term: int, account_id: int, webhook_id: UUID, event_id: UUID | None, limit: int
    ) -> int:
        self._check(term)
        row = self._endpoint(account_id, webhook_id)
        if row is None:
            return 0
        now = self._clock.wall()
        dead = [row.letters[n] for n in sorted(row.letters) if row.letters[n].dead_at is not None]
        chosen = [one for one in dead if event_id in {None, one.letter.id}][:limit]
        for one in chosen:
            one.dead_at = None
            one.letter = replace(one.letter, at=now, attempts=0)
            one.next_try_at = now if one.letter.subject is None else None
        self._wake_letters(row, {one.letter.subject for one in chosen})
        return len(chosen)
