"""The shapes of webhooks and of the feed of events, as `schemas` has those of messages."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from dispatcher.http.schemas import MAX_PAGE, Answer, Shape
from dispatcher.model import State
from dispatcher.webhooks.model import EventKind

MAX_OVERLAP_S = 7 * 86_400

Description = Annotated[str, StringConstraints(max_length=200)]
Kinds = list[EventKind]

_URL = "Where events are posted to: https, a public address."
_KINDS = "The kinds of events that it takes; empty or left out: all."


class EventsQuery(Shape):
    """Which events to list."""

    limit: int = Field(default=100, ge=1, le=MAX_PAGE, description="At most so many.", strict=False)
    cursor: str | None = Field(
        default=None,
        max_length=40,
        description="`next_cursor` of the page before. Without one the feed begins now: nothing is listed, and the "
        "answer has the cursor to go on with.",
    )


class MessageEventData(Answer):
    """What happened to a segment of a text."""

    message_id: UUID
    reference: str | None
    program: str | None
    to: str | None
    segment: int
    segments: int | None
    state: State = Field(description="Of this segment, once it had happened.")
    previous_state: State
    message_state: State | None = Field(description="Of the whole message, when it was told.")
    attempt: int
    carrier: str | None
    carrier_message_id: str | None
    error: str | None = Field(description="The carrier's code.")
    command_status: int | None = Field(description="The carrier's answer (SMPP).")
    detail: str | None = Field(description="That answer in words.")


class ReplyEventData(Answer):
    """A text from a customer."""

    reply_id: int
    from_: str = Field(alias="from")
    to: str
    text: str
    received_at: datetime
    carrier: str


class FeedEventAnswer(Answer):
    """An event, as it is posted to webhooks."""

    id: UUID = Field(description="The same in each post of it, and the header `webhook-id`.")
    type: EventKind
    timestamp: datetime
    data: MessageEventData | ReplyEventData


class EventsAnswer(Answer):
    """A page of the account's events, in the order in which they were committed."""

    events: list[FeedEventAnswer]
    next_cursor: str = Field(
        description="Ask again with this as `cursor`, on the last page, too: what comes follows it."
    )
    more: bool = Field(description="Whether there may be more at once.")


class WebhookRequest(Shape):
    """An address that is to be told what happens."""

    url: str = Field(description=_URL, examples=["https://utility.example/hotsite"])
    description: Description = Field(default="", description="Your own words.")
    kinds: Kinds = Field(default_factory=list, description=_KINDS)


class WebhookChangeRequest(Shape):
    """What is left out stays as it is."""

    url: str | None = Field(default=None, description=_URL)
    description: Description | None = Field(default=None, description="Your own words.")
    kinds: Kinds | None = Field(default=None, description=_KINDS)
    enabled: bool | None = Field(
        default=None,
        description="Switched on again, it goes on where it was: what has happened meanwhile is told.",
    )
    skip: bool = Field(
        default=False,
        description="Do not tell what has happened so far and was not taken; dead letters are kept.",
    )


class RotateRequest(Shape):
    """How to change the secret."""

    overlap_s: int = Field(
        default=86_400,
        ge=0,
        le=MAX_OVERLAP_S,
        description="So many seconds the secret of before signs beside the new one.",
    )


class ReplayRequest(Shape):
    """Which dead letters to post again."""

    event_id: UUID | None = Field(default=None, description="This one; all if left out.", strict=False)


class WebhookAnswer(Answer):
    id: UUID
    url: str
    description: str
    kinds: list[EventKind] = Field(description="Empty: all.")
    enabled: bool
    disabled_why: str | None = Field(description="When nobody but the system switched it off.")
    created_at: datetime
    created_by: str = Field(description="The first characters of the key.")
    changed_at: datetime
    old_secret_until: datetime | None = Field(description="Until then two secrets sign.")
    failing_since: datetime | None = Field(description="Since then nothing was taken.")
    next_try_at: datetime | None = Field(description="While it fails: when it is tried again.")
    last_failure: str | None
    last_failure_at: datetime | None
    last_taken_at: datetime | None
    taken: int = Field(description="Posts that were taken.")
    failed: int = Field(description="Posts that were not.")
    waiting: int = Field(description="Events that wait to be tried again; counted up to 10,000.")
    dead: int = Field(description="Events that were given up; counted up to 10,000.")


class WebhookSecretAnswer(WebhookAnswer):
    secret: str = Field(description="Shown this once.", examples=["whsec_…"])


class WebhooksAnswer(Answer):
    webhooks: list[WebhookAnswer] = Field(description="Oldest first.")


class WebhookTestAnswer(Answer):
    event_id: UUID = Field(description="Look among the deliveries for it.")


class DeliveriesQuery(Shape):
    """Which deliveries to list."""

    cursor: str | None = Field(default=None, max_length=40, description="`next_cursor` of the page before.")


class DeliveryAnswer(Answer):
    """One post."""

    event_id: UUID
    type: str
    attempt: int
    at: datetime = Field(description="When its round was over.")
    taken: bool
    status: int | None = Field(description="Of the answer; null: there was none.")
    ms: int
    failure: str | None


class DeliveriesAnswer(Answer):
    """The posts of the last twenty rounds, newest round first; of each round a hundred, those that failed first."""

    deliveries: list[DeliveryAnswer]
    next_cursor: str | None = Field(description="Ask again with this as `cursor`; null on the last page.")


class DeadLettersQuery(Shape):
    """Which dead letters to list."""

    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="At most so many.", strict=False)
    cursor: str | None = Field(default=None, max_length=40, description="`next_cursor` of the page before.")


class DeadLetterAnswer(Answer):
    """An event that was not taken within 72 hours. Kept for 30 days."""

    event_id: UUID
    type: str
    happened_at: datetime
    attempts: int
    last_tried_at: datetime | None
    last_failure: str | None
    last_status: int | None
    dead_at: datetime
    event: dict[str, Any] = Field(description="As it was posted.")


class DeadLettersAnswer(Answer):
    dead_letters: list[DeadLetterAnswer] = Field(description="In the order in which they happened.")
    next_cursor: str | None = Field(description="Ask again with this as `cursor`; null on the last page.")


class ReplayedAnswer(Answer):
    replayed: int = Field(description="Of 10,000 at most: ask again until it is 0.")
