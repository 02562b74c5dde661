"""One round of posts: in order for each message, and what is not posted any more costs nothing."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from dispatcher.model import State
from dispatcher.webhooks.deliverer import POST_S
from dispatcher.webhooks.model import Batch, FeedEvent, Following, Letter, SegmentChange, WebhookClaim
from dispatcher.webhooks.pacing import DIES_AFTER_S, Answer, of_status
from dispatcher.webhooks.round import AT_ONCE, HOPELESS, Round

AT = datetime(2026, 11, 27, tzinfo=UTC)
CLAIM = WebhookClaim(claim_id=1, webhook_id=UUID(int=1), account_id=1)
FOR_EVER = 1e9


class Stopped:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wall(self) -> datetime:
        return AT

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError(seconds)


class Receiver:
    """Answers by what a test says of an event's number."""

    def __init__(self, say: Callable[[int], Answer]) -> None:
        self._say = say
        self.seen: list[int] = []
        self.here = 0
        self.most = 0

    async def post(
        self, _: str, headers: Mapping[str, str], body: bytes, *, within_s: float = POST_S
    ) -> Answer:
        number = UUID(headers["webhook-id"]).int
        assert orjson.loads(body)
        self.here += 1
        self.most = max(self.most, self.here)
        await asyncio.sleep(0)
        self.here -= 1
        self.seen.append(number)
        return self._say(number)


def happened(number: int, message: int | None = None) -> FeedEvent:
    message_id = UUID(int=message or number)
    return FeedEvent(
        id=UUID(int=number),
        tick=1 + number // 10,
        number=number,
        at=AT,
        age_s=0.0,
        message=SegmentChange(
            message_id=message_id, reference=None, program="p", to="+1", segments=1, segment=1,
            before=State.SUBMITTED, state=State.DELIVERED, message_state=State.DELIVERED, attempt=1, carrier="c",
            carrier_message_id="x", command_status=0, error="000",
        ),
    )  # fmt: skip


def letter(number: int, message: int | None = None, *, attempts: int = 1, age_s: float = 0.0) -> Letter:
    return Letter(
        number=number, id=UUID(int=number), subject=UUID(int=message or number), kind="message.delivered", at=AT,
        age_s=age_s, attempts=attempts, body='{"a": 1}',
    )  # fmt: skip


def batch(
    events: Sequence[FeedEvent] = (),
    letters: Sequence[Letter] = (),
    *,
    following: Sequence[Following] = (),
    **changes: Any,
) -> Batch:
    fields: dict[str, Any] = {
        "url": "https://utility.example/",
        "kinds": frozenset(),
        "secrets": (b"secret",),
        "failures": 0,
        "failing_s": 0.0,
        "letters": letters,
        "events": following or [Following(event=event, behind=False) for event in events],
        "full": False,
        "end": None,
    } | changes
    return Batch(**fields)


async def run(given: Batch, receiver: Receiver, **changes: Any):
    fields: dict[str, Any] = {
        "posting": receiver,
        "clock": Stopped(),
        "ends_at": FOR_EVER,
        "go": lambda: True,
        "room": asyncio.Semaphore(64),
        "clock_agrees": True,
        "chance": lambda: 0.5,
    } | changes
    turn = Round(given, **fields)
    await turn.post()
    return turn.settlement(CLAIM, 1, last=False)


def good(_: int) -> Answer:
    return of_status(200, None)


def bad(_: int) -> Answer:
    return of_status(500, None)


def all_but(*numbers: int) -> Callable[[int], Answer]:
    return lambda number: bad(number) if number in numbers else good(number)


async def test_what_is_taken_leaves_nothing_but_a_new_position() -> None:
    settled = await run(batch([happened(n) for n in range(1, 31)]), Receiver(good))
    assert (settled.position, settled.taken, settled.failed) == ((4, 30), 30, 0)
    assert (list(settled.letters), list(settled.gone), settled.failures, settled.retry_s) == ([], [], 0, None)


async def test_the_end_of_the_feed_is_a_position_once_nothing_before_it_is_left() -> None:
    given = batch([happened(1, 7), happened(2, 7)], end=(9, 0))
    assert (await run(given, Receiver(good))).position == (9, 0)
    assert (await run(given, Receiver(bad))).position == (1, 1)


async def test_no_more_than_a_few_are_posted_at_once() -> None:
    receiver = Receiver(good)
    await run(batch([happened(n) for n in range(1, 51)]), receiver)
    assert receiver.most == AT_ONCE


async def test_events_of_one_message_are_posted_one_after_the_other() -> None:
    receiver = Receiver(good)
    await run(batch([happened(n, message=7) for n in range(1, 11)]), receiver)
    assert (receiver.seen, receiver.most) == (list(range(1, 11)), 1)


async def test_after_one_that_was_refused_the_rest_of_its_message_waits_behind_it() -> None:
    receiver = Receiver(all_but(2))
    events = [happened(1, 7), happened(2, 7), happened(3, 8), happened(4, 7), happened(5, 7)]
    settled = await run(batch(events), receiver)
    assert sorted(receiver.seen) == [1, 2, 3]
    # Nobody is left to post past 3, so 4 and 5 stay in the feed.
    assert settled.position == (1, 3)
    assert [(one.letter.number, one.retry_after_s, one.letter.attempts) for one in settled.letters] == [
        (2, 5.0, 1)
    ]


async def test_what_lies_before_the_last_one_tried_becomes_a_letter() -> None:
    events = [happened(1, 7), happened(2, 7), happened(3, 7), happened(4, 8)]
    settled = await run(batch(events), Receiver(all_but(1)))
    assert settled.position == (1, 4)
    kept = [(one.letter.number, one.retry_after_s, one.letter.attempts) for one in settled.letters]
    assert kept == [(1, 5.0, 1), (2, None, 0), (3, None, 0)]


async def test_what_stands_behind_a_letter_is_not_posted() -> None:
    receiver = Receiver(good)
    following = [
        Following(event=happened(1, 8), behind=False),
        Following(event=happened(2, 7), behind=True),
    ]
    settled = await run(batch(following=following), receiver)
    assert receiver.seen == [1]
    assert settled.position == (1, 2)
    assert [(one.letter.number, one.retry_after_s) for one in settled.letters] == [(2, None)]


async def test_kinds_that_an_endpoint_does_not_take_are_passed_over() -> None:
    receiver = Receiver(good)
    settled = await run(batch([happened(1), happened(2)], kinds=frozenset({"reply.received"})), receiver)
    assert (receiver.seen, settled.position, settled.failures) == ([], (1, 2), 0)


async def test_an_endpoint_that_takes_nothing_is_not_tried_with_all_of_a_round() -> None:
    receiver = Receiver(bad)
    settled = await run(batch([happened(n) for n in range(1, 101)], full=True), receiver)
    assert HOPELESS <= len(receiver.seen) < HOPELESS + AT_ONCE
    assert settled.position == happened(max(receiver.seen)).position
    assert (settled.failures, settled.retry_s, settled.release) == (1, 5.0, True)
    assert len(settled.letters) == len(receiver.seen)


async def test_one_event_that_is_never_taken_does_not_make_the_endpoint_fail() -> None:
    settled = await run(batch(letters=[letter(1, attempts=4)]), Receiver(bad))
    assert (settled.failures, settled.retry_s) == (0, None)
    [kept] = settled.letters
    assert (kept.letter.attempts, kept.retry_after_s, kept.dead) == (5, 80.0, False)


async def test_an_endpoint_that_fails_again_is_left_alone_for_longer() -> None:
    settled = await run(batch([happened(1)], failures=3, failing_s=60.0), Receiver(bad))
    assert (settled.failures, settled.retry_s) == (4, 40.0)


async def test_retry_after_is_waited_by_the_event_and_by_the_endpoint() -> None:
    settled = await run(batch([happened(1)]), Receiver(lambda _: of_status(503, "600")))
    assert settled.retry_s == 600.0
    assert settled.letters[0].retry_after_s == 600.0


async def test_one_that_is_taken_ends_the_failing() -> None:
    settled = await run(batch([happened(1), happened(2)], failures=3), Receiver(all_but(1)))
    assert (settled.failures, settled.retry_s) == (0, None)


async def test_a_letter_that_is_taken_is_gone() -> None:
    settled = await run(batch(letters=[letter(4), letter(5)]), Receiver(all_but(5)))
    assert list(settled.gone) == [4]
    assert [one.letter.number for one in settled.letters] == [5]
    assert settled.position is None


async def test_after_72_hours_a_letter_dies_unless_the_clock_is_not_believed() -> None:
    old = letter(4, attempts=80, age_s=DIES_AFTER_S)
    assert (await run(batch(letters=[old]), Receiver(bad))).letters[0].dead
    assert not (await run(batch(letters=[old]), Receiver(bad), clock_agrees=False)).letters[0].dead


async def test_an_endpoint_that_took_nothing_for_72_hours_is_switched_off() -> None:
    given = batch([happened(1)], failures=80, failing_s=DIES_AFTER_S)
    assert (await run(given, Receiver(bad))).disable == "It has taken nothing for 72 hours."
    assert (await run(given, Receiver(good))).disable is None
    assert (await run(given, Receiver(bad), clock_agrees=False)).disable is None


async def test_gone_switches_off_at_once_and_loses_nothing() -> None:
    receiver = Receiver(lambda _: of_status(410, None))
    settled = await run(batch([happened(n) for n in range(1, 101)]), receiver)
    assert settled.disable == "It answered 410 (gone)."
    assert len(receiver.seen) <= AT_ONCE
    assert {one.letter.number for one in settled.letters} == set(receiver.seen)
    assert not any(one.dead for one in settled.letters)


async def test_nothing_is_posted_once_it_is_not_ours_any_more() -> None:
    receiver = Receiver(good)
    settled = await run(
        batch([happened(n) for n in range(1, 31)]), receiver, go=lambda: len(receiver.seen) < 4
    )
    assert len(receiver.seen) < 4 + AT_ONCE
    assert settled.position == happened(max(receiver.seen)).position
    assert {one.letter.number for one in settled.letters}.isdisjoint(receiver.seen)
    assert settled.release


async def test_nothing_is_begun_that_might_not_end_within_the_claim() -> None:
    receiver = Receiver(good)
    settled = await run(batch([happened(1)], letters=[letter(9)]), receiver, ends_at=POST_S)
    assert (receiver.seen, settled.position, list(settled.letters)) == ([], None, [])


async def test_the_log_shows_what_failed_first() -> None:
    settled = await run(batch([happened(1), happened(2), happened(3)]), Receiver(all_but(3)))
    assert [(one.event_id.int, one.taken, one.status, one.attempt) for one in settled.log] == [
        (3, False, 500, 1),
        (1, True, 200, 1),
        (2, True, 200, 1),
    ]
