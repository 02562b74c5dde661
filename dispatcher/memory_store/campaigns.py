"""Campaigns: what their functions in SQL mean, in the plainest way."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

import asyncpg

from dispatcher.campaigns.model import (
    OPEN_STATES,
    Batch,
    Campaign,
    Counts,
    Done,
    Fed,
    NewCampaign,
    ReportRow,
    StoredTemplate,
    reference,
)
from dispatcher.campaigns.states import STEPS, Act, CampaignState
from dispatcher.memory_store.messages import Messages
from dispatcher.model import NewMessage, State, Verdict
from dispatcher.story import roll_up
from sitecontrol.clock import Clock

RATE_OVER = timedelta(seconds=30)
# What is in doubt is not sent again.
TO_CANCEL = frozenset({State.ACCEPTED, State.HELD, State.SCHEDULED, State.QUEUED, State.IN_DOUBT})
WAITING = frozenset({State.ACCEPTED, State.QUEUED})


@dataclass(kw_only=True)
class FedBatch:
    batch: Batch
    fed_at: datetime | None = None
    messages: list[UUID] = field(default_factory=list)


@dataclass(kw_only=True)
class Row:
    told: Campaign
    upload: int = 0
    fed_at: datetime | None = None
    batches: dict[int, FedBatch] = field(default_factory=dict)  # by number


class Campaigns(Messages):
    def __init__(self, clock: Clock | None = None, *, term: int = 1) -> None:
        super().__init__(clock, term=term)
        self._kept_templates: dict[tuple[int, str], StoredTemplate] = {}
        self._kept_campaigns: dict[UUID, Row] = {}

    # -- templates

    async def save_template(
        self,
        term: int,
        account_id: int,
        name: str,
        text: str,
        variables: Sequence[dict[str, object]],
        by: str,
    ) -> StoredTemplate:
        self._check(term)
        now = self._clock.wall()
        before = self._kept_templates.get((account_id, name))
        stored = StoredTemplate(
            name=name,
            text=text,
            variables=list(variables),
            created_at=now if before is None else before.created_at,
            changed_at=now,
            changed_by=by,
        )
        self._kept_templates[account_id, name] = stored
        return stored

    async def templates(
        self,
        term: int,
        account_id: int,
        *,
        name: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> Sequence[StoredTemplate]:
        self._check(term)
        found = (
            template
            for (account, known), template in sorted(self._kept_templates.items())
            if account == account_id and name in {None, known} and (after is None or known > after)
        )
        return list(found)[:limit]

    async def delete_template(self, term: int, account_id: int, name: str) -> bool:
        self._check(term)
        return self._kept_templates.pop((account_id, name), None) is not None

    # -- making a campaign and its list

    async def create_campaign(self, term: int, new: NewCampaign) -> Campaign:
        self._check(term)
        program = self._programs.get(new.program_id)
        if program is None or program.account_id != new.account_id:
            raise asyncpg.ForeignKeyViolationError("a campaign names a program that is not its account's")
        if new.id not in self._kept_campaigns:
            told = Campaign(
                id=new.id,
                account_id=new.account_id,
                program_id=new.program_id,
                program=program.name,
                name=new.name,
                template=new.template,
                text=new.text,
                variables=list(new.variables),
                message_class=new.message_class,
                on_doubt=new.on_doubt,
                state=CampaignState.DRAFT,
                uploaded=False,
                batches=0,
                fed_batches=0,
                to_sweep=0,
                texts=0,
                bad=0,
                segments=0,
                fed=0,
                created_at=self._clock.wall(),
                start_at=new.start_at,
                expires_at=new.expires_at,
                started_at=None,
                ended_at=None,
                note=None,
                acts=(),
            )
            self._kept_campaigns[new.id] = Row(told=told)
            self._act(self._kept_campaigns[new.id], "create", new.created_by)
        return self._kept_campaigns[new.id].told

    async def campaigns(
        self,
        term: int,
        account_id: int,
        *,
        campaign_id: UUID | None = None,
        before: UUID | None = None,
        limit: int = 50,
    ) -> Sequence[Campaign]:
        self._check(term)
        found = (
            row.told
            for known, row in sorted(self._kept_campaigns.items(), reverse=True)
            if row.told.account_id == account_id
            and campaign_id in {None, known}
            and (before is None or known < before)
        )
        return list(found)[:limit]

    async def begin_list(self, term: int, account_id: int, campaign_id: UUID) -> int | None:
        self._check(term)
        row = self._of(account_id, campaign_id)
        if row is None or row.told.state is not CampaignState.DRAFT:
            return None
        row.upload += 1
        row.batches.clear()
        row.told = replace(row.told, uploaded=False, batches=0, texts=0, bad=0, segments=0)
        return row.upload

    async def add_to_list(
        self, term: int, account_id: int, campaign_id: UUID, upload: int, batches: Sequence[Batch]
    ) -> bool:
        self._check(term)
        row = self._of(account_id, campaign_id)
        if row is None or row.told.state is not CampaignState.DRAFT or row.upload != upload:
            return False
        for batch in batches:
            row.batches.setdefault(batch.number, FedBatch(batch=batch))
        return True

    async def end_list(
        self, term: int, account_id: int, campaign_id: UUID, upload: int, batches: int, by: str
    ) -> Campaign | None:
        self._check(term)
        row = self._of(account_id, campaign_id)
        if row is None:
            return None
        draft = row.told.state is CampaignState.DRAFT and row.upload == upload
        if draft and not row.told.uploaded and len(row.batches) == batches:
            kept = [one.batch for one in row.batches.values()]
            row.told = replace(
                row.told,
                uploaded=True,
                batches=batches,
                texts=sum(len(batch.texts) for batch in kept),
                bad=sum(len(batch.bad) for batch in kept),
                segments=sum(text.segments for batch in kept for text in batch.texts),
            )
            self._act(row, "list", by)
        return row.told

    # -- starting and stopping

    async def change_campaign(
        self, term: int, account_id: int, campaign_id: UUID, act: Act, by: str
    ) -> Campaign | None:
        self._check(term)
        row, step = self._of(account_id, campaign_id), STEPS[act]
        if row is None:
            return None
        told, now = row.told, self._clock.wall()
        ready = step.target is not CampaignState.RUNNING or (told.uploaded and told.texts > 0)
        if told.state in step.source and ready:
            canceled = step.target is CampaignState.CANCELED
            row.told = replace(
                told,
                state=step.target,
                note=None,
                started_at=told.started_at or now
                if step.target is CampaignState.RUNNING
                else told.started_at,
                ended_at=now if canceled else None,
                to_sweep=told.fed_batches if canceled else 0,
            )
            self._act(row, act, by)
        return row.told

    async def sweep_campaigns(self, term: int, campaign_id: UUID | None, batches: int) -> int:
        self._check(term)
        swept = [
            row
            for row in self._kept_campaigns.values()
            if row.told.to_sweep and campaign_id in {None, row.told.id}
        ]
        for row in swept[:1]:
            for _ in range(min(batches, row.told.to_sweep)):
                for message_id in row.batches[row.told.to_sweep].messages:
                    if any(segment.state in TO_CANCEL for segment in self._segments_of(message_id)):
                        await self.cancel(term, row.told.account_id, message_id)
                row.told = replace(row.told, to_sweep=row.told.to_sweep - 1)
        return sum(row.told.to_sweep for row in swept)

    # -- feeding

    async def feed_campaign(
        self, term: int, first: UUID, batches: int, ahead: int, *, clock_agrees: bool = True
    ) -> Fed | None:
        self._check(term)
        now = self._clock.wall()
        running = [
            row
            for row in self._kept_campaigns.values()
            if row.told.state is CampaignState.RUNNING
            and (
                row.told.start_at is None
                or row.told.fed_batches
                or (clock_agrees and row.told.start_at <= now)
            )
        ]
        for row in sorted(running, key=lambda row: (row.fed_at is not None, row.fed_at, row.told.id)):
            told = row.told
            if told.fed_batches == told.batches:
                if self._waits(row, told.batches):
                    continue
                row.told = replace(told, state=CampaignState.DONE, ended_at=now)
                self._act(row, "done", "")
                return Fed(campaign_id=told.id, texts=0)
            if not self._programs[told.program_id].enabled:
                row.told = replace(told, state=CampaignState.PAUSED, note="Its program is switched off.")
                self._act(row, "pause", "")
                return Fed(campaign_id=told.id, texts=0)
            fed = 0
            for number in range(told.fed_batches + 1, min(told.batches, told.fed_batches + batches) + 1):
                if self._waits(row, number - ahead):
                    break
                fed += await self._feed(term, row, row.batches[number], UUID(int=first.int + fed))
            if row.told.fed_batches > told.fed_batches:
                return Fed(campaign_id=told.id, texts=fed)
        return None

    async def _feed(self, term: int, row: Row, one: FedBatch, first: UUID) -> int:
        told, texts = row.told, one.batch.texts
        rows = [
            NewMessage(
                id=UUID(int=first.int + number),
                account_id=told.account_id,
                program_id=told.program_id,
                to=text.to,
                body=text.body,
                encoding=text.encoding,
                segments=text.segments,
                message_class=told.message_class,
                on_doubt=told.on_doubt,
                reference=reference(told.id, text.line),
                fingerprint=sha256(f"{text.to} {text.body}".encode()).digest(),
                expires_at=told.expires_at,
                topic=text.topic,
                topic_at=told.started_at if text.topic is not None else None,
            )
            for number, text in enumerate(texts)
        ]
        if rows:
            group = await self.accept(term, rows)
            one.messages = [fate.id for fate in group.rows if fate.verdict is not Verdict.CONFLICT]
        row.fed_at = one.fed_at = self._clock.wall()
        row.told = replace(told, fed_batches=one.batch.number, fed=told.fed + len(texts))
        return len(texts)

    def _waits(self, row: Row, number: int) -> bool:
        """Whether most of a batch still waits to be claimed, by its first, middle and last message."""
        ids = row.batches[number].messages if number in row.batches else []
        if not ids:
            return False
        sample = [ids[0], ids[(len(ids) - 1) // 2], ids[-1]]
        return 2 * sum(self._segments[id_, 1].state in WAITING for id_ in sample) > len(sample)

    # -- progress and report

    async def count_campaign(
        self,
        term: int,
        account_id: int,
        campaign_id: UUID,
        batches: int,  # noqa: ARG002 # counting is cheap here: all are counted
        *,
        since: datetime | None = None,  # noqa: ARG002 # nothing is kept of an earlier count
    ) -> Counts:
        """All of them, however many were asked for."""
        self._check(term)
        row, now = self._of(account_id, campaign_id), self._clock.wall()
        fed = [one for one in row.batches.values() if one.fed_at is not None] if row is not None else []
        states = Counter(self._rolled_up(id_) for one in fed for id_ in one.messages)
        late = [
            (one.fed_at, len(one.batch.texts)) for one in fed if one.fed_at and one.fed_at > now - RATE_OVER
        ]
        seconds = max(1.0, (now - min(at for at, _ in late)).total_seconds()) if late else 1.0
        return Counts(
            by_state=dict(states),
            counted_at=now if OPEN_STATES.intersection(states) else None,
            due=0,
            at=now,
            rate=sum(size for _, size in late) / seconds,
        )

    async def campaign_rows(
        self, term: int, account_id: int, campaign_id: UUID, after: int, batches: int
    ) -> Sequence[ReportRow]:
        self._check(term)
        row = self._of(account_id, campaign_id)
        found: list[ReportRow] = []
        for number, one in sorted(row.batches.items()) if row is not None else ():
            if after < number <= after + batches:
                found += self._fed_rows(one) if one.fed_at is not None else _waiting_rows(one.batch)
                found += (
                    ReportRow(line=bad.line, bad_column=bad.column, reason=bad.reason, value=bad.value)
                    for bad in one.batch.bad
                )
        return sorted(found, key=lambda one: one.line)

    def _fed_rows(self, one: FedBatch) -> list[ReportRow]:
        rows = []
        for message_id in one.messages:
            message, parts = self._messages[message_id], self._segments_of(message_id)
            rows.append(
                ReportRow(
                    line=int((message.reference or "").rpartition("/")[2]),
                    to=message.to,
                    message_id=message_id,
                    state=self._rolled_up(message_id),
                    segments=message.segments,
                    accepted_at=self._accepted_at[message_id],
                    updated_at=max(part.updated_at for part in parts),
                    carrier=max((part.carrier for part in parts if part.carrier), default=None),
                    error=max((part.error for part in parts if part.error), default=None),
                )
            )
        return rows

    # -- steps that several parts share

    def _of(self, account_id: int, campaign_id: UUID) -> Row | None:
        row = self._kept_campaigns.get(campaign_id)
        return row if row is not None and row.told.account_id == account_id else None

    def _act(self, row: Row, act: str, by: str) -> None:
        done = Done(at=self._clock.wall(), act=act, by=by)
        row.told = replace(row.told, acts=(*row.told.acts, done)[-100:])

    def _rolled_up(self, message_id: UUID) -> State:
        return roll_up(segment.state for segment in self._segments_of(message_id))


def _waiting_rows(batch: Batch) -> list[ReportRow]:
    return [ReportRow(line=text.line, to=text.to, segments=text.segments) for text in batch.texts]
