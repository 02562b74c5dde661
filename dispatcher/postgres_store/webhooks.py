"""Webhooks: the feed of an account's events, its endpoints, and how they are posted to."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from dispatcher.model import State
from dispatcher.postgres_store.statements import Statements
from dispatcher.webhooks.model import (
    Batch,
    DeadLetter,
    FailingWebhook,
    FeedEvent,
    FeedPage,
    Following,
    Letter,
    NewWebhook,
    OpenWebhookClaim,
    Position,
    ReplyReceived,
    Round,
    SegmentChange,
    Settlement,
    Webhook,
    WebhookClaim,
    WebhookCounts,
)


class Webhooks(Statements):
    async def feed_page(self, term: int, account_id: int, position: Position | None, limit: int) -> FeedPage:
        [row] = await self._commit("feed_page", term, account_id, *(position or (None, None)), limit)
        return FeedPage(
            events=[_event(one) for one in _list(row["events"])],
            position=(row["tick"], row["event_no"]),
            more=row["more"],
            lost=bool(row["lost"]),
        )

    async def create_webhook(self, term: int, new: NewWebhook, most: int) -> Webhook | None:
        return _one(
            await self._commit(
                "create_webhook",
                term,
                new.account_id,
                new.id,
                new.url,
                new.description,
                list(new.kinds),
                new.secret,
                new.created_by,
                most,
            )
        )

    async def webhooks(self, term: int, account_id: int, webhook_id: UUID | None = None) -> Sequence[Webhook]:
        return [_webhook(row) for row in await self._commit("webhooks", term, account_id, webhook_id)]

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
        chosen = None if kinds is None else list(kinds)
        return _one(
            await self._commit(
                "change_webhook", term, account_id, webhook_id, url, description, chosen, enabled, skip
            )
        )

    async def delete_webhook(self, term: int, account_id: int, webhook_id: UUID) -> bool:
        return await self._count("delete_webhook", term, account_id, webhook_id) > 0

    async def rotate_webhook_secret(
        self, term: int, account_id: int, webhook_id: UUID, secret: bytes, overlap_s: float
    ) -> Webhook | None:
        return _one(
            await self._commit("rotate_webhook_secret", term, account_id, webhook_id, secret, overlap_s)
        )

    async def test_webhook(
        self, term: int, account_id: int, webhook_id: UUID, event_id: UUID, kind: str, body: str
    ) -> bool:
        return await self._count("test_webhook", term, account_id, webhook_id, event_id, kind, body) > 0

    async def webhook_rounds(
        self, term: int, account_id: int, webhook_id: UUID, *, before: int | None = None, limit: int = 20
    ) -> Sequence[Round]:
        rows = await self._commit("webhook_rounds", term, account_id, webhook_id, before, limit)
        return [
            Round(number=row["round_id"], at=row["at"], attempts=orjson.loads(row["attempts"]))
            for row in rows
        ]

    async def dead_letters(
        self, term: int, account_id: int, webhook_id: UUID, *, after: int = 0, limit: int = 50
    ) -> Sequence[DeadLetter]:
        rows = await self._commit("dead_letters", term, account_id, webhook_id, after, limit)
        told = [dict(row) for row in rows]
        return [DeadLetter(number=one.pop("event_no"), id=one.pop("event_id"), **one) for one in told]

    async def replay_letters(
        self, term: int, account_id: int, webhook_id: UUID, event_id: UUID | None, limit: int
    ) -> int:
        return await self._count("replay_letters", term, account_id, webhook_id, event_id, limit)

    # -- posting

    async def webhook_claims(self, term: int) -> Sequence[OpenWebhookClaim]:
        return [OpenWebhookClaim(**dict(row)) for row in await self._read("webhook_claims", term)]

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
        rows = await self._commit(
            "claim_webhooks",
            term,
            dispatcher,
            claim_for_s,
            limit,
            list(holding),
            [claim.claim_id for claim in waited_out],
            [claim.round for claim in waited_out],
        )
        return [WebhookClaim(**dict(row)) for row in rows]

    async def webhook_batch(
        self, term: int, claim_id: int, number: int, limit: int, trial_limit: int
    ) -> Batch | None:
        [row] = await self._commit("webhook_batch", term, claim_id, number, limit, trial_limit)
        if not row["held"]:
            return None
        letters = [_letter(one) for one in _list(row["letters"])]
        following = [
            Following(event=_event(one["event"]), behind=one["behind"]) for one in _list(row["events"])
        ]
        return Batch(
            url=row["url"],
            kinds=frozenset(row["kinds"]),
            secrets=tuple(secret for secret in (row["secret"], row["old_secret"]) if secret is not None),
            failures=row["failures"],
            failing_s=row["failing_s"],
            letters=letters,
            events=following,
            full=row["full_batch"],
            end=None if row["end_tick"] is None else (row["end_tick"], 0),
        )

    async def settle_webhook(self, settled: Settlement) -> bool:
        kept = settled.letters
        tick, event_no = settled.position or (None, None)
        [[held]] = await self._commit(
            "settle_webhook",
            settled.claim_id,
            settled.round,
            tick,
            event_no,
            settled.taken,
            settled.failed,
            list(settled.gone),
            [one.letter.number for one in kept],
            [one.letter.id for one in kept],
            [one.letter.subject for one in kept],
            [one.letter.kind for one in kept],
            [one.letter.at for one in kept],
            [one.letter.body for one in kept],
            [one.letter.attempts for one in kept],
            [one.retry_after_s for one in kept],
            [one.failure for one in kept],
            [one.status for one in kept],
            [one.dead for one in kept],
            settled.failures,
            settled.retry_s,
            settled.failure,
            settled.disable,
            orjson.dumps([asdict(one) for one in settled.log], default=str).decode() if settled.log else None,
            settled.release,
        )
        return bool(held)

    async def webhook_counts(self, term: int) -> WebhookCounts:
        [row] = await self._read("webhook_counts", term)
        told = dict(row)
        worst = [
            FailingWebhook(**{**one, "webhook_id": UUID(one["webhook_id"])})
            for one in _list(told.pop("worst"))
        ]
        return WebhookCounts(**told, worst=worst)

    async def tidy_feed(self, term: int, limit: int, kept_s: float, letters_s: float) -> int:
        return await self._count("tidy_feed", term, limit, kept_s, letters_s)


def _list(value: str | None) -> list[Any]:
    return [] if value is None else orjson.loads(value)


def _one(rows: Sequence[asyncpg.Record]) -> Webhook | None:
    return _webhook(rows[0]) if rows else None


def _webhook(row: asyncpg.Record) -> Webhook:
    told = dict(row)
    return Webhook(**told | {"id": told.pop("webhook_id"), "kinds": tuple(told["kinds"])})


def _event(told: dict[str, Any]) -> FeedEvent:
    message, reply = told["message"], told["reply"]
    return FeedEvent(
        id=UUID(told["id"]),
        tick=told["tick"],
        number=told["number"],
        at=datetime.fromisoformat(told["at"]),
        age_s=float(told["age_s"]),
        message=None if message is None else _change(message),
        reply=None
        if reply is None
        else ReplyReceived(**{**reply, "received_at": datetime.fromisoformat(reply["received_at"])}),
    )


def _change(told: dict[str, Any]) -> SegmentChange:
    state = told["message_state"]
    return SegmentChange(
        **{
            **told,
            "message_id": UUID(told["message_id"]),
            "before": State(told["before"]),
            "state": State(told["state"]),
            "message_state": None if state is None else State(state),
        }
    )


def _letter(told: dict[str, Any]) -> Letter:
    subject = told["subject"]
    return Letter(
        **{
            **told,
            "id": UUID(told["id"]),
            "subject": None if subject is None else UUID(subject),
            "at": datetime.fromisoformat(told["at"]),
            "age_s": float(told["age_s"]),
        }
    )
