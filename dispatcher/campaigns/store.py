"""What campaigns ask of the store. As in `dispatcher.store`, each method is one known commit and may be repeated."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from dispatcher.campaigns.model import Batch, Campaign, Counts, Fed, NewCampaign, ReportRow, StoredTemplate
from dispatcher.campaigns.states import Act


class TemplateStore(Protocol):
    async def save_template(
        self,
        term: int,
        account_id: int,
        name: str,
        text: str,
        variables: Sequence[dict[str, object]],
        by: str,
    ) -> StoredTemplate:
        """Store it, or put it in the place of the one of that name."""
        ...

    async def templates(
        self,
        term: int,
        account_id: int,
        *,
        name: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> Sequence[StoredTemplate]:
        """In the order of names."""
        ...

    async def delete_template(self, term: int, account_id: int, name: str) -> bool: ...


class CampaignStore(TemplateStore, Protocol):
    async def create_campaign(self, term: int, new: NewCampaign) -> Campaign: ...

    async def campaigns(
        self,
        term: int,
        account_id: int,
        *,
        campaign_id: UUID | None = None,
        before: UUID | None = None,
        limit: int = 50,
    ) -> Sequence[Campaign]:
        """Newest first."""
        ...

    async def begin_list(self, term: int, account_id: int, campaign_id: UUID) -> int | None:
        """Forget what was sent of a list, and return the number of a new one. None when the campaign is no draft."""
        ...

    async def add_to_list(
        self, term: int, account_id: int, campaign_id: UUID, upload: int, batches: Sequence[Batch]
    ) -> bool:
        """False when another list was begun since, or the campaign is no draft any more."""
        ...

    async def end_list(
        self, term: int, account_id: int, campaign_id: UUID, upload: int, batches: int, by: str
    ) -> Campaign | None:
        """The list is whole if it has so many batches; the campaign's `uploaded` tells."""
        ...

    async def change_campaign(
        self, term: int, account_id: int, campaign_id: UUID, act: Act, by: str
    ) -> Campaign | None:
        """Carry out an act where its step allows it (`states.STEPS`); the campaign as it then is tells whether it did.

        Only a whole list with a text in it can be started.
        """
        ...

    async def sweep_campaigns(self, term: int, campaign_id: UUID | None, batches: int) -> int:
        """Cancel some of what has not left of canceled campaigns. Returns how many batches are to be looked at yet."""
        ...

    async def feed_campaign(
        self, term: int, first: UUID, batches: int, ahead: int, *, clock_agrees: bool = True
    ) -> Fed | None:
        """Put the next texts of a running campaign into the queue, up to so many batches.

        The messages get ids that follow from `first`, a version 7 UUID that was made just now.

        Of the campaigns of which no more than `ahead` batches wait in the queue, the one that was fed longest ago.
        One whose last batch has left is done. None when there is nothing to do now. Without `clock_agrees` nothing
        begins because its `start_at` has come.
        """
        ...

    async def count_campaign(
        self,
        term: int,
        account_id: int,
        campaign_id: UUID,
        batches: int,
        *,
        since: datetime | None = None,
    ) -> Counts:
        """Count some batches of what is not final anew, and tell the sums.

        With `since` those that were not counted since then, until none is `due`; without it those that were not looked
        at for a while: the longer ago a batch was fed the less often.
        """
        ...

    async def campaign_rows(
        self, term: int, account_id: int, campaign_id: UUID, after: int, batches: int
    ) -> Sequence[ReportRow]:
        """The rows of so many batches after number `after`, in the order of lines."""
        ...
