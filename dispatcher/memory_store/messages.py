"""Accepting, looking up, cancelling, counting: what the API asks for."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import asyncpg

from dispatcher.memory_store.rows import Segment
from dispatcher.memory_store.tables import Tables
from dispatcher.model import (
    Accepted,
    ApiKey,
    DoubtPage,
    DoubtView,
    Group,
    MessageClass,
    MessageView,
    NewMessage,
    Page,
    Program,
    QueueCounts,
    State,
    Verdict,
)
from dispatcher.states import WAITING, What
from dispatcher.story import SegmentTimes, roll_up, tell


class Messages(Tables):
    async def is_open(self, term: int, canary_max_age_s: float | None = None) -> bool:
        age = abs((self._clock.wall() - self.canary_at).total_seconds())
        return self._term == term and (canary_max_age_s is None or age <= canary_max_age_s)

    async def accept(self, term: int, rows: Sequence[NewMessage]) -> Group:
        self._check(term)
        if not rows:
            raise ValueError("a group has at least one row")
        for row in rows:
            program = self._programs.get(row.program_id)
            if program is None or program.account_id != row.account_id:
                raise asyncpg.ForeignKeyViolationError("a message names a program that is not its account's")
        known = set(self._messages)
        fates = [self._accept(row) for row in rows]
        self._follow_topics([row for row in rows if row.id in self._messages and row.id not in known])
        return Group(
            rows=tuple(
                replace(fate, state=roll_up(s.state for s in self._segments_of(fate.id))) for fate in fates
            ),
            durability=self.durability,
        )

    def _follow_topics(self, rows: Sequence[NewMessage]) -> None:
        """Put new texts in their places among those of their topics: each against the newest, oldest first."""
        now = self._clock.wall()
        for row in sorted(rows, key=lambda row: (row.topic_at or now, row.id)):
            if row.topic is None:
                continue
            key = (row.account_id, row.program_id, row.to, row.topic)
            newest_at, newest = self._topics.get(key, (None, None))
            if newest_at is not None and row.topic_at is not None and row.topic_at < newest_at:
                self._supersede(row.id, newest)
                continue
            self._topics[key] = (row.topic_at or max(now, newest_at or now), row.id)
            if newest is not None:
                self._supersede(newest, row.id)

    def _supersede(self, message_id: UUID, newer: UUID | None) -> None:
        if newer is None:
            return
        self._superseded[message_id] = newer
        for segment in self._segments_of(message_id):
            if segment.state in WAITING:
                self._let_go(segment, newer)
            elif segment.state is State.IN_DOUBT:
                segment.resent = True  # so that it is not sent again

    def _accept(self, row: NewMessage) -> Accepted:
        first = row
        if row.reference is not None:
            first = self._references.setdefault((row.account_id, row.reference), row)
        if first.fingerprint != row.fingerprint:
            verdict = Verdict.CONFLICT
        else:
            verdict = Verdict.NEW if first.id == row.id else Verdict.DUPLICATE
        if verdict is Verdict.NEW and row.id not in self._messages:
            now = self._clock.wall()
            scheduled = row.send_at is not None and row.send_at > now
            self._messages[row.id] = row
            self._accepted_at[row.id] = now
            for number in range(1, row.segments + 1):
                self._segments[row.id, number] = Segment(
                    message=row,
                    number=number,
                    state=State.SCHEDULED if scheduled else State.QUEUED,
                    updated_at=now,
                    next_try_at=row.send_at if scheduled else None,
                )
        return Accepted(
            id=first.id, verdict=verdict, state=roll_up(s.state for s in self._segments_of(first.id))
        )

    async def read(self, term: int, account_id: int, message_id: UUID) -> MessageView | None:
        self._check(term)
        message = self._messages.get(message_id)
        return self._view(message) if message is not None and message.account_id == account_id else None

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
        self._check(term)
        views = (
            self._view(m)
            for m in sorted(self._messages.values(), key=lambda m: m.id, reverse=True)
            if m.account_id == account_id
            and (reference is None or m.reference == reference)
            and (to is None or m.to == to)
            and (since is None or self._accepted_at[m.id] >= since)
            and (after is None or m.id < after)
        )
        found = [view for view in views if state is None or view.state is state]
        page = tuple(found[:limit])
        return Page(messages=page, reached=page[-1].id if len(found) > limit else None)

    async def doubts(
        self, term: int, account_id: int, *, of_term: int, after: int = 0, limit: int = 50
    ) -> DoubtPage:
        self._check(term)
        found = [
            entry
            for entry in self._doubted
            if entry.term == of_term
            and entry.number > after
            and entry.segment.message.account_id == account_id
        ]
        page = found[:limit]
        return DoubtPage(
            doubts=tuple(
                DoubtView(
                    message_id=entry.segment.message.id,
                    reference=entry.segment.message.reference,
                    segment=entry.segment.number,
                    attempt=entry.attempt,
                    carrier=entry.carrier,
                    at=entry.at,
                    state=entry.segment.state,
                )
                for entry in page
            ),
            reached=page[-1].number if len(found) > limit else None,
        )

    async def cancel(self, term: int, account_id: int, message_id: UUID) -> MessageView | None:
        self._check(term)
        message = self._messages.get(message_id)
        if message is None or message.account_id != account_id:
            return None
        for segment in self._segments_of(message_id):
            if segment.state in WAITING and segment.resent:
                self._move(segment, State.IN_DOUBT, What.NOT_SENT_AGAIN)
            elif segment.state in WAITING:
                self._move(segment, State.CANCELED, What.CANCELED)
            elif segment.state is State.IN_DOUBT:
                segment.resent = True  # so that it is not sent again
        return self._view(message)

    def _view(self, message: NewMessage) -> MessageView:
        segments = self._segments_of(message.id)
        times = [
            SegmentTimes(view=s.view, submitted_at=s.submitted_at, updated_at=s.updated_at) for s in segments
        ]
        accepted_at = self._accepted_at[message.id]
        return MessageView(
            id=message.id,
            account_id=message.account_id,
            program=self._programs[message.program_id].name,
            to=message.to,
            body=message.body,
            reference=message.reference,
            encoding=message.encoding,
            message_class=message.message_class,
            state=roll_up(s.state for s in segments),
            accepted_at=accepted_at,
            send_at=message.send_at,
            expires_at=message.expires_at,
            on_doubt=message.on_doubt,
            topic=message.topic,
            topic_at=message.topic_at,
            superseded_by=self._superseded.get(message.id),
            segments=tuple(s.view for s in segments),
            events=tell(accepted_at, times, self._events.get(message.id, ())),
        )

    async def counts(self, term: int) -> QueueCounts:
        self._check(term)
        now = self._clock.wall()
        oldest: dict[str, float] = {}
        queued = (s for s in self._segments.values() if s.state is State.QUEUED and s.next_try_at is None)
        for segment in sorted(queued, key=lambda s: s.age):
            name = MessageClass(segment.message.message_class).name.lower()
            oldest.setdefault(name, (now - segment.updated_at).total_seconds())
        return QueueCounts(
            by_state=dict(Counter(s.state for s in self._segments.values())), oldest_queued_s=oldest
        )

    async def programs(self, term: int) -> Sequence[Program]:
        self._check(term)
        return list(self._programs.values())

    async def api_keys(self, term: int) -> Sequence[ApiKey]:
        self._check(term)
        return list(self._keys.values())
