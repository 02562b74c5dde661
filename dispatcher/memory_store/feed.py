"""The feed of an account's events, and the rows of its endpoints. Here what happens is committed in one order."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from uuid import UUID

from dispatcher.memory_store.messages import Messages
from dispatcher.memory_store.rows import KeptEvent
from dispatcher.story import roll_up
from dispatcher.webhooks.model import (
    FeedEvent,
    FeedPage,
    Letter,
    OpenWebhookClaim,
    Position,
    ReplyReceived,
    Round,
    SegmentChange,
    Webhook,
)
from sitecontrol.clock import Clock

TICK = 0  # nothing commits out of order here: one interval


@dataclass(kw_only=True, eq=False)
class LetterRow:
    letter: Letter
    next_try_at: datetime | None  # None: waits for the one before it
    tried_at: datetime | None = None
    failure: str | None = None
    status: int | None = None
    dead_at: datetime | None = None


@dataclass(kw_only=True)
class WebhookRow:
    told: Webhook
    secret: bytes
    old_secret: bytes = b""
    reached: int = 0  # number of the last event told
    claim: OpenWebhookClaim | None = None
    term: int = 0
    settled: int = 0
    served: int = 0  # when it was last claimed, in numbers
    letters: dict[int, LetterRow] = field(default_factory=dict)  # by number
    rounds: list[Round] = field(default_factory=list)

    def living(self) -> Iterator[LetterRow]:
        return (self.letters[n] for n in sorted(self.letters) if self.letters[n].dead_at is None)

    def first_of(self, subject: UUID | None) -> LetterRow | None:
        return next((one for one in self.living() if one.letter.subject == subject is not None), None)


class Feed(Messages):
    def __init__(self, clock: Clock | None = None, *, term: int = 1) -> None:
        super().__init__(clock, term=term)
        self._webhooks: dict[UUID, WebhookRow] = {}
        self._forgotten: dict[int, int] = {}  # by account: number of the last event that is not kept any more

    async def feed_page(self, term: int, account_id: int, position: Position | None, limit: int) -> FeedPage:
        self._check(term)
        self._feeds.setdefault(account_id, [])
        reached = next(self._numbers) if position is None else position[1]
        found = [self._told_event(one) for one in self._after(account_id, reached, limit)]
        return FeedPage(
            events=found,
            position=found[-1].position if found else (TICK, reached),
            more=len(found) == limit,
            lost=reached < self._forgotten.get(account_id, 0),
        )

    def _after(self, account_id: int, number: int, limit: int) -> list[KeptEvent]:
        return list(islice((e for e in self._feeds.get(account_id, ()) if e.number > number), limit))

    def _told_event(self, kept: KeptEvent) -> FeedEvent:
        return FeedEvent(
            id=kept.id,
            tick=TICK,
            number=kept.number,
            at=kept.at,
            age_s=self._age(kept.at),
            message=self._change(kept),
            reply=self._reply(kept),
        )

    def _change(self, kept: KeptEvent) -> SegmentChange | None:
        if kept.message_id is None or kept.view is None or kept.before is None:
            return None
        message, view = self._messages[kept.message_id], kept.view
        return SegmentChange(
            message_id=message.id,
            reference=message.reference,
            program=self._programs[message.program_id].name,
            to=message.to,
            segments=message.segments,
            segment=view.segment,
            before=kept.before,
            state=view.state,
            message_state=roll_up(s.state for s in self._segments_of(message.id)),
            attempt=view.attempts,
            carrier=view.carrier,
            carrier_message_id=view.carrier_message_id,
            command_status=view.command_status,
            error=view.error,
        )

    def _reply(self, kept: KeptEvent) -> ReplyReceived | None:
        if kept.reply is None:
            return None
        _, reply = self._replies[kept.reply - 1]
        return ReplyReceived(
            reply_id=kept.reply,
            source=reply.source,
            destination=reply.destination,
            text=reply.text,
            received_at=reply.received_at,
            carrier=reply.carrier,
        )

    def _age(self, at: datetime) -> float:
        return (self._clock.wall() - at).total_seconds()

    def _shown(self, row: WebhookRow) -> Webhook:
        until = row.told.old_secret_until
        return replace(
            row.told,
            old_secret_until=until if until is not None and until > self._clock.wall() else None,
            waiting=sum(1 for _ in row.living()),
            dead=sum(one.dead_at is not None for one in row.letters.values()),
        )
