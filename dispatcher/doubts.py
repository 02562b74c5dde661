"""What came into doubt in a term, and what an operator decides about it: the operator's side of `in_doubt`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from dispatcher.migrate import KNOWN_WITHIN_S, at_leader
from dispatcher.model import State
from dispatcher.sql import queries
from dispatcher.store import DispatcherError
from replication.session import Session
from sitecontrol.settings import Secrets, Settings


class Decision(StrEnum):
    RESEND = "resend"  # sent once more: it may arrive twice
    LET_GO = "let-go"  # nobody waits for a receipt any more: `unknown`


class NothingInDoubtError(DispatcherError):
    """None of these is in doubt (any more)."""


@dataclass(frozen=True, kw_only=True)
class KnownDoubt:
    """A segment that came into doubt, and its state now. Times are UTC."""

    account: str
    message_id: UUID
    reference: str | None
    segment: int
    attempt: int
    carrier: str | None  # where it was written; null when its dispatcher was lost
    at: datetime
    term: int
    state: str
    on_doubt: str

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "message_id": str(self.message_id),
            "at": self.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        }


async def list_doubts(session: Session, term: int, account: str | None = None) -> list[KnownDoubt]:
    """What claims of `term` left in doubt, in the order in which it became so, settled or not."""
    rows = await session.read(queries()["known_doubts"], term, account, timeout=KNOWN_WITHIN_S)
    return [KnownDoubt(**row) for row in rows]


async def decide(session: Session, messages: Sequence[UUID], decision: Decision) -> list[tuple[UUID, int]]:
    """Which segments are decided now. Raises NothingInDoubtError, CommitUnknown (look, then repeat)."""
    rows = await session.commit(
        queries()["decide_doubts"], list(messages), decision is Decision.RESEND, timeout=KNOWN_WITHIN_S
    )
    if not rows:
        raise NothingInDoubtError
    return [(row["message_id"], row["segment"]) for row in rows]


def still_open(doubts: Sequence[KnownDoubt]) -> list[KnownDoubt]:
    return [one for one in doubts if one.state == State.IN_DOUBT]


async def list_doubts_by_settings(
    settings: Settings, secrets: Secrets, *, term: int, account: str | None
) -> Sequence[KnownDoubt]:
    """The command `doubts list`: at whichever node leads."""
    async with at_leader(settings, secrets) as session:
        return await list_doubts(session, term, account)


async def decide_by_settings(
    settings: Settings, secrets: Secrets, *, messages: Sequence[UUID], decision: Decision
) -> list[tuple[UUID, int]]:
    """The command `doubts decide`."""
    async with at_leader(settings, secrets) as session:
        return await decide(session, messages, decision)
