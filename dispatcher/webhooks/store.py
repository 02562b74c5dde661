"""What webhooks ask of the store. As in `dispatcher.store`, each method is one known commit and may be repeated."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from dispatcher.webhooks.model import (
    Batch,
    DeadLetter,
    FeedPage,
    NewWebhook,
    OpenWebhookClaim,
    Position,
    Round,
    Settlement,
    Webhook,
    WebhookClaim,
    WebhookCounts,
)


class WebhookAccountStore(Protocol):
    """What accounts ask for."""

    async def feed_page(self, term: int, account_id: int, position: Position | None, limit: int) -> FeedPage:
        """The account's events after a position; without one nothing yet, and the position of now.

        Events are kept from the first look, or the first webhook, on.
        """
        ...

    async def create_webhook(self, term: int, new: NewWebhook, most: int) -> Webhook | None:
        """It is told what happens from now on. None when the account has `most` already."""
        ...

    async def webhooks(self, term: int, account_id: int, webhook_id: UUID | None = None) -> Sequence[Webhook]:
        """Oldest first."""
        ...

    async def change_webhook(
        self,
        term: int,
        account_id: int,
        webhook_id: UUID,
        *,
        url: str | None = None,
        description: str | None = None,
        kinds: Sequence[str] | None = None,
        enabled: bool | None = None,
        skip: bool = False,
    ) -> Webhook | None:
        """Change what is named. `skip`: what has happened so far, and was not taken, is not told any more."""
        ...

    async def delete_webhook(self, term: int, account_id: int, webhook_id: UUID) -> bool: ...

    async def rotate_webhook_secret(
        self, term: int, account_id: int, webhook_id: UUID, secret: bytes, overlap_s: float
    ) -> Webhook | None:
        """The old secret signs beside the new one for `overlap_s`."""
        ...

    async def test_webhook(
        self, term: int, account_id: int, webhook_id: UUID, event_id: UUID, kind: str, body: str
    ) -> bool:
        """Have a test posted at once. False when there is no such endpoint, or it is switched off."""
        ...

    async def webhook_rounds(
        self, term: int, account_id: int, webhook_id: UUID, *, before: int | None = None, limit: int = 20
    ) -> Sequence[Round]:
        """Newest first; the last twenty are kept."""
        ...

    async def dead_letters(
        self, term: int, account_id: int, webhook_id: UUID, *, after: int = 0, limit: int = 50
    ) -> Sequence[DeadLetter]:
        """In the order in which they happened."""
        ...

    async def replay_letters(
        self, term: int, account_id: int, webhook_id: UUID, event_id: UUID | None, limit: int
    ) -> int:
        """Dead letters are tried again as if they had happened now. Returns how many."""
        ...


class WebhookPostingStore(Protocol):
    """What the poster asks for."""

    async def webhook_claims(self, term: int) -> Sequence[OpenWebhookClaim]: ...

    async def claim_webhooks(
        self,
        term: int,
        dispatcher: str,
        claim_for_s: float,
        limit: int,
        *,
        holding: Sequence[int] = (),
        waited_out: Sequence[OpenWebhookClaim] = (),
    ) -> Sequence[WebhookClaim]:
        """Claim endpoints that have something due and are nobody's, those that were served longest ago first.

        Also those whose claim was waited out unchanged, and those that exactly this `dispatcher` has claimed without
        knowing it (`holding`: those that it knows of).
        """
        ...

    async def webhook_batch(
        self, term: int, claim_id: int, number: int, limit: int, trial_limit: int
    ) -> Batch | None:
        """Begin round `number` of a claim, or ask for it again. None: it is not held any more, nothing may be posted.

        Of an endpoint that fails no more than `trial_limit`.
        """
        ...

    async def settle_webhook(self, settled: Settlement) -> bool:
        """Needs no term. False when the claim is not held any more: then nothing was written."""
        ...

    async def webhook_counts(self, term: int) -> WebhookCounts: ...

    async def tidy_feed(self, term: int, limit: int, kept_s: float, letters_s: float) -> int:
        """Forget events that are older than `kept_s`, and letters dead for `letters_s`. Returns how many events."""
        ...


class WebhookStore(WebhookAccountStore, WebhookPostingStore, Protocol):
    """Both."""
