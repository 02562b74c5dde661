"""Campaigns: their templates, lists, and how they are fed into the queue."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from dispatcher.campaigns.model import (
    Batch,
    Campaign,
    Counts,
    Done,
    Fed,
    NewCampaign,
    ReportRow,
    StoredTemplate,
)
from dispatcher.campaigns.states import STEPS, Act, CampaignState
from dispatcher.model import MessageClass, OnDoubt, State
from dispatcher.postgres_store.statements import Statements


class Campaigns(Statements):
    async def save_template(
        self,
        term: int,
        account_id: int,
        name: str,
        text: str,
        variables: Sequence[dict[str, object]],
        by: str,
    ) -> StoredTemplate:
        [row] = await self._commit("save_template", term, account_id, name, text, as_json(variables), by)
        return _template(row)

    async def templates(
        self,
        term: int,
        account_id: int,
        *,
        name: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> Sequence[StoredTemplate]:
        return [
            _template(row) for row in await self._commit("templates", term, account_id, name, after, limit)
        ]

    async def delete_template(self, term: int, account_id: int, name: str) -> bool:
        return await self._count("delete_template", term, account_id, name) > 0

    async def create_campaign(self, term: int, new: NewCampaign) -> Campaign:
        """Raises asyncpg.ForeignKeyViolationError when the program is not the account's."""
        [row] = await self._commit(
            "create_campaign",
            term,
            new.account_id,
            new.id,
            new.program_id,
            new.name,
            new.template,
            new.text,
            as_json(new.variables),
            new.message_class,
            new.on_doubt,
            new.start_at,
            new.expires_at,
            new.created_by,
        )
        return _campaign(row)

    async def campaigns(
        self,
        term: int,
        account_id: int,
        *,
        campaign_id: UUID | None = None,
        before: UUID | None = None,
        limit: int = 50,
    ) -> Sequence[Campaign]:
        rows = await self._commit("campaigns", term, account_id, campaign_id, before, limit)
        return [_campaign(row) for row in rows]

    async def begin_list(self, term: int, account_id: int, campaign_id: UUID) -> int | None:
        [[upload]] = await self._commit("begin_list", term, account_id, campaign_id)
        return None if upload is None else int(upload)

    async def add_to_list(
        self, term: int, account_id: int, campaign_id: UUID, upload: int, batches: Sequence[Batch]
    ) -> bool:
        [[taken]] = await self._commit(
            "add_to_list",
            term,
            account_id,
            campaign_id,
            upload,
            [batch.number for batch in batches],
            [len(batch.texts) for batch in batches],
            [sum(text.segments for text in batch.texts) for batch in batches],
            [len(batch.bad) for batch in batches],
            [_texts(batch) for batch in batches],
            [_bad(batch) for batch in batches],
        )
        return bool(taken)

    async def end_list(
        self, term: int, account_id: int, campaign_id: UUID, upload: int, batches: int, by: str
    ) -> Campaign | None:
        rows = await self._commit("end_list", term, account_id, campaign_id, upload, batches, by)
        return _campaign(rows[0]) if rows else None

    async def change_campaign(
        self, term: int, account_id: int, campaign_id: UUID, act: Act, by: str
    ) -> Campaign | None:
        step = STEPS[act]
        rows = await self._commit(
            "change_campaign", term, account_id, campaign_id, sorted(step.source), step.target, act, by
        )
        return _campaign(rows[0]) if rows else None

    async def sweep_campaigns(self, term: int, campaign_id: UUID | None, batches: int) -> int:
        return await self._count("sweep_campaigns", term, campaign_id, batches)

    async def feed_campaign(
        self, term: int, first: UUID, batches: int, ahead: int, *, clock_agrees: bool = True
    ) -> Fed | None:
        rows = await self._commit("feed_campaign", term, first, batches, ahead, clock_agrees)
        return Fed(campaign_id=rows[0]["campaign_id"], texts=rows[0]["fed"]) if rows else None

    async def count_campaign(
        self,
        term: int,
        account_id: int,
        campaign_id: UUID,
        batches: int,
        *,
        since: datetime | None = None,
    ) -> Counts:
        [row] = await self._commit("count_campaign", term, account_id, campaign_id, batches, since)
        return Counts(
            by_state={
                State(state): total
                for state, total in zip(row["states"] or (), row["totals"] or (), strict=True)
            },
            counted_at=row["counted_at"],
            due=row["due"],
            at=row["at"],
            rate=row["rate"] or 0.0,
        )

    async def campaign_rows(
        self, term: int, account_id: int, campaign_id: UUID, after: int, batches: int
    ) -> Sequence[ReportRow]:
        return [
            ReportRow(
                line=row["line"],
                to=row["recipient"],
                message_id=row["message_id"],
                state=None if row["state"] is None else State(row["state"]),
                segments=row["segments"],
                accepted_at=row["accepted_at"],
                updated_at=row["updated_at"],
                carrier=row["carrier"],
                error=row["error"],
                bad_column=row["bad_column"],
                reason=row["reason"],
                value=row["value"],
            )
            for row in await self._commit("campaign_rows", term, account_id, campaign_id, after, batches)
        ]


def as_json(value: object) -> str:
    return orjson.dumps(value).decode()


def _texts(batch: Batch) -> str:
    texts = batch.texts
    return as_json(
        {
            "line": [text.line for text in texts],
            "to": [text.to for text in texts],
            "body": [text.body for text in texts],
            "encoding": [text.encoding for text in texts],
            "segments": [text.segments for text in texts],
        }
        | ({"topic": [text.topic for text in texts]} if any(text.topic for text in texts) else {})
    )


def _bad(batch: Batch) -> str | None:
    if not batch.bad:
        return None
    return as_json([(row.line, row.column, row.reason, _storable(row.value)) for row in batch.bad])


def _storable(value: str) -> str:
    """Without what PostgreSQL cannot take out of JSON."""
    return value.replace("\0", "\ufffd")


def _template(row: asyncpg.Record) -> StoredTemplate:
    told = dict(row)
    del told["account_id"]
    return StoredTemplate(**told | {"variables": orjson.loads(told["variables"])})


def _campaign(row: asyncpg.Record) -> Campaign:
    told: dict[str, Any] = dict(row)
    del told["upload"]
    acts = orjson.loads(told["acts"])
    return Campaign(
        **told
        | {
            "id": told.pop("campaign_id"),
            "message_class": MessageClass(told.pop("class")),
            "on_doubt": OnDoubt(told["on_doubt"]),
            "state": CampaignState(told["state"]),
            "variables": orjson.loads(told["variables"]),
            "acts": tuple(Done(at=datetime.fromisoformat(at), act=act, by=by) for at, act, by in acts),
        }
    )
