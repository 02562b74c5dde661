"""What a store promises of webhooks: what is told, to whom, in which order, and once more after a failure."""

from datetime import timedelta
from uuid import uuid4

import pytest

from dispatcher.model import Reply, State, SubmitOutcome
from dispatcher.store import NotLeader
from dispatcher.webhooks.model import FeedEvent
from tests.message_scenes import CARRIER, CUSTOMER, SHORT_CODE, Stage, receipt, result, submitted
from tests.webhook_scenes import (
    SECRET,
    batch,
    claimed,
    delivered,
    endpoint,
    letter_of,
    look,
    new_webhook,
    refused,
    settlement,
    taken,
)


async def page(stage: Stage, position: tuple[int, int] | None = None, limit: int = 100):
    return await stage.store.feed_page(stage.term, stage.program.account_id, position, limit)


async def since(stage: Stage, position: tuple[int, int]) -> list[str]:
    return [event.kind for event in (await page(stage, position)).events]


def reply(text: str = "OUT", **changes: object) -> Reply:
    fields: dict[str, object] = {
        "carrier": CARRIER,
        "source": CUSTOMER,
        "destination": SHORT_CODE,
        "text": text,
        "fingerprint": text.encode(),
    } | changes
    return Reply(**fields)  # type: ignore[arg-type] # fields by name


# -- the feed


async def test_a_feed_begins_with_the_first_look_at_it(stage: Stage) -> None:
    await delivered(stage, "a1")
    begun = await page(stage)
    assert (begun.events, begun.more, begun.lost) == ([], False, False)
    await delivered(stage, "a2")
    assert await since(stage, begun.position) == ["message.delivered"]


async def test_an_event_tells_what_happened_to_which_segment(stage: Stage) -> None:
    begun = await page(stage)
    message_id = await delivered(stage, "0af3", reference="o-1")
    [event] = (await page(stage, begun.position)).events
    change = event.message
    assert change is not None
    assert event.subject == change.message_id == message_id
    assert (change.before, change.state, change.message_state) == (
        State.SUBMITTED,
        State.DELIVERED,
        State.DELIVERED,
    )
    assert (change.reference, change.program, change.to) == ("o-1", "outages", CUSTOMER)
    assert (change.segment, change.segments, change.attempt) == (1, 1, 1)
    assert (change.carrier, change.carrier_message_id, change.error) == (CARRIER, "0af3", "000")


@pytest.mark.parametrize("state", [State.UNDELIVERED, State.EXPIRED, State.REJECTED, State.UNKNOWN])
async def test_each_end_that_a_receipt_brings_is_told(stage: Stage, state: State) -> None:
    begun = await page(stage)
    await taken(stage, "b1")
    await stage.store.receipts([receipt("b1", state)])
    assert await since(stage, begun.position) == [f"message.{state.value}"]


async def test_what_the_carrier_refuses_for_good_is_told_and_what_it_takes_is_not(stage: Stage) -> None:
    begun = await page(stage)
    await taken(stage, "b2")
    claim = await stage.sent()
    await stage.store.settle([result(claim, SubmitOutcome.FAILED, command_status=0x0B)])
    [event] = (await page(stage, begun.position)).events
    assert event.message is not None
    assert (event.kind, event.message.command_status) == ("message.failed", 0x0B)


async def test_doubt_is_told_and_so_is_what_comes_of_it(stage: Stage) -> None:
    begun = await page(stage)
    claim = await stage.sent()
    await stage.store.give_up_claims(stage.term, [claim.claim_id])
    await stage.store.settle([submitted(claim, "c1")])
    found = (await page(stage, begun.position)).events
    assert [event.kind for event in found] == ["message.in_doubt", "message.submitted"]
    assert found[1].message is not None
    assert found[1].message.before is State.IN_DOUBT


async def test_a_canceled_and_an_expired_text_are_told(stage: Stage) -> None:
    begun = await page(stage)
    gone = stage.message()
    late = stage.message(expires_at=stage.now() + timedelta(minutes=1))
    await stage.accept(gone, late)
    await stage.store.cancel(stage.term, stage.program.account_id, gone.id)
    await stage.pass_time(timedelta(minutes=2))
    await stage.store.release_due(stage.term, 10)
    assert await since(stage, begun.position) == ["message.canceled", "message.expired"]


async def test_each_segment_is_told_and_the_last_one_tells_that_the_message_is_delivered(
    stage: Stage,
) -> None:
    begun = await page(stage)
    await stage.accept(stage.message(segments=2))
    claims = await stage.claim()
    await stage.store.settle([submitted(c, f"d{c.segment}") for c in claims])
    await stage.store.receipts([receipt("d1")])
    [first] = (await page(stage, begun.position)).events
    assert first.message is not None
    assert (first.message.segment, first.message.segments, first.message.message_state) == (
        1,
        2,
        State.SUBMITTED,
    )
    await stage.store.receipts([receipt("d2")])
    _, second = (await page(stage, begun.position)).events
    assert second.message is not None
    assert (second.message.segment, second.message.message_state) == (2, State.DELIVERED)


async def test_pages_go_on_where_the_one_before_ended(stage: Stage) -> None:
    begun = await page(stage)
    sent = [await delivered(stage, f"e{n}") for n in range(5)]
    found: list[FeedEvent] = []
    position, more = begun.position, True
    while more:
        part = await page(stage, position, limit=2)
        found += part.events
        position, more = part.position, part.more
    assert [event.subject for event in found] == sent
    assert await since(stage, position) == []


async def test_an_account_is_told_of_its_own_texts_only(stage: Stage) -> None:
    mine, other = await page(stage), stage.other.account_id
    theirs = await stage.store.feed_page(stage.term, other, None, 10)
    await delivered(stage, "f1")
    assert (await stage.store.feed_page(stage.term, other, theirs.position, 10)).events == []
    assert len((await page(stage, mine.position)).events) == 1


async def test_a_reply_is_told_to_the_account_that_texted_its_sender_last(stage: Stage) -> None:
    mine = await page(stage)
    theirs = await stage.store.feed_page(stage.term, stage.other.account_id, None, 10)
    await stage.accept(stage.message(stage.other))
    await stage.accept(stage.message())
    await stage.store.replies([reply(received_at=stage.now())])
    [event] = (await page(stage, mine.position)).events
    assert event.reply is not None
    assert (event.kind, event.reply.source, event.reply.text) == ("reply.received", CUSTOMER, "OUT")
    assert (await stage.store.feed_page(stage.term, stage.other.account_id, theirs.position, 10)).events == []


async def test_a_reply_from_somebody_whom_no_account_of_a_shared_code_has_texted_is_told_to_none(
    stage: Stage,
) -> None:
    begun = await page(stage)
    await stage.store.replies([reply(received_at=stage.now())])
    assert await since(stage, begun.position) == []


async def test_old_events_are_forgotten_and_whoever_stood_there_is_told(stage: Stage) -> None:
    begun = await page(stage)
    await delivered(stage, "g1")
    await delivered(stage, "g2")
    await page(stage, begun.position)
    await stage.pass_time(timedelta(days=11))
    last = await delivered(stage, "g3")
    while await stage.store.tidy_feed(stage.term, 1, timedelta(days=10).total_seconds(), 1e9):
        pass
    found = await page(stage, begun.position)
    assert found.lost
    assert [event.subject for event in found.events] == [last]


# -- endpoints


async def test_an_endpoint_is_stored_once_however_often_it_is_asked_for(stage: Stage) -> None:
    new = new_webhook(stage)
    first = await stage.store.create_webhook(stage.term, new, 20)
    assert first is not None
    assert await stage.store.create_webhook(stage.term, new, 20) == first
    assert list(await stage.store.webhooks(stage.term, stage.program.account_id)) == [first]


async def test_an_account_has_so_many_endpoints_and_no_more(stage: Stage) -> None:
    await endpoint(stage)
    assert await stage.store.create_webhook(stage.term, new_webhook(stage), 1) is None


async def test_another_account_sees_and_changes_nothing_of_an_endpoint(stage: Stage) -> None:
    made, other = await endpoint(stage), stage.other.account_id
    store, term = stage.store, stage.term
    assert list(await store.webhooks(term, other)) == []
    assert list(await store.webhooks(term, other, made.id)) == []
    assert await store.change_webhook(term, other, made.id, enabled=False) is None
    assert await store.rotate_webhook_secret(term, other, made.id, b"x" * 32, 0) is None
    assert not await store.test_webhook(term, other, made.id, uuid4(), "webhook.test", "{}")
    assert not await store.delete_webhook(term, other, made.id)
    assert await store.replay_letters(term, other, made.id, None, 10) == 0
    assert list(await store.dead_letters(term, other, made.id)) == []
    assert list(await store.webhook_rounds(term, other, made.id)) == []
    assert await look(stage, made.id) == made


async def test_a_changed_endpoint_has_what_was_named_and_keeps_the_rest(stage: Stage) -> None:
    made = await endpoint(stage, description="the old one")
    changed = await stage.store.change_webhook(
        stage.term, made.account_id, made.id, url="https://new.example/", kinds=["reply.received"]
    )
    assert changed is not None
    assert (changed.url, changed.kinds, changed.description, changed.enabled) == (
        "https://new.example/",
        ("reply.received",),
        "the old one",
        True,
    )


async def test_a_deleted_endpoint_is_gone(stage: Stage) -> None:
    made = await endpoint(stage)
    assert await stage.store.delete_webhook(stage.term, made.account_id, made.id)
    assert not await stage.store.delete_webhook(stage.term, made.account_id, made.id)
    await delivered(stage)
    assert list(await stage.store.claim_webhooks(stage.term, "columbus-1", 30.0, 10)) == []


async def test_the_secret_of_before_signs_as_well_until_its_time_is_over(stage: Stage) -> None:
    made = await endpoint(stage)
    for _ in range(2):  # repeated, it changes nothing
        await stage.store.rotate_webhook_secret(stage.term, made.account_id, made.id, b"n" * 32, 3_600)
    await delivered(stage)
    claim = await claimed(stage)
    assert (await batch(stage, claim)).secrets == (b"n" * 32, SECRET)
    await stage.pass_time(timedelta(hours=2))
    assert (await batch(stage, claim)).secrets == (b"n" * 32,)


# -- claims


async def test_only_what_has_something_to_tell_is_claimed_and_by_one(stage: Stage) -> None:
    await endpoint(stage)
    assert list(await stage.store.claim_webhooks(stage.term, "columbus-1", 30.0, 10)) == []
    await delivered(stage)
    await claimed(stage)
    assert list(await stage.store.claim_webhooks(stage.term, "columbus-2", 30.0, 10)) == []


async def test_a_claim_that_its_maker_does_not_know_of_is_made_anew(stage: Stage) -> None:
    await endpoint(stage)
    await delivered(stage)
    lost = await claimed(stage)
    again = await claimed(stage)
    assert again.claim_id != lost.claim_id
    assert (
        list(await stage.store.claim_webhooks(stage.term, "columbus-1", 30.0, 10, holding=[again.claim_id]))
        == []
    )
    assert await stage.store.webhook_batch(stage.term, lost.claim_id, 1, 10, 5) is None


async def test_a_claim_that_was_waited_out_is_free_unless_its_round_went_on(stage: Stage) -> None:
    await endpoint(stage)
    await delivered(stage)
    mine = await claimed(stage)
    seen = await stage.store.webhook_claims(stage.term)
    await batch(stage, mine)
    assert list(await stage.store.claim_webhooks(stage.term, "columbus-2", 30.0, 10, waited_out=seen)) == []
    seen = await stage.store.webhook_claims(stage.term)
    theirs = await claimed(stage, "columbus-2", waited_out=seen)
    assert await stage.store.webhook_batch(stage.term, mine.claim_id, 2, 10, 5) is None
    assert not await stage.store.settle_webhook(settlement(mine, taken=1))
    assert len((await batch(stage, theirs)).events) == 1


async def test_a_claim_of_an_older_term_posts_nothing_more_but_may_hand_in_what_it_posted(
    stage: Stage,
) -> None:
    made = await endpoint(stage)
    await delivered(stage)
    claim = await claimed(stage)
    [one] = (await batch(stage, claim)).events
    assert stage.lead is not None
    await stage.lead(stage.term + 1)
    with pytest.raises(NotLeader):
        await stage.store.webhook_batch(stage.term, claim.claim_id, 2, 10, 5)
    assert await stage.store.webhook_batch(stage.term + 1, claim.claim_id, 2, 10, 5) is None
    assert list(await stage.store.claim_webhooks(stage.term + 1, "denver-1", 30.0, 10)) == []
    assert await stage.store.settle_webhook(settlement(claim, position=one.event.position, taken=1))
    await stage.lead(stage.term)
    assert (await look(stage, made.id)).taken == 1


async def test_those_that_were_served_longest_ago_go_first(stage: Stage) -> None:
    first, second = await endpoint(stage), await endpoint(stage)
    await delivered(stage)
    served = []
    for _ in range(4):
        [claim] = await stage.store.claim_webhooks(stage.term, "columbus-1", 30.0, 1)
        served.append(claim.webhook_id)
        await batch(stage, claim)
        await stage.store.settle_webhook(settlement(claim))
    assert served == [first.id, second.id, first.id, second.id]


async def test_an_endpoint_that_is_switched_off_is_not_claimed_and_goes_on_where_it_was(stage: Stage) -> None:
    made = await endpoint(stage)
    await stage.store.change_webhook(stage.term, made.account_id, made.id, enabled=False)
    message_id = await delivered(stage)
    assert list(await stage.store.claim_webhooks(stage.term, "columbus-1", 30.0, 10)) == []
    await stage.store.change_webhook(stage.term, made.account_id, made.id, enabled=True)
    [one] = (await batch(stage, await claimed(stage))).events
    assert one.event.subject == message_id


async def test_what_is_skipped_is_not_told_any_more(stage: Stage) -> None:
    made = await endpoint(stage)
    await delivered(stage, "h1")
    claim = await claimed(stage)
    [one] = (await batch(stage, claim)).events
    await stage.store.settle_webhook(
        settlement(claim, position=one.event.position, letters=[refused(letter_of(one.event))])
    )
    await delivered(stage, "h2")
    await stage.store.change_webhook(stage.term, made.account_id, made.id, skip=True)
    await stage.pass_time(timedelta(hours=1))
    assert list(await stage.store.claim_webhooks(stage.term, "columbus-1", 30.0, 10)) == []
    last = await delivered(stage, "h3")
    assert [one.event.subject for one in (await batch(stage, await claimed(stage))).events] == [last]
