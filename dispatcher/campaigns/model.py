"""The values of campaigns that pass between HTTP, the store and the feeder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from dispatcher.campaigns.states import CampaignState
from dispatcher.model import Encoding, MessageClass, OnDoubt, State

BATCH_TEXTS: Final = 500  # rows of a list that are stored, moved and counted together
MOST_ROWS: Final = 1_000_000  # of a list
# What a fed text may still become: the others are final.
OPEN_STATES: Final = frozenset(
    {
        State.ACCEPTED,
        State.HELD,
        State.SCHEDULED,
        State.QUEUED,
        State.SUBMITTING,
        State.SUBMITTED,
        State.IN_DOUBT,
    }
)


@dataclass(frozen=True, slots=True)
class Text:
    """A row that can be sent."""

    line: int
    to: str
    body: str
    encoding: Encoding
    segments: int
    topic: str | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    line: int
    column: str  # the column's name as the file has it, or its number; empty when the whole row is meant
    reason: str
    value: str  # shortened


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some rows of a list, stored in one row."""

    number: int  # from 1
    texts: Sequence[Text]  # at most BATCH_TEXTS
    bad: Sequence[BadRow]


@dataclass(frozen=True, kw_only=True)
class StoredTemplate:
    name: str
    text: str
    variables: Sequence[Mapping[str, Any]]  # as `variables.Variable.as_json` has them
    created_at: datetime
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True, kw_only=True)
class NewCampaign:
    """A checked campaign, before it is stored. The text stays as it is, whatever becomes of the template."""

    id: UUID  # version 7
    account_id: int
    program_id: int
    name: str
    template: str | None  # the name of the one it was made from
    text: str
    variables: Sequence[Mapping[str, Any]]
    message_class: MessageClass
    on_doubt: OnDoubt
    start_at: datetime | None = None
    expires_at: datetime | None = None
    created_by: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """What was done with a campaign."""

    at: datetime
    act: str
    by: str  # the first characters of a key; empty: the system itself


@dataclass(frozen=True, kw_only=True)
class Campaign:
    id: UUID
    account_id: int
    program_id: int
    program: str
    name: str
    template: str | None
    text: str
    variables: Sequence[Mapping[str, Any]]
    message_class: MessageClass
    on_doubt: OnDoubt
    state: CampaignState
    uploaded: bool  # its list has come whole
    batches: int
    fed_batches: int
    to_sweep: int  # once canceled: batches that may hold texts that have not left
    texts: int
    bad: int
    segments: int
    fed: int
    created_at: datetime
    start_at: datetime | None
    expires_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    note: str | None  # why it stands, when nobody paused it
    acts: tuple[Done, ...]  # the last hundred, oldest first


@dataclass(frozen=True, kw_only=True)
class Fed:
    campaign_id: UUID
    texts: int  # 0: it came to its end, or stands; see its state


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of the fed texts of a campaign."""

    by_state: Mapping[State, int]
    counted_at: datetime | None  # the oldest count among what is not final; None when all is
    due: int  # batches whose count is old enough to be made anew
    at: datetime  # of this look, by the store's clock
    rate: float  # texts a second, of late


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """A row of a list. Without `message_id` it was not fed; with a `reason` it is bad."""

    line: int
    to: str | None = None
    message_id: UUID | None = None
    state: State | None = None
    segments: int | None = None
    accepted_at: datetime | None = None
    updated_at: datetime | None = None
    carrier: str | None = None
    error: str | None = None
    bad_column: str | None = None
    reason: str | None = None
    value: str | None = None


def reference(campaign_id: UUID, line: int) -> str:
    """The reference of a list's row, whoever feeds it and however often."""
    return f"campaign/{campaign_id}/{line}"
