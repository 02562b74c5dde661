"""The shapes of templates and campaigns, as `schemas` has those of messages."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from dispatcher.campaigns.states import CampaignState
from dispatcher.campaigns.variables import Currency, Reading, Style, Type
from dispatcher.http.schemas import (
    Answer,
    ClassName,
    Instant,
    MessageRequest,
    PreviewAnswer,
    ProgramName,
    Reference,
    Shape,
    Topic,
)
from dispatcher.model import Encoding, OnDoubt, State

MAX_PAGE = 200
Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Values = dict[str, str]


class VariableShape(Shape):
    """A variable: what is taken for its value, and how it is written in the text."""

    name: str = Field(
        description="Small letters, digits and _; the list's column of that name has its values."
    )
    type: Type = Field(default=Type.TEXT, strict=False)
    default: str | None = Field(
        default=None, description="Stands in for an empty value, and for a column that is missing."
    )
    max_length: int | None = Field(
        default=None, description="text, url: characters, at most 500; 60 (url: 100) if left out."
    )
    decimals: int | None = Field(
        default=None, description="number: so many are written; as given if left out."
    )
    currency: Currency | None = Field(
        default=None, strict=False, description="amount: USD if left out; 1234.5 is refused, 1234.50 taken."
    )
    reading: Reading | None = Field(
        default=None, strict=False, description="date: how the list writes it; YYYY-MM-DD if left out."
    )
    style: Style | None = Field(
        default=None,
        strict=False,
        description="date: short (Jan 31), long (January 31, 2026), weekday (Sat, Jan 31), iso; time: 12h (5 pm), 24h "
        "(17:00).",
    )


class TemplateRequest(Shape):
    """A text with gaps, and what stands in them."""

    text: str = Field(
        description="`{name}` is the place of a variable's value; a brace of the text itself is written twice.",
        examples=["Power is back by {eta}, {name}."],
    )
    variables: list[VariableShape] = Field(default_factory=list, description="Each is used in the text.")


class TemplateAnswer(Answer):
    name: str
    text: str
    variables: list[VariableShape]
    at_most: "AtMostAnswer"
    created_at: datetime
    changed_at: datetime
    changed_by: str = Field(description="The first characters of the key.")


class AtMostAnswer(Answer):
    """What the longest values can make of the text."""

    encoding: Encoding
    segments: int


class TemplatesAnswer(Answer):
    templates: list[TemplateAnswer]
    next_cursor: str | None = Field(description="Ask again with this as `cursor`; null on the last page.")


class TemplatesQuery(Shape):
    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="At most so many.", strict=False)
    cursor: str | None = Field(default=None, max_length=100, description="`next_cursor` of the page before.")


class TemplatePreviewRequest(Shape):
    """A template and values. Either `template`, or `text` and `variables`."""

    template: Name | None = Field(default=None, description="The name of a stored one.")
    text: str | None = None
    variables: list[VariableShape] = Field(default_factory=list)
    vars: Values = Field(default_factory=dict, description="The values by name, as a list would have them.")


class TextPreviewAnswer(PreviewAnswer):
    """The text that these values make, and how it would be sent."""

    text: str
    at_most: AtMostAnswer


class CampaignRequest(Shape):
    """Either `template`, or `text` and `variables`."""

    program: ProgramName = Field(description="The name of the program that its texts belong to.")
    name: Name = Field(description="For people.")
    template: Name | None = Field(
        default=None,
        description="The name of a stored template, as it is now: changing it later changes nothing.",
    )
    text: str | None = None
    variables: list[VariableShape] = Field(default_factory=list)
    class_: ClassName | None = Field(
        default=None, alias="class", description="What goes first. The program's class if left out."
    )
    on_doubt: Literal["resend", "hold"] | None = Field(
        default=None, description="As of a message. The program's choice if left out."
    )
    start_at: Instant | None = Field(
        default=None, description="Once started, no text goes out before this time (RFC 3339, with zone)."
    )
    expires_at: Instant | None = Field(
        default=None, description="No text is sent after this time (RFC 3339, with zone)."
    )


class TemplatedMessageRequest(Shape):
    """A text to one customer, made of a stored template."""

    program: ProgramName = Field(description="The name of the program that it belongs to.")
    to: str = Field(description="The customer's number, in E.164 form.", examples=["+16145550123"])
    template: Name = Field(description="The name of the template.")
    vars: Values = Field(default_factory=dict, description="The values by name.")
    reference: Reference | None = Field(
        default=None,
        description="As of a text; template and values must agree, whatever became of the template.",
    )
    class_: ClassName | None = Field(default=None, alias="class", description="As of a text.")
    send_at: Instant | None = Field(default=None, description="As of a text.")
    expires_at: Instant | None = Field(default=None, description="As of a text.")
    on_doubt: Literal["resend", "hold"] | None = Field(default=None, description="As of a text.")
    topic: Topic | None = Field(default=None, description="As of a text.")
    topic_at: Instant | None = Field(default=None, description="As of a text.")


class RenderedMessage(MessageRequest):
    """A text that was made of a template: never read, made by us."""

    template: str
    vars: Values

    def content(self) -> object:
        return ["template", self.template, sorted(self.vars.items())]


class VarsRequest(Shape):
    """Values for the campaign's text."""

    vars: Values = Field(default_factory=dict)


class TestRequest(Shape):
    """A text of the campaign to one number: your own."""

    to: str = Field(description="In E.164 form.", examples=["+16145550123"])
    vars: Values = Field(default_factory=dict)


class ActAnswer(Answer):
    at: datetime
    act: str = Field(description="create, list, start, pause, resume, cancel, done.")
    by: str = Field(description="The first characters of the key; empty: the system itself.")


class CampaignAnswer(Answer):
    id: UUID
    name: str
    program: str
    state: CampaignState
    note: str | None = Field(description="Why it was paused, when nobody did that.")
    template: str | None
    text: str
    variables: list[VariableShape]
    class_: ClassName = Field(alias="class")
    on_doubt: OnDoubt
    start_at: datetime | None
    expires_at: datetime | None
    uploaded: bool = Field(description="Its list has come whole.")
    rows: int = Field(description="Of its list, good and bad.")
    texts: int = Field(description="Good rows.")
    bad_rows: int
    segments: int = Field(description="Of all texts together.")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None = Field(description="When it was done or canceled.")
    acts: list[ActAnswer] = Field(description="What was done with it: the last hundred, oldest first.")


class CampaignsAnswer(Answer):
    campaigns: list[CampaignAnswer]
    next_cursor: str | None = Field(description="Ask again with this as `cursor`; null on the last page.")


class CampaignsQuery(Shape):
    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="At most so many.", strict=False)
    cursor: str | None = Field(default=None, max_length=40, description="`next_cursor` of the page before.")


class ListUploadQuery(Shape):
    """How the list is to be read."""

    to: str = Field(default="to", max_length=100, description="The column that has the numbers.")
    delimiter: Literal["comma", "semicolon", "tab", "pipe"] | None = Field(
        default=None, description="The one that the first line has most of, if left out."
    )
    country: Literal["US"] | None = Field(
        default=None, description="US: numbers without + are North American, written as people write them."
    )
    topic: str | None = Field(
        default=None,
        max_length=100,
        description="The column that has the topics, as of a text; what it says holds as of the campaign's start. An "
        "empty cell: none.",
    )


class BadRowAnswer(Answer):
    line: int = Field(description="In the file, from 1.")
    column: str = Field(description="By name; empty when the whole row is meant.")
    reason: str
    value: str = Field(description="What was refused, shortened.")


class ListAnswer(Answer):
    """What was read of a list. The bad rows are all in the report."""

    texts: int
    segments: int
    bad_rows: int
    bad: list[BadRowAnswer] = Field(description="The first 1,000 of them.")
    blank_lines: int
    ignored_columns: list[str] = Field(description="The text has no use for them.")


class ProgressAnswer(Answer):
    state: CampaignState
    note: str | None
    texts: int
    waiting: int = Field(description="Texts that are not in the queue yet.")
    in_queue: int = Field(description="Texts in the queue that were not handed to a carrier yet.")
    left: int = Field(description="Texts that were handed to a carrier, or came to an end without.")
    by_state: dict[State, int] = Field(description="Messages by state, of those that came into the queue.")
    counted_at: datetime | None = Field(
        description="`by_state` is at least as new as this; null: it will not change any more."
    )
    rate: float = Field(description="Texts that go into the queue in a second, over the last half minute.")
    seconds_left: float | None = Field(
        description="Until the last one goes in, at this rate; null: not known."
    )


class ReportAnswer(Answer):
    """What became of a campaign. Its rows are in `report.csv`."""

    campaign: CampaignAnswer
    progress: ProgressAnswer
    refused: int = Field(description="Texts whose reference had been used for something else: never sent.")


TemplateAnswer.model_rebuild()
