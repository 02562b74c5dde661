"""The shapes of requests and answers: what is checked at the edge, and what `/v1/openapi.json` says of it.

Requests are strict: no field is ignored, no type is bent. Answers are described here and rendered in `answers`.
"""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from dispatcher.model import Encoding, MessageClass, OnDoubt, State, StoredDurability

MAX_SEGMENTS: Final = 10
MAX_PAGE: Final = 200

ClassName = Literal["emergency", "service", "marketing"]
CLASSES: Final[dict[ClassName, MessageClass]] = {
    "emergency": MessageClass.EMERGENCY,
    "service": MessageClass.SERVICE,
    "marketing": MessageClass.MARKETING,
}
CLASS_NAMES: Final[dict[MessageClass, ClassName]] = {value: name for name, value in CLASSES.items()}


def _in_utc(time: datetime) -> datetime:
    """As it is, for it is compared as it was said."""
    try:
        time.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("out_of_calendar", "must lie in the years 1 to 9999 in UTC") from None
    return time


def _is_said_as_a_time(value: object) -> object:
    """Pydantic takes a number, also in quotes, for the seconds since 1970: 20260131 is none."""
    if not isinstance(value, datetime) and not (isinstance(value, str) and ":" in value):
        raise PydanticCustomError("datetime_parsing", "a number is no time")
    return value


# Not strict, for a query and a validator hand it text; what else is no time is refused before.
Instant = Annotated[
    AwareDatetime, AfterValidator(_in_utc), Field(strict=False), BeforeValidator(_is_said_as_a_time)
]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Topic = Annotated[str, StringConstraints(min_length=1, max_length=100)]
ProgramName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class MessageRequest(Shape):
    """A text to one customer."""

    program: ProgramName = Field(description="The name of the program that it belongs to.")
    to: str = Field(description="The customer's number, in E.164 form.", examples=["+16145550123"])
    body: str = Field(description=f"The text: at most {MAX_SEGMENTS} segments.")
    reference: Reference | None = Field(
        default=None,
        description="Your own name for this message, printable. Repeating a request with the same reference and "
        "content is safe: it answers with the first message. With other content it is refused (409).",
    )
    class_: ClassName | None = Field(
        default=None, alias="class", description="What goes first. The program's class if left out."
    )
    send_at: Instant | None = Field(
        default=None, description="Not to be sent before this time (RFC 3339, with zone)."
    )
    expires_at: Instant | None = Field(
        default=None, description="Not to be sent after this time (RFC 3339, with zone)."
    )
    on_doubt: Literal["resend", "hold"] | None = Field(
        default=None,
        description="What to do when a text may or may not have left: send it once more, or wait for a receipt. "
        "The program's choice if left out.",
    )
    topic: Topic | None = Field(
        default=None,
        description="What it is about, such as the id of an outage, printable. A newer text of the same topic, under "
        "the same program to the same number, takes the place of an older one that has not left yet: that one is "
        "`canceled`, and its story names the newer.",
    )
    topic_at: Instant | None = Field(
        default=None,
        description="As of when what it says holds (RFC 3339, with zone), for what may arrive out of order: a text "
        "that is older than the newest of its topic is `canceled` at once. Left out: as of being accepted.",
    )
    fingerprint: Fingerprint | None = Field(
        default=None,
        description="Only of what is sent again from rows that a failover set aside: the fingerprint that its sender's "
        "own request had (SHA-256, hexadecimal), which this one could not have. Leave it out.",
    )

    def content(self) -> object:
        """What it says, as its caller said it: what must agree when a reference is repeated."""
        return self.body


class PreviewRequest(Shape):
    """A text, to see how it would be sent."""

    body: str = Field(description="The text.")
    program: ProgramName | None = Field(
        default=None, description="With `to`: also tell by which carrier it would go."
    )
    to: str | None = Field(default=None, description="The customer's number, in E.164 form.")


class ListQuery(Shape):
    """Which messages to list."""

    reference: Reference | None = Field(default=None, description="With exactly this reference.")
    state: State | None = Field(
        default=None,
        description="In this state. One request looks at 10,000 messages at most, so a page may have few, or none, "
        "and still not be the last: go on while there is a `next_cursor`. A state that few are in is sooner "
        "found together with `since` or `to`.",
        strict=False,
    )
    to: str | None = Field(default=None, description="To this number (E.164).")
    since: Instant | None = Field(
        default=None, description="Accepted at or after this time (RFC 3339, with zone)."
    )
    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="At most so many.", strict=False)
    cursor: str | None = Field(
        default=None, max_length=40, description="`next_cursor` of the page before: what follows it."
    )


class DoubtsQuery(Shape):
    """Which texts in doubt to list."""

    term: int = Field(ge=1, le=2**53, description="The term in which they were claimed.", strict=False)
    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="At most so many.", strict=False)
    cursor: str | None = Field(
        default=None, max_length=40, description="`next_cursor` of the page before: what follows it."
    )


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AcceptedAnswer(Answer):
    """The promise: this message is on disk and will be accounted for."""

    id: UUID
    state: State
    reference: str | None
    segments: int = Field(ge=1, description="How many texts the carrier will count.")
    encoding: Encoding
    durability: StoredDurability = Field(description="Where it is on disk now.")
    site: str = Field(description="The site that took the request.")
    live_site: str | None = Field(description="The site that production ran in at that moment.")
    term: int = Field(description="Number of the leadership under which it was stored.")
    duplicate: Literal[True] | None = Field(
        default=None, description="Present when the reference was known: this is the first message."
    )


class FieldProblem(Answer):
    field: str = Field(description="Empty for the request as a whole.")
    message: str
    value: str | None = Field(default=None, description="What was refused, shortened.")


class ProblemAnswer(Answer):
    """Why a request was not served (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = Field(description="Names this very request; the logs know it.")
    errors: list[FieldProblem] | None = None


class LineProblem(Answer):
    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = None


class LineAnswer(Answer):
    """What became of one line. Either `id` and the rest, or `problem`."""

    line: int = Field(ge=1, description="Number of the line in the request, from 1.")
    status: int = Field(description="What a single request would have been answered with.")
    id: UUID | None = None
    state: State | None = None
    reference: str | None = None
    segments: int | None = None
    encoding: Encoding | None = None
    durability: StoredDurability | None = None
    duplicate: Literal[True] | None = None
    problem: LineProblem | None = None


class PartAnswer(Answer):
    """One segment of a message."""

    segment: int
    state: State
    attempts: int
    carrier: str | None
    carrier_message_id: str | None
    command_status: int | None = Field(description="The carrier's answer to `submit_sm`; 0 is yes.")
    command_status_text: str | None = Field(description="The same in words.")
    error: str | None = Field(description="The code of the carrier's receipt.")


class EventAnswer(Answer):
    at: datetime
    state: State
    segment: int | None
    detail: str


class RouteAnswer(Answer):
    """What one carrier is to a text, as the dispatcher that answers sees it now."""

    carrier: str
    may: bool = Field(description="Whether it would carry the text now.")
    reason: str = Field(examples=["may", "prefix", "down"])
    detail: str = Field(description="The same in words.")


class MessageAnswer(Answer):
    """A message and all that happened to it."""

    id: UUID
    state: State
    program: str
    to: str
    body: str
    reference: str | None
    class_: ClassName = Field(alias="class")
    encoding: Encoding
    segments: int
    attempts: int = Field(
        description="How often a segment was handed to a carrier, in all; of each segment 32,767 are counted at most."
    )
    accepted_at: datetime
    send_at: datetime | None
    expires_at: datetime | None
    on_doubt: OnDoubt
    topic: str | None
    topic_at: datetime | None = Field(description="As of when what it says holds, if that was told.")
    superseded_by: UUID | None = Field(
        description="The newer text of its topic, if one has come: what had not left by then is `canceled`, and the "
        "rest stays as it is."
    )
    parts: list[PartAnswer]
    events: list[EventAnswer]
    route: list[RouteAnswer] | None = Field(
        default=None,
        description="While some of it waits: every carrier, the likeliest first, and why it would carry it now, or "
        "not. Only of a single message.",
    )


class PageAnswer(Answer):
    """Messages, newest first."""

    messages: list[MessageAnswer]
    next_cursor: str | None = Field(
        description="Ask again with this as `cursor`, also after a page without messages; null on the last page."
    )


class DoubtAnswer(Answer):
    """A segment that came into doubt: it may have left, and no answer came."""

    id: UUID = Field(description="Of its message.")
    reference: str | None
    segment: int
    attempt: int = Field(description="Which attempt came into doubt.")
    carrier: str | None = Field(description="Where it was written; null when its dispatcher was lost.")
    at: datetime = Field(description="When it came into doubt.")
    state: State = Field(description="Its state now: `in_doubt`, or what has become of it.")


class DoubtsAnswer(Answer):
    """What came into doubt, in the order in which it did."""

    term: int
    doubts: list[DoubtAnswer]
    next_cursor: str | None = Field(description="Ask again with this as `cursor`; null on the last page.")


class OffendingAnswer(Answer):
    index: int
    character: str
    code_point: str = Field(examples=["U+2019"])
    name: str


class PriceAnswer(Answer):
    """What the text would cost at one carrier. Amounts are decimal numbers as text, so that they stay exact."""

    carrier: str
    per_segment: str = Field(examples=["0.0075"])
    total: str = Field(examples=["0.0150"])
    currency: str = Field(description="ISO 4217.", examples=["USD"])


class CostAnswer(Answer):
    """What is paid for."""

    segments: int = Field(description="Carriers charge by the segment.")
    prices: list[PriceAnswer] | None = Field(
        default=None,
        description="At each carrier whose price this site is told; left out when it is told none. Which carrier a "
        "text goes to is decided when it is sent.",
    )


class PreviewAnswer(Answer):
    """How a text would be sent."""

    encoding: Encoding
    segments: int = Field(description="How many texts the carrier will count.")
    units: int = Field(description="Septets (gsm) or 16-bit units (ucs2).")
    parts: list[str] = Field(description="The text of each segment.")
    offending: list[OffendingAnswer] = Field(
        description="The characters that keep the text out of GSM 03.38, and so make it cost more."
    )
    cost: CostAnswer
    too_long: bool = Field(description=f"More than {MAX_SEGMENTS} segments: it would be refused.")
    route: list[RouteAnswer] | None = Field(
        default=None,
        description="With `program` and `to`: every carrier, the likeliest first, and why it would carry the text now, "
        "or not.",
    )
