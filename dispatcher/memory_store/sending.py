"""From the queue to the carrier: claims, and what became of them."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from dispatcher.carrier_ids import carrier_id
from dispatcher.memory_store.receipts import Receipts
from dispatcher.memory_store.rows import Doubted, OpenedClaim, Segment, Submission
from dispatcher.model import (
    MOST_ATTEMPTS,
    Claim,
    Held,
    MessageClass,
    OpenClaim,
    State,
    SubmitOutcome,
    SubmitResult,
)
from dispatcher.states import BY_NAME, What


class Sending(Receipts):
    async def claim(
        self,
        term: int,
        dispatcher: str,
        limit: int,
        claim_for_s: float,
        *,
        down_to: MessageClass = MessageClass.MARKETING,
    ) -> Sequence[Claim]:
        self._check(term)
        now = self._clock.wall()
        waiting = [
            s
            for s in self._segments.values()
            if s.state is State.QUEUED
            and s.next_try_at is None
            and (s.message.expires_at is None or s.message.expires_at > now)
        ]
        taken: list[Segment] = []
        for message_class in MessageClass:
            if message_class <= down_to:
                some = [s for s in waiting if s.message.message_class is message_class]
                taken += self._take_turns(message_class, some, limit - len(taken))
        taken.sort(key=lambda s: s.age)
        if not taken:
            return []
        claim_id = next(self._numbers)
        for segment in taken:
            segment.attempt = min(segment.attempt + 1, MOST_ATTEMPTS - (not segment.resent))
            segment.claim_id = claim_id
            self._move(segment, State.SUBMITTING, What.CLAIMED)
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

    def _take_turns(self, message_class: MessageClass, waiting: list[Segment], limit: int) -> list[Segment]:
        """The oldest of each account, one by one and round and round, from the account after the last one served."""
        last = self._turns.get(message_class, 0)
        by_account: dict[int, deque[Segment]] = {}
        for segment in sorted(waiting, key=lambda s: s.age):
            by_account.setdefault(segment.message.account_id, deque()).append(segment)
        turns = deque(sorted(by_account, key=lambda account: (account <= last, account)))
        taken: list[Segment] = []
        while turns and len(taken) < limit:
            self._turns[message_class] = account = turns.popleft()
            taken.append(by_account[account].popleft())
            if by_account[account]:
                turns.append(account)
        return taken

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
            elif result.outcome is SubmitOutcome.SUBMITTED or not (
                current and segment.state == State(result.outcome)
            ):
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
                self._move(segment, State.SUBMITTED, What.TAKEN)
            case SubmitOutcome.QUEUED:
                what = What.REFUSED_FOR_NOW if result.command_status else What.NOT_WRITTEN
                self._requeue(segment, what, after_s=result.retry_after_s)
            case SubmitOutcome.FAILED:
                what = What.REFUSED if result.command_status else What.CANNOT_BE_MADE
                self._move(segment, State.FAILED, what)
            case SubmitOutcome.IN_DOUBT:
                self._doubt(segment, What.NOT_ANSWERED)

    def _settle_late(self, segment: Segment, result: SubmitResult) -> None:
        """Answers to attempts that were given up or sent again meanwhile."""
        attempt = result.attempt
        if result.outcome is SubmitOutcome.SUBMITTED:
            new = self._note(segment, result)
            if segment.state in {State.IN_DOUBT, State.QUEUED}:
                segment.carrier, segment.carrier_message_id = result.carrier, result.carrier_message_id
                segment.submitted_at = self._clock.wall()
                segment.command_status = result.command_status
                segment.doubts.clear()
                self._move(segment, State.SUBMITTED, What.TAKEN_LATE, attempt=attempt)
            elif new:
                self._tell(segment, What.TAKEN_TOO, attempt=attempt)
        elif segment.state is State.IN_DOUBT and (segment.claim_id, segment.attempt) == (
            result.claim_id,
            attempt,
        ):
            segment.doubts.pop(attempt, None)
            segment.carrier, segment.command_status = result.carrier, result.command_status
            if result.outcome is SubmitOutcome.FAILED:
                self._move(segment, State.FAILED, What.REFUSED_LATE, attempt=attempt)
            elif result.outcome is SubmitOutcome.QUEUED:
                self._requeue(segment, What.NOT_WRITTEN_LATE, after_s=result.retry_after_s, attempt=attempt)

    def _doubt(self, segment: Segment, what: What) -> None:
        segment.doubts[segment.attempt] = self._clock.wall()
        self._move(segment, State.IN_DOUBT, what)
        self._doubted.append(
            Doubted(
                number=next(self._numbers),
                segment=segment,
                attempt=segment.attempt,
                term=self._claims[segment.claim_id or 0].claim.term,
                carrier=segment.carrier if BY_NAME[what].by_carrier else None,
                at=segment.updated_at,
            )
        )

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

    async def open_claims(self, term: int) -> Sequence[OpenClaim]:
        self._check(term)
        open_now = Counter(s.claim_id for s in self._segments.values() if s.state is State.SUBMITTING)
        return [
            replace(opened.claim, segments=open_now[claim_id])
            for claim_id, opened in sorted(self._claims.items())
            if open_now[claim_id]
        ]

    async def claimed_by(self, term: int, dispatcher: str) -> Sequence[Held]:
        self._check(term)
        return [
            Held(claim_id=s.claim_id, message_id=s.message.id, segment=s.number, attempt=s.attempt)
            for s in self._segments.values()
            if s.state is State.SUBMITTING
            and s.claim_id is not None
            and self._claims[s.claim_id].claim.dispatcher == dispatcher
        ]

    async def give_up_claims(self, term: int, claim_ids: Sequence[int]) -> int:
        self._check(term)
        given_up = self._close(claim_ids, lambda segment: self._doubt(segment, What.GIVEN_UP))
        self._settle_doubts()
        return given_up

    async def return_claims(self, term: int, dispatcher: str, claim_ids: Sequence[int]) -> int:
        self._check(term)
        own = [i for i in claim_ids if i in self._claims and self._claims[i].claim.dispatcher == dispatcher]
        return self._close(own, lambda segment: self._requeue(segment, What.RETURNED))

    def _close(self, claim_ids: Sequence[int], end: Callable[[Segment], None]) -> int:
        still_open = [
            s for s in self._segments.values() if s.state is State.SUBMITTING and s.claim_id in claim_ids
        ]
        for segment in still_open:
            end(segment)
        return len(still_open)
