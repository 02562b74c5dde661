"""The carrier, as each dispatcher's link shows it: answers that come, come late, or never; and what it has received.

A carrier is outside of everything that fails here. It answers "taken" or "refused for now"; some answers are lost, as
with a connection that breaks; sometimes a link has no room for seconds, so that claims grow old.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dispatcher.smpp.pdu import SubmitSm
from dispatcher.smpp.submission import Answer
from tests.simulation.scheduler import Scheduler, SimulatedClock

THROTTLED = 0x58  # ESME_RTHROTTLED
GIVEN_UP_AFTER = 1.5  # seconds without an answer
LATE = 2.5  # seconds: an answer that comes after its text was called in doubt


@dataclass
class Received:
    """What a carrier took: where from, when."""

    number: int
    place: str
    at: float


@dataclass
class Inbox:
    """All that reached the carrier, by text."""

    texts: dict[int, list[Received]] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)  # the places whose lines to the carrier are down
    silent: set[str] = field(default_factory=set)  # the places that get no answers

    def take(self, received: Received) -> None:
        self.texts.setdefault(received.number, []).append(received)


class Promise:
    """As much of a future as the sender uses."""

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._then: list[Callable[[Any], None]] = []

    def add_done_callback(self, then: Callable[[Any], None]) -> None:
        self._then.append(then)

    def result(self) -> Answer:
        assert self._answer is not None
        return self._answer

    def settle(self, answer: Answer) -> None:
        self._answer = answer
        for then in self._then:
            then(self)


@dataclass(eq=False)
class Submission:
    submit: SubmitSm
    written: bool
    answer: Promise = field(default_factory=Promise)
    tag: Any = None


class CarrierLink:
    """Implements `SendingLink`. `check` is called for each text just before it leaves."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        clock: SimulatedClock,
        rng: random.Random,
        place: str,
        owner: str,
        inbox: Inbox,
        check: Callable[[int], None],
        late: Callable[[Any, Answer], None],
    ) -> None:
        self._scheduler, self._clock, self._rng = scheduler, clock, rng
        self._place, self._owner, self._inbox = place, owner, inbox
        self._check, self._late = check, late

    @property
    def bound(self) -> bool:
        return self._place not in self._inbox.lost

    @property
    def free(self) -> bool:
        return self.bound

    @property
    def throttled(self) -> bool:
        return False

    async def wait_bound(self, deadline: float) -> bool:
        del deadline
        return self.bound

    async def room(self, most: int, deadline: float) -> int:
        del deadline
        return most

    def write(self, submits: Sequence[SubmitSm], deadline: float) -> list[Any]:
        """As `Connection.write`: nothing past the deadline."""
        if not self.bound or self._clock.now() >= deadline:
            return [Submission(submit, written=False) for submit in submits]
        written = [Submission(submit, written=True) for submit in submits]
        for submission in written:
            number = int(submission.submit.destination)
            self._check(number)
            fate = self._rng.random()
            if fate > 0.05:
                self._inbox.take(Received(number, self._place, self._scheduler.now))
            self._scheduler.spawn(self._answer(submission, fate), self._owner)
        return list(written)

    async def _answer(self, submission: Submission, fate: float) -> None:
        wait = self._scheduler.wait
        taken = Answer(doubt=False, message_id=f"id{submission.submit.destination}")
        await wait(self._rng.uniform(0.03, 0.3))
        if fate <= 0.05:
            submission.answer.settle(Answer(doubt=False, command_status=THROTTLED))
        elif fate <= 0.1 or not self.bound or self._place in self._inbox.silent:
            await wait(GIVEN_UP_AFTER)
            submission.answer.settle(Answer(doubt=True))
            if fate <= 0.075:
                await wait(LATE)
                self._late(submission, taken)
        else:
            submission.answer.settle(taken)
