"""Words of the message path: states, classes, and the values that pass between intake, store and engine."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Final
from uuid import UUID


class State(StrEnum):
    """State of a segment; a message's state is rolled up from its segments'."""

    ACCEPTED = "accepted"  # on disk; what happens next is not decided yet
    SUPPRESSED = "suppressed"  # must not be sent
    HELD = "held"  # waits for its time (quiet hours, cap, pause)
    SCHEDULED = "scheduled"  # send_at is ahead
    QUEUED = "queued"  # may be claimed by any dispatcher of the live site
    SUBMITTING = "submitting"  # claimed by one dispatcher, in one term, until a deadline
    SUBMITTED = "submitted"  # the carrier answered with its id
    IN_DOUBT = "in_doubt"  # it may have left: the answer never came
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    REJECTED = "rejected"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELED = "canceled"
    UNKNOWN = "unknown"  # no receipt in 72 h


class MessageClass(IntEnum):
    """What goes first. The number is the order of claiming."""

    EMERGENCY = 0
    SERVICE = 1
    MARKETING = 2


class OnDoubt(StrEnum):
    RESEND = "resend"  # send once more after a grace period, counted and told
    HOLD = "hold"  # wait for a receipt, then `unknown`


class Encoding(StrEnum):
    GSM = "gsm"  # GSM 03.38 default alphabet with its extension table: 160, or 153 a segment
    UCS2 = "ucs2"  # 70, or 67 a segment


class StoredDurability(StrEnum):
    """Where an acknowledged message is on disk, told truly (failover rule 7)."""

    TWO_SITE = "two-site"
    ONE_SITE = "one-site"


@dataclass(frozen=True, kw_only=True)
class NewMessage:
    """A checked message, before it is stored. `id` is a UUIDv7 made by the dispatcher, so a repeat is harmless."""

    id: UUID
    account_id: int
    program_id: int
    to: str  # E.164 with +
    body: str
    encoding: Encoding
    segments: int
    message_class: MessageClass
    on_doubt: OnDoubt
    reference: str | None = None
    fingerprint: bytes  # SHA-256 of the content that must agree when a reference is repeated
    send_at: datetime | None = None
    expires_at: datetime | None = None
    topic: str | None = None  # what it is about: a newer text of the same topic takes its place
    topic_at: datetime | None = None  # as of when what it says holds; None: as of being accepted


class Verdict(StrEnum):
    """What became of one row of a group."""

    NEW = "new"
    DUPLICATE = "duplicate"  # the same reference (or id) with the same content
    CONFLICT = "conflict"  # the same reference with other content


@dataclass(frozen=True, kw_only=True)
class Accepted:
    id: UUID  # of the first message when it is a duplicate
    verdict: Verdict
    state: State


@dataclass(frozen=True, kw_only=True)
class Group:
    """The answer for one committed group, in the order of its rows."""

    rows: tuple[Accepted, ...]
    durability: StoredDurability


# A segment may be claimed more often; the number stays the same then. The last one is for those from the first resend
# on, so that none that may have left has the number of one sent after it (migration 0022).
MOST_ATTEMPTS: Final = 32_767


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One segment claimed for sending. Its text is segment `segment` of `segments` of `body`, made anew."""

    claim_id: int
    message_id: UUID
    segment: int  # from 1
    segments: int
    attempt: int  # from 1, up to MOST_ATTEMPTS
    account_id: int
    program_id: int
    source: str  # the short code
    to: str
    body: str
    encoding: Encoding
    message_class: MessageClass
    expires_in_s: float | None  # counted from the claim's BEGIN, by the database's clock


@dataclass(frozen=True, kw_only=True)
class Held:
    """A segment that is still claimed."""

    claim_id: int
    message_id: UUID
    segment: int
    attempt: int


@dataclass(frozen=True, kw_only=True)
class DoubtView:
    """A segment that came into doubt, and its state now."""

    message_id: UUID
    reference: str | None
    segment: int
    attempt: int
    carrier: str | None  # where it was written; None when its dispatcher was lost
    at: datetime
    state: State


@dataclass(frozen=True, kw_only=True)
class DoubtPage:
    """In the order in which they came into doubt."""

    doubts: tuple[DoubtView, ...]
    reached: int | None  # where the next page begins; None on the last


class SubmitOutcome(StrEnum):
    SUBMITTED = "submitted"  # ESME_ROK with an id
    QUEUED = "queued"  # refused for now, or provably never written
    FAILED = "failed"  # refused for good
    IN_DOUBT = "in_doubt"  # written, and no answer came


@dataclass(frozen=True, kw_only=True)
class SubmitResult:
    claim_id: int
    message_id: UUID
    segment: int
    attempt: int
    outcome: SubmitOutcome
    carrier: str
    carrier_message_id: str | None = None  # as the carrier wrote it
    command_status: int = 0  # SMPP, 0 = ESME_ROK
    retry_after_s: float = 0.0  # with QUEUED


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """A delivery receipt. `carrier_message_id` may be unknown to us, or known later (it overtook the answer)."""

    carrier: str
    carrier_message_id: str
    state: State  # DELIVERED, UNDELIVERED, EXPIRED, REJECTED, UNKNOWN, or SUBMITTED for an intermediate one
    source: str  # of the receipt: the customer's number
    destination: str  # the short code
    text: str  # the first characters of the sent text, when the receipt carries them
    error: str  # the carrier's code
    done_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A text from a customer (MO)."""

    carrier: str
    source: str
    destination: str
    text: str
    received_at: datetime
    fingerprint: bytes  # recognises a repeat inside a window


@dataclass(frozen=True, kw_only=True)
class ReplyPart:
    """One part of a longer text from a customer, as it came."""

    carrier: str
    source: str
    destination: str
    reference: int  # the same in all parts of the text
    total: int
    number: int  # from 1
    coding: int  # data_coding
    octets: bytes  # without a header
    received_at: datetime
    fingerprint: bytes  # recognises a repeat inside a window


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of a message's story."""

    at: datetime
    state: State
    segment: int | None
    detail: str  # a sentence


@dataclass(frozen=True, kw_only=True)
class SegmentView:
    segment: int
    state: State
    attempts: int
    carrier: str | None
    carrier_message_id: str | None
    command_status: int | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class MessageView:
    id: UUID
    account_id: int
    program: str
    to: str
    body: str
    reference: str | None
    encoding: Encoding
    message_class: MessageClass
    state: State  # rolled up
    accepted_at: datetime
    send_at: datetime | None
    expires_at: datetime | None
    on_doubt: OnDoubt
    topic: str | None
    topic_at: datetime | None
    superseded_by: UUID | None  # the newer text of its topic; what had left by then stays as it is
    segments: tuple[SegmentView, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """Messages, newest first. There may be more although there are fewer than were asked for, or none."""

    messages: tuple[MessageView, ...]
    reached: UUID | None  # how far was looked: where the next page begins; None on the last


@dataclass(frozen=True, kw_only=True)
class Program:
    id: int
    account_id: int
    name: str
    source: str  # the short code it sends from
    on_doubt: OnDoubt
    message_class: MessageClass
    enabled: bool


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key as the store keeps it: the secret itself is never stored."""

    id: int
    account_id: int
    prefix: str  # shown to people
    secret_hash: bytes  # SHA-256 of the whole key
    expires_at: datetime | None
    revoked: bool


@dataclass(frozen=True, kw_only=True)
class QueueCounts:
    """By state, over all segments not yet archived; `oldest_queued_s` by class name."""

    by_state: dict[State, int]
    oldest_queued_s: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class OpenClaim:
    """A claim that is not settled yet: whose, of which term, how many segments."""

    claim_id: int
    dispatcher: str
    term: int
    claim_for_s: float
    segments: int
