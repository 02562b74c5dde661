"""What the API asks for: accept, look up, cancel."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from dispatcher.model import (
    Accepted,
    DoubtPage,
    DoubtView,
    Encoding,
    Event,
    Group,
    MessageClass,
    MessageView,
    NewMessage,
    OnDoubt,
    Page,
    SegmentView,
    State,
    StoredDurability,
    Verdict,
)
from dispatcher.postgres_store.statements import Statements
from dispatcher.story import SegmentTimes, stored_detail, tell
from dispatcher.uuid7 import least


class Messages(Statements):
    async def accept(self, term: int, rows: Sequence[NewMessage]) -> Group:
        """Raises asyncpg.PostgresError of class 22 or 23 when one of the rows cannot be stored: then none is."""
        if not rows:
            raise ValueError("a group has at least one row")
        topical = any(r.topic is not None for r in rows)
        topics = ([r.topic for r in rows], [r.topic_at for r in rows]) if topical else ()
        [stored] = await self._commit(
            "accept_topical" if topical else "accept",
            term,
            [r.id for r in rows],
            [r.account_id for r in rows],
            [r.program_id for r in rows],
            [r.to for r in rows],
            [r.body for r in rows],
            [r.encoding for r in rows],
            [r.segments for r in rows],
            [r.message_class for r in rows],
            [r.on_doubt for r in rows],
            [r.reference for r in rows],
            [r.fingerprint for r in rows],
            [r.send_at for r in rows],
            [r.expires_at for r in rows],
            *topics,
        )
        [[durability]] = await self._read("durability", stored["lsn"])
        return Group(
            rows=tuple(
                # A reference outlives its message: of the one that was archived nobody here knows any more.
                Accepted(id=id_, verdict=Verdict(verdict), state=State(state or State.UNKNOWN))
                for id_, verdict, state in zip(
                    stored["ids"], stored["verdicts"], stored["states"], strict=True
                )
            ),
            durability=StoredDurability(durability),
        )

    async def read(self, term: int, account_id: int, message_id: UUID) -> MessageView | None:
        rows = await self._commit("read", term, account_id, message_id)
        return _message(rows[0]) if rows else None

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
        oldest = None if since is None else least(since.timestamp() - self._stored_within_s)
        rows = await self._commit("find", term, account_id, reference, state, to, since, oldest, after, limit)
        found = (row for row in rows if row["message_id"] is not None)
        return Page(messages=tuple(map(_message, found)), reached=rows[0]["reached"])

    async def doubts(
        self, term: int, account_id: int, *, of_term: int, after: int = 0, limit: int = 50
    ) -> DoubtPage:
        rows = await self._commit("doubts", term, account_id, of_term, after, limit + 1)
        page = [dict(row) for row in rows[:limit]]
        reached = page[-1]["event_id"] if len(rows) > limit else None
        for row in page:
            del row["event_id"]
        return DoubtPage(
            doubts=tuple(DoubtView(**{**row, "state": State(row["state"])}) for row in page), reached=reached
        )

    async def cancel(self, term: int, account_id: int, message_id: UUID) -> MessageView | None:
        rows = await self._commit("cancel", term, account_id, message_id)
        return _message(rows[0]) if rows else None


def _message(row: asyncpg.Record) -> MessageView:
    segments = [_segment(part) for part in orjson.loads(row["segments"])]
    return MessageView(
        id=row["message_id"],
        account_id=row["account_id"],
        program=row["program"],
        to=row["recipient"],
        body=row["body"],
        reference=row["reference"],
        encoding=Encoding(row["encoding"]),
        message_class=MessageClass(row["class"]),
        state=State(row["state"]),
        accepted_at=row["accepted_at"],
        send_at=row["send_at"],
        expires_at=row["expires_at"],
        on_doubt=OnDoubt(row["on_doubt"]),
        topic=row["topic"],
        topic_at=row["topic_at"],
        superseded_by=row["superseded_by"],
        segments=tuple(part.view for part in segments),
        events=tell(row["accepted_at"], segments, _events(orjson.loads(row["events"]))),
    )


def _segment(part: dict[str, Any]) -> SegmentTimes:
    submitted_at = part.pop("submitted_at")
    updated_at = part.pop("updated_at")
    return SegmentTimes(
        view=SegmentView(**{**part, "state": State(part["state"])}),
        submitted_at=datetime.fromisoformat(submitted_at) if submitted_at else None,
        updated_at=datetime.fromisoformat(updated_at),
    )


def _events(lines: Iterable[dict[str, Any]]) -> Iterable[Event]:
    for line in lines:
        yield Event(
            at=datetime.fromisoformat(line["at"]),
            state=State(line["state"]),
            segment=line["segment"],
            detail=stored_detail(
                line["detail"],
                attempt=line["attempt"],
                carrier=line["carrier"],
                command_status=line["command_status"],
            ),
        )
