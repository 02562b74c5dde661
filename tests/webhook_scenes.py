"""Webhooks as tests of the store need them: an endpoint, and the hand of somebody who posts to it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from dispatcher.model import Claim, State
from dispatcher.webhooks import events
from dispatcher.webhooks.model import (
    Batch,
    FeedEvent,
    KeptLetter,
    Letter,
    NewWebhook,
    Settlement,
    Webhook,
    WebhookClaim,
)
from tests.message_scenes import Stage, new_id, receipt, submitted

URL = "https://utility.example/hotsite"
SECRET = bytes(range(32))
KEY_SHOWN = "hs_columbus"
CLAIM_FOR_S = 30.0


def new_webhook(stage: Stage, **changes: Any) -> NewWebhook:
    fields: dict[str, Any] = {
        "id": new_id(),
        "account_id": stage.program.account_id,
        "url": URL,
        "description": "",
        "kinds": (),
        "secret": SECRET,
        "created_by": KEY_SHOWN,
    } | changes
    return NewWebhook(**fields)


async def endpoint(stage: Stage, **changes: Any) -> Webhook:
    made = await stage.store.create_webhook(stage.term, new_webhook(stage, **changes), 20)
    assert made is not None
    return made


async def look(stage: Stage, webhook_id: UUID) -> Webhook:
    [found] = await stage.store.webhooks(stage.term, stage.program.account_id, webhook_id)
    return found


async def taken(stage: Stage, carrier_id: str, **changes: Any) -> Claim:
    """A message that the carrier took."""
    claim = await stage.sent(**changes)
    await stage.store.settle([submitted(claim, carrier_id)])
    return claim


async def delivered(stage: Stage, carrier_id: str = "0af3", **changes: Any) -> UUID:
    """A message that came to its end: one event."""
    claim = await taken(stage, carrier_id, **changes)
    await stage.store.receipts([receipt(carrier_id, State.DELIVERED)])
    return claim.message_id


async def claimed(stage: Stage, dispatcher: str = "columbus-1", **changes: Any) -> WebhookClaim:
    [claim] = await stage.store.claim_webhooks(stage.term, dispatcher, CLAIM_FOR_S, 10, **changes)
    return claim


async def batch(
    stage: Stage, claim: WebhookClaim, number: int = 1, limit: int = 100, trial: int = 5
) -> Batch:
    found = await stage.store.webhook_batch(stage.term, claim.claim_id, number, limit, trial)
    assert found is not None
    return found


def settlement(claim: WebhookClaim, number: int = 1, **changes: Any) -> Settlement:
    fields: dict[str, Any] = {
        "claim_id": claim.claim_id,
        "round": number,
        "position": None,
        "taken": 0,
        "failed": 0,
        "gone": (),
        "letters": (),
        "failures": 0,
        "retry_s": None,
        "failure": None,
        "disable": None,
        "log": (),
        "release": True,
    } | changes
    return Settlement(**fields)


def letter_of(event: FeedEvent) -> Letter:
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


def refused(letter: Letter, retry_after_s: float | None = 5.0, **changes: Any) -> KeptLetter:
    tried = replace(letter, attempts=letter.attempts + 1)
    return KeptLetter(
        letter=tried, retry_after_s=retry_after_s, failure="It answered 500.", status=500, **changes
    )


async def told(stage: Stage) -> Sequence[FeedEvent]:
    """What is in the feed after its first position that a test asked for (`begin_feed`)."""
    page = await stage.store.feed_page(stage.term, stage.program.account_id, (0, 0), 100)
    return page.events


async def feed_kinds(stage: Stage) -> list[str]:
    return [event.kind for event in await told(stage)]
