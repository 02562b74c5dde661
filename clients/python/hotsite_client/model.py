"""What goes in and what comes back. All frozen; times carry their zone; what a newer server adds is ignored."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID, uuid4

from hotsite_client.errors import FieldProblem, HotsiteError, Problem

__all__ = [
    "FINAL_STATES",
    "Accepted",
    "Event",
    "FieldProblem",
    "Message",
    "Page",
    "Part",
    "Preview",
    "Problem",
    "Result",
    "SentMessage",
]

# A state is a plain string, for a newer server may have one more: accepted, held, scheduled, queued, submitting,
# submitted (the carrier has it), in_doubt (it may have left), and these, after which nothing happens any more:
FINAL_STATES: Final = frozenset(
    {"delivered", "undelivered", "rejected", "expired", "failed", "canceled", "suppressed", "unknown"}
)


@dataclass(frozen=True, kw_only=True)
class Message:
    """A text to one customer. Raises ValueError for a time without a zone."""

    program: str
    to: str  # E.164: +16145550123
    body: str
    reference: str | None = None  # your own name for it, at most 100 characters; made for you if left out
    class_: Literal["emergency", "service", "marketing"] | None = None  # the program's if left out
    send_at: datetime | None = None
    expires_at: datetime | None = None
    on_doubt: Literal["resend", "hold"] | None = None  # the program's if left out
    topic: str | None = (
        None  # such as an outage's id: takes the place of an older text of it that has not left yet
    )
    topic_at: datetime | None = None  # as of when what it says holds; as of being accepted if left out

    def __post_init__(self) -> None:
        times = {"send_at": self.send_at, "expires_at": self.expires_at, "topic_at": self.topic_at}
        for name, time in times.items():
            if time is not None and time.tzinfo is None:
                raise ValueError(f"{name} = {time} has no time zone; for example datetime.now(UTC)")

    def with_reference(self) -> "Message":
        """The same, with a reference of its own if it has none."""
        return self if self.reference is not None else replace(self, reference=str(uuid4()))

    def as_json(self) -> dict[str, Any]:
        fields = {
            "program": self.program,
            "to": self.to,
            "body": self.body,
            "reference": self.reference,
            "class": self.class_,
            "send_at": None if self.send_at is None else self.send_at.isoformat(),
            "expires_at": None if self.expires_at is None else self.expires_at.isoformat(),
            "on_doubt": self.on_doubt,
            "topic": self.topic,
            "topic_at": None if self.topic_at is None else self.topic_at.isoformat(),
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The promise: this message is on disk, where `durability` says, and will be accounted for."""

    id: UUID
    reference: str  # repeat with this one
    state: str
    segments: int  # texts that the carrier will count
    encoding: str  # "gsm" or "ucs2"
    durability: str  # "two-site" or "one-site": where it was on disk when it was acknowledged
    duplicate: bool = (
        False  # the reference was known: nothing was sent anew. So, too, if an earlier try got through
    )
    # Not told of the messages of a bulk, during which production may move:
    site: str | None = None  # that took the request
    live_site: str | None = None
    term: int | None = None

    @property
    def two_site(self) -> bool:
        return self.durability == "two-site"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one message of a bulk: `accepted`, or else `error`.

    The error is an ApiError (refused, for good), OutcomeUnknown (it may have been accepted), or Unreachable (nothing
    was sent). The last two are safe to repeat with `message`, which has its reference.
    """

    line: int  # its number among those given, from 1
    message: Message
    accepted: Accepted | None = None
    error: HotsiteError | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One segment of a message."""

    segment: int
    state: str
    attempts: int
    carrier: str | None
    carrier_message_id: str | None
    command_status: int | None  # the carrier's answer, 0 is yes
    command_status_text: str | None
    error: str | None  # the code of the carrier's receipt


@dataclass(frozen=True, kw_only=True)
class Event:
    at: datetime
    state: str
    segment: int | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class SentMessage:
    """A message and all that happened to it."""

    id: UUID
    state: str
    program: str
    to: str
    body: str
    reference: str | None
    class_: str
    encoding: str
    segments: int
    attempts: int  # how often a segment was handed to a carrier
    accepted_at: datetime
    send_at: datetime | None
    expires_at: datetime | None
    on_doubt: str
    parts: tuple[Part, ...]
    events: tuple[Event, ...]
    topic: str | None = None
    topic_at: datetime | None = None
    superseded_by: UUID | None = None  # the newer text of its topic; what had left by then stays as it is

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES


@dataclass(frozen=True, kw_only=True)
class Page:
    """Messages, newest first. The last page is the one without `next_cursor`, not the first short one."""

    messages: tuple[SentMessage, ...]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """How a text would be sent."""

    encoding: str
    segments: int
    too_long: bool  # it would be refused
    offending: tuple[str, ...]  # the characters that keep it out of GSM 03.38, and so make it cost more
