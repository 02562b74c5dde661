"""The values of webhooks that pass between HTTP, the store and the poster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from dispatcher.model import State

TEST: Final = "webhook.test"  # posted when it is asked for, whatever kinds the endpoint takes


class EventKind(StrEnum):
    """What is told of a text (each state in which it may stay, doubt, and what comes of doubt), and of customers."""

    DELIVERED = "message.delivered"
    UNDELIVERED = "message.undelivered"
    REJECTED = "message.rejected"
    EXPIRED = "message.expired"
    FAILED = "message.failed"
    CANCELED = "message.canceled"
    SUPPRESSED = "message.suppressed"
    UNKNOWN = "message.unknown"
    IN_DOUBT = "message.in_doubt"
    SUBMITTED = "message.submitted"  # only after doubt: the carrier has it
    QUEUED = "message.queued"  # only after doubt: it goes out, or goes out once more
    REPLY = "reply.received"


def kind_of(state: State) -> EventKind:
    return EventKind(f"message.{state.value}")


ENDS_TOLD: Final = frozenset(
    State(kind.removeprefix("message."))
    for kind in EventKind
    if kind not in {EventKind.SUBMITTED, EventKind.QUEUED, EventKind.REPLY}
)

Position = tuple[int, int]  # of a feed: a tick, and the number of the last event told of its interval


def is_told(before: State, after: State) -> bool:
    """Whether an account is told of this change. The same stands on the trigger `delivery_noted`."""
    return before is not after and (before is State.IN_DOUBT or after in ENDS_TOLD)


@dataclass(frozen=True, kw_only=True)
class SegmentChange:
    """What happened to a segment, as it was then; but for `message_state`, which is as of now."""

    message_id: UUID
    reference: str | None
    program: str | None  # this and the next two: None when the message is not kept any more
    to: str | None
    segments: int | None
    segment: int
    before: State
    state: State
    message_state: State | None
    attempt: int
    carrier: str | None
    carrier_message_id: str | None
    command_status: int | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class ReplyReceived:
    """A customer's text."""

    reply_id: int
    source: str  # the customer's number
    destination: str  # the short code
    text: str
    received_at: datetime
    carrier: str


@dataclass(frozen=True, kw_only=True)
class FeedEvent:
    """One of the two."""

    id: UUID
    tick: int
    number: int
    at: datetime
    age_s: float  # by the store's clock
    message: SegmentChange | None = None
    reply: ReplyReceived | None = None

    @property
    def kind(self) -> str:
        return EventKind.REPLY if self.message is None else kind_of(self.message.state)

    @property
    def subject(self) -> UUID | None:
        """Whose events are told one after the other."""
        return None if self.message is None else self.message.message_id

    @property
    def position(self) -> Position:
        return self.tick, self.number


@dataclass(frozen=True, kw_only=True)
class FeedPage:
    events: Sequence[FeedEvent]
    position: Position  # after it
    more: bool  # there may be more at once
    lost: bool  # what lay at the position is not kept any more


@dataclass(frozen=True, kw_only=True)
class NewWebhook:
    id: UUID
    account_id: int
    url: str
    description: str
    kinds: Sequence[str]  # empty: all
    secret: bytes
    created_by: str


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """An endpoint, without its secret."""

    id: UUID
    account_id: int
    url: str
    description: str
    kinds: tuple[str, ...]
    created_at: datetime
    created_by: str
    changed_at: datetime
    enabled: bool
    disabled_why: str | None  # when it was the system
    old_secret_until: datetime | None
    failures: int  # rounds one after the other in which nothing was taken
    failing_since: datetime | None
    next_try_at: datetime | None
    last_failure: str | None
    last_failure_at: datetime | None
    last_taken_at: datetime | None
    taken: int
    failed: int
    waiting: int  # letters, counted up to ten thousand
    dead: int  # the same


@dataclass(frozen=True, kw_only=True)
class WebhookClaim:
    """An endpoint that is ours for a while."""

    claim_id: int
    webhook_id: UUID
    account_id: int


@dataclass(frozen=True, kw_only=True)
class OpenWebhookClaim:
    """Somebody's claim, as it is seen from outside."""

    claim_id: int
    round: int
    dispatcher: str
    claim_for_s: float


@dataclass(frozen=True, kw_only=True)
class Letter:
    """An event that an endpoint has not taken yet."""

    number: int
    id: UUID
    subject: UUID | None
    kind: str
    at: datetime
    age_s: float
    attempts: int
    body: str


@dataclass(frozen=True, kw_only=True)
class Following:
    """The next event of the feed. `behind`: another one of its message was not taken yet."""

    event: FeedEvent
    behind: bool


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What is to be posted to an endpoint now."""

    url: str
    kinds: frozenset[str]  # empty: all
    secrets: tuple[bytes, ...]  # the newest first
    failures: int
    failing_s: float
    letters: Sequence[Letter]
    events: Sequence[Following]
    full: bool  # there may be more
    end: Position | None  # where the feed goes on once all of these events are settled, if that is known

    def takes(self, kind: str) -> bool:
        return not self.kinds or kind in self.kinds


@dataclass(frozen=True, kw_only=True)
class KeptLetter:
    """A letter as it is after a round."""

    letter: Letter
    retry_after_s: float | None  # None: once the one before it is gone
    failure: str | None = None
    status: int | None = None
    dead: bool = False


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One post, as it is shown to the account."""

    event_id: UUID
    kind: str
    attempt: int
    taken: bool
    status: int | None
    ms: int
    failure: str | None


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What came of a round."""

    claim_id: int
    round: int
    position: Position | None  # None: as it was
    taken: int
    failed: int
    gone: Sequence[int]  # numbers of letters that were taken
    letters: Sequence[KeptLetter]
    failures: int
    retry_s: float | None  # the endpoint is left alone so long
    failure: str | None
    disable: str | None  # why
    log: Sequence[Attempt]
    release: bool


@dataclass(frozen=True, kw_only=True)
class Round:
    number: int
    at: datetime
    attempts: Sequence[Mapping[str, Any]]  # `Attempt`s as JSON


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    number: int
    id: UUID
    subject: UUID | None
    kind: str
    at: datetime
    body: str
    attempts: int
    tried_at: datetime | None
    failure: str | None
    status: int | None
    dead_at: datetime


@dataclass(frozen=True, kw_only=True)
class FailingWebhook:
    webhook_id: UUID
    account_id: int
    failing_s: float
    failure: str | None


@dataclass(frozen=True, kw_only=True)
class WebhookCounts:
    """Over all accounts."""

    enabled: int
    failing: int
    disabled: int
    waiting: int  # letters
    dead: int
    lag_s: float  # age of the oldest event that was not posted to an endpoint which does not fail
    worst: Sequence[FailingWebhook]  # the twenty that fail longest
