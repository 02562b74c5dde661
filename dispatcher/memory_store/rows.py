"""The rows of `memory_store`, and how a receipt finds the one that it is about."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from dispatcher.carrier_ids import CarrierId, carrier_id
from dispatcher.doubt import SHORTEST_NUMBER, Candidate, digits
from dispatcher.model import NewMessage, OpenClaim, Program, Receipt, SegmentView, State


@dataclass(kw_only=True)
class Segment:
    """A row of `delivery`, with its doubts."""

    message: NewMessage
    number: int
    state: State
    updated_at: datetime
    attempt: int = 0
    resent: bool = False
    claim_id: int | None = None
    next_try_at: datetime | None = None
    submitted_at: datetime | None = None
    carrier: str | None = None
    carrier_message_id: str | None = None
    command_status: int | None = None
    error: str | None = None
    doubts: dict[int, datetime] = field(default_factory=dict)  # attempt → since

    @property
    def unnamed(self) -> bool:
        """Whether its carrier took it without telling an id: no receipt can name it."""
        return self.state is State.SUBMITTED and not self.carrier_message_id

    @property
    def age(self) -> tuple[int, UUID, int]:
        """The order of claiming."""
        return self.message.message_class, self.message.id, self.number

    @property
    def view(self) -> SegmentView:
        return SegmentView(
            segment=self.number,
            state=self.state,
            attempts=self.attempt,
            carrier=self.carrier,
            carrier_message_id=self.carrier_message_id,
            command_status=self.command_status,
            error=self.error,
        )


@dataclass(frozen=True, kw_only=True)
class OpenedClaim:
    claim: OpenClaim
    claimed_at: datetime


@dataclass(frozen=True, kw_only=True)
class Doubted:
    """That a segment came into doubt."""

    number: int
    segment: Segment
    attempt: int
    term: int
    carrier: str | None
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Submission:
    """An attempt that a carrier took."""

    segment: Segment
    attempt: int
    carrier: str
    id: CarrierId
    at: datetime


@dataclass(frozen=True, kw_only=True)
class KeptEvent:
    """A line of an account's feed: of a segment as it was then, or of a customer's text by its number."""

    number: int
    id: UUID
    at: datetime
    message_id: UUID | None
    view: SegmentView | None
    before: State | None
    reply: int | None


@dataclass(frozen=True, kw_only=True)
class Parked:
    number: int
    receipt: Receipt
    at: datetime


def named_by(receipt: Receipt, submissions: Iterable[Submission]) -> Submission | None:
    """The attempt whose id the receipt names: as written, else in canonical form, else in another reading.

    Ids come round again, so the newest is meant; in another reading exactly one may fit.
    """
    named, customer = carrier_id(receipt.carrier_message_id), digits(receipt.source)
    if not named.canonical:
        return None
    as_written, canonical, other = [], [], []
    for sent in submissions:
        fits = sent.segment.message.to.endswith(customer)
        if sent.carrier != receipt.carrier or not fits or sent.id.canonical not in named.readings:
            continue
        if sent.id.written == named.written:
            as_written.append(sent)
        elif sent.id.canonical == named.canonical:
            canonical.append(sent)
        else:
            other.append(sent)
    if best := as_written or canonical:
        return max(best, key=lambda sent: sent.at)
    return other[0] if len(other) == 1 else None


def candidates(
    parked: Iterable[Parked],
    segments: Iterable[Segment],
    claims: Mapping[int, OpenedClaim],
    programs: Mapping[int, Program],
) -> Iterator[Candidate]:
    """Parked receipts beside the open segments whose numbers end alike, for `dispatcher.doubt` to judge."""
    open_segments = [s for s in segments if s.doubts or s.unnamed or s.state is State.SUBMITTING]
    for one in parked:
        receipt, customer = one.receipt, digits(one.receipt.source)
        for segment in open_segments:
            message = segment.message
            claimed = claims.get(segment.claim_id or 0)
            if (
                message.to[-SHORTEST_NUMBER:] == customer[-SHORTEST_NUMBER:]
                and not (segment.unnamed and segment.carrier != receipt.carrier)
                and claimed is not None
                and claimed.claimed_at <= one.at
            ):
                yield Candidate(
                    parked_id=one.number,
                    carrier=receipt.carrier,
                    written=receipt.carrier_message_id,
                    customer=customer,
                    destination=receipt.destination,
                    text=receipt.text,
                    message_id=message.id,
                    segment=segment.number,
                    in_doubt=segment.state is not State.SUBMITTING,
                    recipient=message.to,
                    source=programs[message.program_id].source,
                    encoding=message.encoding,
                    body=message.body,
                )
