"""A queue and a link in memory that do what a test tells them: what the engine needs of each, and no more."""

import asyncio
from collections.abc import Sequence
from itertools import count
from uuid import UUID

from dispatcher.model import (
    Claim,
    Encoding,
    Held,
    MessageClass,
    OpenClaim,
    Receipt,
    Reply,
    ReplyPart,
    SubmitOutcome,
    SubmitResult,
)
from dispatcher.smpp.link import Answer, Submission
from dispatcher.smpp.pdu import SubmitSm
from dispatcher.smpp.submission import unwritten
from replication.errors import CommitUnknown


def claim(
    number: int,
    message_class: MessageClass = MessageClass.SERVICE,
    body: str = "Power is out",
    expires_in_s: float | None = None,
) -> Claim:
    return Claim(
        claim_id=1,
        message_id=UUID(int=number),
        segment=1,
        segments=1,
        attempt=1,
        account_id=1,
        program_id=1,
        source="72345",
        to="+16145550100",
        body=body,
        encoding=Encoding.GSM,
        message_class=message_class,
        expires_in_s=expires_in_s,
    )


class FakeQueue:
    """The part of a Store that the engine uses. Claims are what `waiting` holds, oldest first."""

    def __init__(self) -> None:
        self.waiting: list[Claim] = []
        self.settled: list[SubmitResult] = []
        self.open: list[OpenClaim] = []
        self.held: dict[str, list[Held]] = {}  # by dispatcher
        self.given_up: list[int] = []
        self.returned: list[int] = []
        self.received: list[Receipt | Reply | ReplyPart] = []
        self.errors: list[Exception] = []  # raised, one each, by settle, receipts and replies
        self.unfit: Exception | None = None  # raised by whatever asks for claims
        self.due = 0  # segments whose time has come
        self.upkeeps = 0  # how often what is due was asked for, with or without a clock to believe
        self.wrong_clocks: set[str] = set()  # nodes whose clocks are not to be believed
        self.claims_made = 0
        self.claim_takes: asyncio.Event | None = None  # claims wait for it
        self.lose_next_claim = False
        self._ids = count(1)

    def outcome(self, number: int) -> SubmitOutcome | None:
        """The last thing that was settled of message `number`."""
        found = [r.outcome for r in self.settled if r.message_id.int == number]
        return found[-1] if found else None

    async def claim(
        self,
        term: int,
        dispatcher: str,
        limit: int,
        claim_for_s: float,
        *,
        down_to: MessageClass = MessageClass.MARKETING,
    ) -> Sequence[Claim]:
        self.claims_made += 1
        if self.unfit is not None:
            raise self.unfit
        taken: list[Claim] = []
        left: list[Claim] = []
        for one in self.waiting:
            (taken if one.message_class <= down_to and len(taken) < limit else left).append(one)
        self.waiting = left
        claim_id = next(self._ids)
        if taken:
            self.open.append(
                OpenClaim(
                    claim_id=claim_id,
                    dispatcher=dispatcher,
                    term=term,
                    claim_for_s=claim_for_s,
                    segments=len(taken),
                )
            )
        if self.claim_takes is not None:
            await self.claim_takes.wait()
        if self.lose_next_claim and taken:
            self.lose_next_claim = False
            raise CommitUnknown
        return [Claim(**{**vars(c), "claim_id": claim_id}) for c in taken]

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    async def settle(self, results: Sequence[SubmitResult]) -> None:
        self._fail()
        self.settled.extend(results)

    async def receipts(self, rows: Sequence[Receipt]) -> None:
        self._fail()
        self.received.extend(rows)

    async def replies(self, rows: Sequence[Reply]) -> None:
        self._fail()
        self.received.extend(rows)

    async def reply_parts(self, rows: Sequence[ReplyPart]) -> None:
        self._fail()
        self.received.extend(rows)

    async def finish_received(self, _wait_s: float, _limit: int) -> int:
        return 0

    async def open_claims(self, _term: int) -> Sequence[OpenClaim]:
        if self.unfit is not None:
            raise self.unfit
        return list(self.open)

    async def claimed_by(self, _term: int, dispatcher: str) -> Sequence[Held]:
        if self.unfit is not None:
            raise self.unfit
        return self.held.get(dispatcher, [])

    async def give_up_claims(self, _term: int, claim_ids: Sequence[int]) -> int:
        self.given_up.extend(claim_ids)
        self.open = [c for c in self.open if c.claim_id not in claim_ids]
        return len(claim_ids)

    async def return_claims(self, _term: int, _dispatcher: str, claim_ids: Sequence[int]) -> int:
        self.returned.extend(claim_ids)
        self.open = [c for c in self.open if c.claim_id not in claim_ids]
        return len(claim_ids)

    async def release_due(self, _term: int, limit: int, *, clock_agrees: bool = True) -> int:
        self.upkeeps += 1
        if not clock_agrees:
            return 0
        moved = min(limit, self.due)
        self.due -= moved
        return moved

    async def resend_doubtful(self, _term: int, _grace_s: float, _limit: int) -> int:
        return 0


class FakeLink:
    """Takes what it has room for; the test answers. `texts` are what was written, in order."""

    def __init__(self, *, room: int = 1_000, bound: bool = True) -> None:
        self.space = room
        self.bound = bound
        self.throttled = False
        self.submissions: list[Submission] = []
        self.answer_with: Answer | None = Answer(doubt=False, message_id="id")  # None: leave unanswered

    @property
    def texts(self) -> list[bytes]:
        return [submission.submit.short_message for submission in self.submissions]

    @property
    def free(self) -> bool:
        return self.bound and self.space > 0

    async def wait_bound(self, _deadline: float) -> bool:
        await asyncio.sleep(0.005)
        return self.bound

    async def room(self, most: int, _deadline: float) -> int:
        if not self.space:
            await asyncio.sleep(0.005)
        return min(most, self.space) if self.bound else 0

    def write(self, submits: Sequence[SubmitSm], _deadline: float) -> list[Submission]:
        return [self._one(submit) for submit in submits]

    def _one(self, submit: SubmitSm) -> Submission:
        if not self.bound or not self.space:
            return unwritten(submit)
        self.space -= 1
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self.answer_with is not None:
            answer.set_result(self.answer_with)
        submission = Submission(submit=submit, written=True, answer=answer)
        self.submissions.append(submission)
        return submission
