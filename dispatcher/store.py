"""What the message path asks of its store, and what an answer promises.

Each method that changes something is one transaction with a synchronous commit. It returns only when that
commit is *known* to be on disk everywhere it must be; otherwise it raises `replication.session.CommitUnknown`
(unknown is not no: repeat with the same arguments, each is safe to repeat) or `NotLeader` (nothing was done).
`find` and `read` tell of rows, so they end in such a commit too (failover rule 5).

Two implementations: `postgres_store.PostgresStore` (one warm connection each) and `memory_store.MemoryStore`;
tests/conformance runs one suite on both.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from dispatcher.campaigns.store import CampaignStore
from dispatcher.model import (
    ApiKey,
    Claim,
    DoubtPage,
    Group,
    Held,
    MessageClass,
    MessageView,
    NewMessage,
    OpenClaim,
    Page,
    Program,
    QueueCounts,
    Receipt,
    Reply,
    ReplyPart,
    State,
    SubmitResult,
)
from dispatcher.webhooks.store import WebhookStore

MAX_PARTS: Final = 20_000  # of replies, that wait for others
JOINED_AT_ONCE: Final = 200  # texts


class DispatcherError(Exception):
    """Root of what the dispatcher raises on purpose."""


class NotLeader(DispatcherError):
    """This server does not lead in the caller's term (or is not open yet): nothing was done; look who leads."""


class MessageStore(Protocol):
    """What the API asks for."""

    async def accept(self, term: int, rows: Sequence[NewMessage]) -> Group:
        """Store a group in one commit. Duplicates (by account and reference, or by id) answer with the first."""
        ...

    async def read(self, term: int, account_id: int, message_id: UUID) -> MessageView | None: ...

    async def find(
        self,
        term: int,
        account_id: int,
        *,
        reference: str | None = None,
        state: State | None = None,
        to: str | None = None,
        since: datetime | None = None,
        after: UUID | None = None,
        limit: int = 50,
    ) -> Page:
        """Newest first (ids are time-ordered), accepted at or after `since`.

        `after` is the cursor: `reached` of the previous page.
        """
        ...

    async def doubts(
        self, term: int, account_id: int, *, of_term: int, after: int = 0, limit: int = 50
    ) -> DoubtPage:
        """Which of the account's segments claims of `of_term` left in doubt, settled or not."""
        ...

    async def cancel(self, term: int, account_id: int, message_id: UUID) -> MessageView | None:
        """Cancel the segments that have not left; returns the message as it then is."""
        ...


class SendingStore(Protocol):
    """Claims, and what became of them."""

    async def claim(
        self,
        term: int,
        dispatcher: str,
        limit: int,
        claim_for_s: float,
        *,
        down_to: MessageClass = MessageClass.MARKETING,
    ) -> Sequence[Claim]:
        """Claim up to `limit` queued segments, emergency first. Committed before it returns.

        Inside a class accounts take turns, each with its oldest; the next claim goes on where this one ended.
        `down_to`: of no class behind this one. What is past its `expires_at` is never claimed; `release_due`
        makes that final.
        """
        ...

    async def settle(self, results: Sequence[SubmitResult]) -> None:
        """What became of claimed segments. Needs no term: matched by claim, segment and attempt; an answer to an
        attempt that was given up meanwhile settles its doubt (SUBMITTED) or is ignored. Parked receipts apply.
        """
        ...

    async def open_claims(self, term: int) -> Sequence[OpenClaim]: ...

    async def claimed_by(self, term: int, dispatcher: str) -> Sequence[Held]:
        """What is still `submitting` under claims of exactly this `dispatcher`."""
        ...

    async def give_up_claims(self, term: int, claim_ids: Sequence[int]) -> int:
        """What is still `submitting` under these claims becomes `in_doubt`; returns how many segments."""
        ...

    async def return_claims(self, term: int, dispatcher: str, claim_ids: Sequence[int]) -> int:
        """What is still `submitting` under these claims of exactly this `dispatcher` goes back to `queued`.

        For claims whose commit was unknown to the one that made them: their rows never reached it, so nothing
        of them can have been written to a link. Returns how many segments.
        """
        ...


class ReceiptStore(Protocol):
    """What carriers tell."""

    async def receipts(self, rows: Sequence[Receipt]) -> None:
        """Needs no term. Unknown ids are parked, and settle a doubt when exactly one candidate fits."""
        ...

    async def replies(self, rows: Sequence[Reply]) -> None: ...

    async def reply_parts(self, rows: Sequence[ReplyPart]) -> None:
        """Needs no term. A text that is whole now is stored as a reply."""
        ...

    async def finish_received(self, wait_s: float, limit: int) -> int:
        """Texts whose missing parts were waited for long enough are stored as what came of them; returns how many.

        Needs no term. More than MAX_PARTS parts do not wait: then the oldest texts go first.
        """
        ...


class ClockworkStore(Protocol):
    """What time brings, and the numbers, programs and keys that are looked at again and again."""

    async def is_open(self, term: int, canary_max_age_s: float | None = None) -> bool:
        """Whether this server leads in `term` and has let dispatchers in; with a canary no older than that, if given.

        The canary's age is told by the database's clock.
        """
        ...

    async def resend_doubtful(self, term: int, grace_s: float, limit: int) -> int:
        """Segments in doubt longer than the grace, whose program resends, once: queued again as a new attempt."""
        ...

    async def release_due(self, term: int, limit: int, *, clock_agrees: bool = True) -> int:
        """`scheduled` whose time has come → `queued`; `queued` past `expires_at` → `expired`. Returns how many.

        None while the leader's clock does not agree with the others'. Upkeep that depends on no clock is done all
        the same.
        """
        ...

    async def counts(self, term: int) -> QueueCounts: ...

    async def programs(self, term: int) -> Sequence[Program]: ...

    async def api_keys(self, term: int) -> Sequence[ApiKey]: ...


class Store(MessageStore, SendingStore, ReceiptStore, ClockworkStore, CampaignStore, WebhookStore, Protocol):
    """All of it, on one connection."""

    async def aclose(self) -> None: ...
