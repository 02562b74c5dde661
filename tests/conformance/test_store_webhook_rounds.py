"""What a store promises of rounds of posts: settled once, letters in order, the dead replayed."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from dispatcher.webhooks.model import Attempt, Batch, FeedEvent, WebhookClaim
from tests.message_scenes import Stage, submitted
from tests.webhook_scenes import (
    batch,
    claimed,
    delivered,
    endpoint,
    letter_of,
    look,
    refused,
    settlement,
)


async def posted(stage: Stage) -> tuple[WebhookClaim, Batch]:
    claim = await claimed(stage)
    return claim, await batch(stage, claim)


async def test_a_round_may_be_asked_for_again_and_settles_once(stage: Stage) -> None:
    made = await endpoint(stage)
    await delivered(stage)
    claim, first = await posted(stage)
    assert [one.event.id for one in (await batch(stage, claim)).events] == [
        one.event.id for one in first.events
    ]
    done = settlement(claim, position=first.events[-1].event.position, taken=1, release=False)
    assert await stage.store.settle_webhook(done)
    assert await stage.store.settle_webhook(done)
    assert (await look(stage, made.id)).taken == 1
    assert (await batch(stage, claim, 2)).events == []


async def test_what_was_not_taken_is_a_letter_until_its_time_comes(stage: Stage) -> None:
    made = await endpoint(stage)
    await delivered(stage)
    claim, found = await posted(stage)
    [one] = found.events
    kept = refused(letter_of(one.event), 60.0)
    await stage.store.settle_webhook(settlement(claim, position=one.event.position, failed=1, letters=[kept]))
    assert (await look(stage, made.id)).waiting == 1
    assert list(await stage.store.claim_webhooks(stage.term, "columbus-1", 30.0, 10)) == []
    await stage.pass_time(timedelta(minutes=2))
    claim, found = await posted(stage)
    [letter] = found.letters
    assert (letter.id, letter.attempts, letter.body) == (one.event.id, 1, kept.letter.body)
    assert letter.age_s >= 120
    await stage.store.settle_webhook(settlement(claim, gone=[letter.number], taken=1))
    assert (await look(stage, made.id)).waiting == 0


async def test_the_next_event_of_a_message_waits_until_the_one_before_is_gone(stage: Stage) -> None:
    await endpoint(stage)
    sent = await stage.sent()
    await stage.store.give_up_claims(stage.term, [sent.claim_id])
    claim, found = await posted(stage)
    [doubt] = found.events
    await stage.store.settle_webhook(
        settlement(claim, position=doubt.event.position, letters=[refused(letter_of(doubt.event), 60.0)])
    )
    await stage.store.settle([submitted(sent, "i1")])
    claim, found = await posted(stage)
    [settled] = found.events
    assert (settled.event.kind, settled.behind) == ("message.submitted", True)
    waits = refused(letter_of(settled.event), None)
    await stage.store.settle_webhook(settlement(claim, position=settled.event.position, letters=[waits]))
    await stage.pass_time(timedelta(minutes=2))
    claim, found = await posted(stage)
    assert [letter.kind for letter in found.letters] == ["message.in_doubt"]
    await stage.store.settle_webhook(settlement(claim, gone=[found.letters[0].number], taken=1))
    _, found = await posted(stage)
    assert [letter.kind for letter in found.letters] == ["message.submitted"]


async def test_letters_take_no_more_than_half_of_a_round(stage: Stage) -> None:
    await endpoint(stage)
    for number in range(4):
        await delivered(stage, f"j{number}")
    claim, found = await posted(stage)
    letters = [refused(letter_of(one.event), 0.0) for one in found.events]
    await stage.store.settle_webhook(
        settlement(claim, position=found.events[-1].event.position, letters=letters)
    )
    for number in range(4):
        await delivered(stage, f"k{number}")
    found = await batch(stage, await claimed(stage), limit=4)
    assert (len(found.letters), len(found.events), found.full) == (2, 2, True)


async def test_an_endpoint_that_fails_is_left_alone_and_then_tried_with_a_few(stage: Stage) -> None:
    made = await endpoint(stage)
    for number in range(4):
        await delivered(stage, f"l{number}")
    claim, _ = await posted(stage)
    failed = settlement(claim, failed=2, failures=1, retry_s=60.0, failure="It answered 500.")
    await stage.store.settle_webhook(failed)
    shown = await look(stage, made.id)
    assert (shown.failures, shown.failed, shown.last_failure) == (1, 2, "It answered 500.")
    assert shown.failing_since is not None
    assert list(await stage.store.claim_webhooks(stage.term, "columbus-1", 30.0, 10)) == []
    await stage.pass_time(timedelta(minutes=2))
    claim = await claimed(stage)
    found = await batch(stage, claim, limit=100, trial=2)
    assert (len(found.events), found.failures) == (2, 1)
    assert found.failing_s >= 120
    await stage.store.settle_webhook(settlement(claim, position=found.events[-1].event.position, taken=2))
    assert (await look(stage, made.id)).failing_since is None


async def test_an_endpoint_that_is_switched_off_by_a_round_says_why(stage: Stage) -> None:
    made = await endpoint(stage)
    await delivered(stage)
    claim, _ = await posted(stage)
    await stage.store.settle_webhook(
        settlement(claim, failed=1, failures=1, disable="It answered 410 (gone).")
    )
    shown = await look(stage, made.id)
    assert (shown.enabled, shown.disabled_why) == (False, "It answered 410 (gone).")
    again = await stage.store.change_webhook(stage.term, made.account_id, made.id, enabled=True)
    assert again is not None
    assert (again.enabled, again.disabled_why, again.failures) == (True, None, 0)
    assert len((await batch(stage, await claimed(stage))).events) == 1


async def dead(stage: Stage, count: int = 2) -> tuple[UUID, Sequence[FeedEvent]]:
    """An endpoint with so many dead letters."""
    made = await endpoint(stage)
    for number in range(count):
        await delivered(stage, f"m{number}")
    claim, found = await posted(stage)
    letters = [refused(letter_of(one.event), 5.0, dead=True) for one in found.events]
    await stage.store.settle_webhook(
        settlement(claim, position=found.events[-1].event.position, letters=letters)
    )
    return made.id, [one.event for one in found.events]


async def test_dead_letters_are_listed_in_the_order_of_what_happened(stage: Stage) -> None:
    webhook_id, events = await dead(stage)
    account = stage.program.account_id
    first, second = await stage.store.dead_letters(stage.term, account, webhook_id)
    assert [first.id, second.id] == [event.id for event in events]
    assert (first.kind, first.attempts, first.failure, first.status) == (
        "message.delivered",
        1,
        "It answered 500.",
        500,
    )
    assert list(await stage.store.dead_letters(stage.term, account, webhook_id, after=first.number)) == [
        second
    ]
    assert list(await stage.store.dead_letters(stage.term, account, webhook_id, limit=1)) == [first]
    assert list(await stage.store.claim_webhooks(stage.term, "columbus-1", 30.0, 10)) == []


async def test_one_dead_letter_is_replayed_as_if_it_had_happened_now(stage: Stage) -> None:
    webhook_id, events = await dead(stage)
    await stage.pass_time(timedelta(hours=80))
    account = stage.program.account_id
    assert await stage.store.replay_letters(stage.term, account, webhook_id, events[1].id, 10) == 1
    assert await stage.store.replay_letters(stage.term, account, webhook_id, events[1].id, 10) == 0
    found = await batch(stage, await claimed(stage))
    [letter] = found.letters
    assert (letter.id, letter.attempts) == (events[1].id, 0)
    assert letter.age_s < 60


async def test_all_dead_letters_are_replayed_at_once(stage: Stage) -> None:
    webhook_id, events = await dead(stage)
    assert await stage.store.replay_letters(stage.term, stage.program.account_id, webhook_id, None, 10) == 2
    found = await batch(stage, await claimed(stage))
    assert [letter.id for letter in found.letters] == [event.id for event in events]


async def test_dead_letters_are_forgotten_in_the_end(stage: Stage) -> None:
    webhook_id, _ = await dead(stage)
    await stage.pass_time(timedelta(days=31))
    await stage.store.tidy_feed(stage.term, 100, 1e9, timedelta(days=30).total_seconds())
    assert list(await stage.store.dead_letters(stage.term, stage.program.account_id, webhook_id)) == []


async def test_a_test_is_posted_at_once_and_once(stage: Stage) -> None:
    made = await endpoint(stage, kinds=["reply.received"])
    event_id = uuid4()
    for _ in range(2):
        assert await stage.store.test_webhook(
            stage.term, made.account_id, made.id, event_id, "webhook.test", '{"type": "webhook.test"}'
        )
    [letter] = (await batch(stage, await claimed(stage))).letters
    assert (letter.id, letter.kind, letter.body) == (event_id, "webhook.test", '{"type": "webhook.test"}')


async def test_the_last_rounds_show_what_was_posted(stage: Stage) -> None:
    made = await endpoint(stage)
    await delivered(stage)
    claim = await claimed(stage)
    for number in range(1, 24):
        [one] = (await batch(stage, claim, number)).events
        attempt = Attempt(
            event_id=one.event.id,
            kind=one.event.kind,
            attempt=number,
            taken=False,
            status=500,
            ms=3,
            failure="It answered 500.",
        )
        await stage.store.settle_webhook(settlement(claim, number, failed=1, log=[attempt], release=False))
    rounds = await stage.store.webhook_rounds(stage.term, made.account_id, made.id, limit=50)
    assert [one.attempts[0]["attempt"] for one in rounds] == list(range(23, 3, -1))
    assert rounds[0].attempts[0]["event_id"] == str(one.event.id)
    older = await stage.store.webhook_rounds(
        stage.term, made.account_id, made.id, before=rounds[0].number, limit=1
    )
    assert list(older) == [rounds[1]]


async def test_the_counts_tell_what_fails_and_how_long_the_oldest_has_waited(stage: Stage) -> None:
    made = await endpoint(stage)
    await delivered(stage)
    await stage.store.feed_page(stage.term, made.account_id, None, 1)
    await stage.pass_time(timedelta(minutes=1))
    counts = await stage.store.webhook_counts(stage.term)
    assert (counts.enabled, counts.failing, counts.disabled) == (1, 0, 0)
    assert counts.lag_s >= 60
    claim, _ = await posted(stage)
    await stage.store.settle_webhook(settlement(claim, failed=1, failures=1, failure="It answered 500."))
    counts = await stage.store.webhook_counts(stage.term)
    assert (counts.failing, counts.lag_s) == (1, 0.0)
    assert [(one.webhook_id, one.failure) for one in counts.worst] == [(made.id, "It answered 500.")]
