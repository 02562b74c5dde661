"""The store in memory: the same promises without a database, for tests and for trying things out.

It says what the SQL functions mean, in the plainest way: every look-up walks all segments. The conformance suite
runs on both. Each method does its work without an await in between, which makes it one transaction.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from uuid import UUID

import asyncpg

from dispatcher.carrier_ids import carrier_id
from dispatcher.doubt import pair
from dispatcher.memory_rows import OpenedClaim, Parked, Segment, Submission, candidates, named_by
from dispatcher.model import (
    Accepted,
    ApiKey,
    Claim,
    Event,
    Group,
    MessageClass,
    MessageView,
    NewMessage,
    OnDoubt,
    OpenClaim,
    Page,
    Program,
    QueueCounts,
    Receipt,
    Reply,
    State,
    StoredDurability,
    SubmitOutcome,
    SubmitResult,
    Verdict,
)
from dispatcher.store import NotLeader
from dispatcher.story import SegmentTimes, roll_up, tell
from sitecontrol.clock import Clock, SystemClock

RECEIPT_WAIT = timedelta(hours=72)
REPLY_WINDOW = timedelta(minutes=5)
INTERMEDIATE = frozenset({State.ACCEPTED, State.SUBMITTED})
NOT_LEFT = frozenset({State.ACCEPTED, State.HELD, State.SCHEDULED, State.QUEUED})


class MemoryStore:
    """`lead` and `step_down` play the leader's part, `canary_at` its agent's; the next groups are told `durability`."""

    def __init__(self, clock: Clock | None = None, *, term: int = 1) -> None:
        self._clock = clock or SystemClock()
        self._term: int | None = term
        self._numbers = count(1)
        self._programs: dict[int, Program] = {}
        self._keys: dict[int, ApiKey] = {}
        self._accepted_at: dict[UUID, datetime] = {}
        self._messages: dict[UUID, NewMessage] = {}
        self._references: dict[tuple[int, str], NewMessage] = {}
        self._segments: dict[tuple[UUID, int], Segment] = {}
        self._claims: dict[int, OpenedClaim] = {}
        self._submissions: list[Submission] = []
        self._parked: list[Parked] = []
        self._events: dict[UUID, list[Event]] = {}
        self._replies: list[tuple[datetime, Reply]] = []
        self.durability = StoredDurability.TWO_SITE
        self.canary_at = self._clock.wall()

    # -- what a test sets up

    def lead(self, term: int) -> None:
        self._term = term

    def step_down(self) -> None:
        self._term = None

    def add_program(self, program: Program) -> None:
        self._programs[program.id] = program

    def add_key(self, key: ApiKey) -> None:
        self._keys[key.id] = key

    @property
    def stored_replies(self) -> tuple[Reply, ...]:
        return tuple(reply for _, reply in self._replies)

    # -- messages

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
        return Group(rows=tuple(self._accept(row) for row in rows), durability=self.durability)

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

    async def cancel(self, term: int, account_id: int, message_id: UUID) -> MessageView | None:
        self._check(term)
        message = self._messages.get(message_id)
        if message is None or message.account_id != account_id:
            return None
        for segment in self._segments_of(message_id):
            if segment.state in NOT_LEFT:
                state = State.IN_DOUBT if segment.resent else State.CANCELED
                self._move(segment, state, "Canceled by its account before it was sent.")
            elif segment.state is State.IN_DOUBT:
                segment.resent = True  # so that it is not sent again
        return self._view(message)

    # -- sending

    async def claim(self, term: int, dispatcher: str, limit: int, claim_for_s: float) -> Sequence[Claim]:
        self._check(term)
        now = self._clock.wall()
        waiting = (
            s
            for s in self._segments.values()
            if s.state is State.QUEUED
            and s.next_try_at is None
            and (s.message.expires_at is None or s.message.expires_at > now)
        )
        taken = sorted(waiting, key=lambda s: s.age)[:limit]
        if not taken:
            return []
        claim_id = next(self._numbers)
        for segment in taken:
            segment.attempt += 1
            segment.claim_id = claim_id
            self._move(segment, State.SUBMITTING)
        self._claims[claim_id] = OpenedClaim(
            claim=OpenClaim(
                claim_id=claim_id,
                dispatcher=dispatcher,
                term=term,
                claim_for_s=claim_for_s,
                segments=len(taken),
            ),
            claimed_at=self._clock.wall(),
        )
        return [self._claim(claim_id, segment) for segment in taken]

    def _claim(self, claim_id: int, segment: Segment) -> Claim:
        message = segment.message
        left = None if message.expires_at is None else message.expires_at - self._clock.wall()
        return Claim(
            claim_id=claim_id,
            message_id=message.id,
            segment=segment.number,
            segments=message.segments,
            attempt=segment.attempt,
            account_id=message.account_id,
            program_id=message.program_id,
            source=self._programs[message.program_id].source,
            to=message.to,
            body=message.body,
            encoding=message.encoding,
            message_class=message.message_class,
            expires_in_s=None if left is None else left.total_seconds(),
        )

    async def settle(self, results: Sequence[SubmitResult]) -> None:
        self._check_open()
        for result in results:
            segment = self._segments.get((result.message_id, result.segment))
            if segment is None or result.attempt > segment.attempt:
                continue
            current = (segment.claim_id, segment.attempt) == (result.claim_id, result.attempt)
            if current and segment.state is State.SUBMITTING:
                self._settle(segment, result)
            elif not (current and segment.state == State(result.outcome)):
                self._settle_late(segment, result)
        self._unpark()
        self._settle_doubts()

    def _settle(self, segment: Segment, result: SubmitResult) -> None:
        segment.carrier = result.carrier
        segment.carrier_message_id = result.carrier_message_id or ""
        segment.command_status = result.command_status
        match result.outcome:
            case SubmitOutcome.SUBMITTED:
                segment.submitted_at = self._clock.wall()
                self._note(segment, result)
                self._move(segment, State.SUBMITTED)
            case SubmitOutcome.QUEUED:
                self._requeue(segment, result.retry_after_s)
            case SubmitOutcome.FAILED:
                self._move(segment, State.FAILED)
            case SubmitOutcome.IN_DOUBT:
                self._doubt(segment, "It was written to the carrier, and no answer came: it may have left.")

    def _settle_late(self, segment: Segment, result: SubmitResult) -> None:
        """Answers to attempts that were given up or sent again meanwhile."""
        attempt = result.attempt
        if result.outcome is SubmitOutcome.SUBMITTED:
            new = self._note(segment, result)
            if segment.state in {State.IN_DOUBT, State.QUEUED}:
                segment.carrier, segment.carrier_message_id = result.carrier, result.carrier_message_id
                segment.submitted_at = self._clock.wall()
                segment.doubts.clear()
                detail = f"The carrier's answer to attempt {attempt} came late and settled the doubt."
                self._move(segment, State.SUBMITTED, detail)
            elif new:
                detail = f"The carrier's answer to attempt {attempt} came late: that attempt was taken, too."
                self._tell(segment, detail)
        elif segment.state is State.IN_DOUBT and segment.attempt == attempt:
            segment.doubts.pop(attempt, None)
            segment.command_status = result.command_status
            if result.outcome is SubmitOutcome.FAILED:
                detail = f"The carrier's refusal of attempt {attempt} came late and settled the doubt."
                self._move(segment, State.FAILED, detail)
            elif result.outcome is SubmitOutcome.QUEUED:
                self._requeue(segment, result.retry_after_s)
                self._tell(
                    segment, f"Attempt {attempt} was never sent, as its dispatcher told late: queued again."
                )

    async def open_claims(self, term: int) -> Sequence[OpenClaim]:
        self._check(term)
        open_now = Counter(s.claim_id for s in self._segments.values() if s.state is State.SUBMITTING)
        return [
            replace(opened.claim, segments=open_now[claim_id])
            for claim_id, opened in sorted(self._claims.items())
            if open_now[claim_id]
        ]

    async def give_up_claims(self, term: int, claim_ids: Sequence[int]) -> int:
        self._check(term)
        detail = "Its dispatcher was lost before it told what became of it: it may have left."
        given_up = self._close(claim_ids, lambda segment: self._doubt(segment, detail))
        self._settle_doubts()
        return given_up

    async def return_claims(self, term: int, dispatcher: str, claim_ids: Sequence[int]) -> int:
        self._check(term)
        own = [i for i in claim_ids if i in self._claims and self._claims[i].claim.dispatcher == dispatcher]
        return self._close(own, lambda segment: self._requeue(segment, 0))

    def _close(self, claim_ids: Sequence[int], end: Callable[[Segment], None]) -> int:
        still_open = [
            s for s in self._segments.values() if s.state is State.SUBMITTING and s.claim_id in claim_ids
        ]
        for segment in still_open:
            end(segment)
        return len(still_open)

    # -- what carriers tell

    async def receipts(self, rows: Sequence[Receipt]) -> None:
        self._check_open()
        now = self._clock.wall()
        for row in rows:
            if row.state in INTERMEDIATE or self._apply(row):
                continue
            key = (row.carrier, row.carrier_message_id, row.state)
            if key not in {
                (p.receipt.carrier, p.receipt.carrier_message_id, p.receipt.state) for p in self._parked
            }:
                self._parked.append(Parked(number=next(self._numbers), receipt=row, at=now))
        self._settle_doubts()

    def _apply(self, receipt: Receipt) -> bool:
        """Whether an answer named the receipt's id; then it is applied."""
        found = named_by(receipt, self._submissions)
        if found is None:
            return False
        segment = found.segment
        same_attempt = segment.attempt == found.attempt and segment.state in {State.SUBMITTED, State.IN_DOUBT}
        open_states = {State.SUBMITTED, State.IN_DOUBT, State.QUEUED, State.SUBMITTING}
        if same_attempt or (receipt.state is State.DELIVERED and segment.state in open_states):
            plain = segment.state is State.SUBMITTED
            segment.error = receipt.error
            segment.doubts.clear()
            detail = None if plain else f"A receipt for attempt {found.attempt} settled it late."
            self._move(segment, receipt.state, detail)
        return True

    def _unpark(self) -> None:
        self._parked = [p for p in self._parked if not self._apply(p.receipt)]

    def _settle_doubts(self) -> None:
        parked = {p.number: p for p in self._parked}
        for found in pair(candidates(self._parked, self._segments.values(), self._claims, self._programs)):
            segment = self._segments[found.message_id, found.segment]
            receipt = parked[found.parked_id].receipt
            if segment.state is State.QUEUED and receipt.state is not State.DELIVERED:
                continue
            segment.carrier, segment.carrier_message_id = receipt.carrier, receipt.carrier_message_id
            segment.error = receipt.error
            segment.doubts.clear()
            detail = "A receipt settled the doubt: numbers, time and text fit this segment and no other."
            self._move(segment, receipt.state, detail)
            self._submissions.append(
                Submission(
                    segment=segment,
                    attempt=segment.attempt,
                    carrier=receipt.carrier,
                    id=carrier_id(receipt.carrier_message_id),
                    at=self._clock.wall(),
                )
            )
            self._parked.remove(parked[found.parked_id])

    async def replies(self, rows: Sequence[Reply]) -> None:
        self._check_open()
        now = self._clock.wall()
        for row in rows:
            recent = {r.fingerprint for at, r in self._replies if at > now - REPLY_WINDOW}
            if row.fingerprint not in recent:
                self._replies.append((now, row))

    # -- time, numbers, accounts

    async def resend_doubtful(self, term: int, grace_s: float, limit: int) -> int:
        self._check(term)
        now = self._clock.wall()
        due = [
            s
            for s in self._segments.values()
            if s.state is State.IN_DOUBT
            and not s.resent
            and s.message.on_doubt is OnDoubt.RESEND
            and s.doubts[s.attempt] <= now - timedelta(seconds=grace_s)
            and (s.message.expires_at is None or s.message.expires_at > now)
        ]
        for segment in due[:limit]:
            segment.resent = True
            self._requeue(segment, 0)
            self._tell(segment, "No answer and no receipt came: sent once more, it may arrive twice.")
        return len(due[:limit])

    async def release_due(self, term: int, limit: int, *, clock_agrees: bool = True) -> int:
        self._check(term)
        self._unpark()
        if not clock_agrees:
            return 0
        now = self._clock.wall()
        moved = 0
        for segment in self._segments.values():
            expires_at = segment.message.expires_at
            waits_no_longer = segment.next_try_at is not None and segment.next_try_at <= now
            if segment.state in NOT_LEFT and expires_at is not None and expires_at <= now:
                self._move(segment, State.IN_DOUBT if segment.resent else State.EXPIRED)
            elif segment.state in NOT_LEFT and waits_no_longer:
                self._requeue(segment, 0)
            elif (
                segment.state is State.SUBMITTED
                and segment.submitted_at is not None
                and segment.submitted_at <= now - RECEIPT_WAIT
            ) or (segment.state is State.IN_DOUBT and max(segment.doubts.values()) <= now - RECEIPT_WAIT):
                segment.doubts.clear()
                self._move(segment, State.UNKNOWN)
            else:
                continue
            moved += 1
            if moved == limit:
                break
        return moved

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

    async def aclose(self) -> None:
        """There is nothing to close."""

    # -- steps that several of these share

    def _check(self, term: int) -> None:
        if self._term != term:
            raise NotLeader

    def _check_open(self) -> None:
        if self._term is None:
            raise NotLeader

    def _segments_of(self, message_id: UUID) -> list[Segment]:
        return [self._segments[message_id, n] for n in range(1, self._messages[message_id].segments + 1)]

    def _move(self, segment: Segment, state: State, detail: str | None = None) -> None:
        segment.state = state
        segment.next_try_at = None
        segment.updated_at = self._clock.wall()
        if detail is not None:
            self._tell(segment, detail)

    def _requeue(self, segment: Segment, after_s: float) -> None:
        self._move(segment, State.QUEUED)
        if after_s > 0:
            segment.next_try_at = self._clock.wall() + timedelta(seconds=after_s)

    def _doubt(self, segment: Segment, detail: str) -> None:
        segment.doubts[segment.attempt] = self._clock.wall()
        self._move(segment, State.IN_DOUBT, detail)

    def _note(self, segment: Segment, result: SubmitResult) -> bool:
        """Remember the carrier's id for this attempt; whether it is new."""
        named = carrier_id(result.carrier_message_id or "")
        for known in self._submissions:
            same = known.segment is segment and known.attempt == result.attempt
            if same and known.carrier == result.carrier and known.id.canonical == named.canonical:
                return False
        self._submissions.append(
            Submission(
                segment=segment,
                attempt=result.attempt,
                carrier=result.carrier,
                id=named,
                at=self._clock.wall(),
            )
        )
        return True

    def _tell(self, segment: Segment, detail: str) -> None:
        line = Event(at=self._clock.wall(), state=segment.state, segment=segment.number, detail=detail)
        self._events.setdefault(segment.message.id, []).append(line)

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
            segments=tuple(s.view for s in segments),
            events=tell(accepted_at, times, self._events.get(message.id, ())),
        )
