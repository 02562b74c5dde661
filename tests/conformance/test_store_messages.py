"""What every store promises of accepting, looking up and cancelling; the same tests on PostgreSQL and in memory."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from dispatcher.model import Reply, State, StoredDurability, Verdict
from dispatcher.store import NotLeader
from tests.message_scenes import BODY, CARRIER, CUSTOMER, SHORT_CODE, Stage, new_id, submitted
from tests.message_store import TERM

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


# -- who leads


async def test_another_term_is_refused_and_nothing_is_done(stage: Stage) -> None:
    message = stage.message(reference="r1")
    with pytest.raises(NotLeader):
        await stage.store.accept(TERM - 1, [message])
    group = await stage.store.accept(TERM, [stage.message(reference="r1")])
    assert group.rows[0].verdict is Verdict.NEW


async def test_every_method_with_a_term_refuses_another(stage: Stage) -> None:
    store, account, term = stage.store, stage.program.account_id, TERM + 1
    for attempt in (
        store.read(term, account, new_id()),
        store.find(term, account),
        store.cancel(term, account, new_id()),
        store.claim(term, "columbus-1", 10, 5.0),
        store.open_claims(term),
        store.give_up_claims(term, [1]),
        store.return_claims(term, "columbus-1", [1]),
        store.resend_doubtful(term, 60, 10),
        store.release_due(term, 10),
        store.counts(term),
        store.programs(term),
        store.api_keys(term),
    ):
        with pytest.raises(NotLeader):
            await attempt


async def test_open_in_its_own_term_only(stage: Stage) -> None:
    assert await stage.store.is_open(TERM)
    assert not await stage.store.is_open(TERM + 1)


async def test_whoever_asks_for_a_fresh_canary_is_told_open_only_while_it_is_fresh(stage: Stage) -> None:
    assert await stage.store.is_open(TERM, canary_max_age_s=30.0)
    await stage.pass_time(MINUTE)
    assert not await stage.store.is_open(TERM, canary_max_age_s=30.0)
    assert await stage.store.is_open(TERM, canary_max_age_s=90.0)
    assert await stage.store.is_open(TERM)


async def test_a_canary_of_the_future_is_not_fresh(stage: Stage) -> None:
    await stage.pass_time(-MINUTE)  # the clock was set back: how old it is nobody can tell until the next
    assert not await stage.store.is_open(TERM, canary_max_age_s=30.0)


# -- accepting


async def test_a_group_answers_in_the_order_of_its_rows(stage: Stage) -> None:
    rows = [stage.message(reference=reference) for reference in ("c", "a", "b")]
    group = await stage.store.accept(TERM, rows)
    assert [row.id for row in group.rows] == [row.id for row in rows]
    assert {row.verdict for row in group.rows} == {Verdict.NEW}
    assert {row.state for row in group.rows} == {State.QUEUED}


async def test_a_repeated_reference_answers_with_the_first_message(stage: Stage) -> None:
    first, again = stage.message(reference="r1"), stage.message(reference="r1")
    await stage.accept(first)
    [row] = (await stage.store.accept(TERM, [again])).rows
    assert (row.id, row.verdict, row.state) == (first.id, Verdict.DUPLICATE, State.QUEUED)
    assert await stage.store.read(TERM, stage.program.account_id, again.id) is None


async def test_a_repeated_reference_with_other_content_is_a_conflict(stage: Stage) -> None:
    first = stage.message(reference="r1")
    await stage.accept(first)
    [row] = (await stage.store.accept(TERM, [stage.message(reference="r1", body="Something else.")])).rows
    assert (row.id, row.verdict) == (first.id, Verdict.CONFLICT)


async def test_a_reference_twice_in_one_group_is_stored_once(stage: Stage) -> None:
    first, second = stage.message(reference="r1"), stage.message(reference="r1")
    group = await stage.store.accept(TERM, [first, second])
    assert [row.verdict for row in group.rows] == [Verdict.NEW, Verdict.DUPLICATE]
    assert {row.id for row in group.rows} == {first.id}
    assert len(await stage.claim()) == 1


async def test_the_same_reference_of_two_accounts_is_two_messages(stage: Stage) -> None:
    rows = [stage.message(reference="r1"), stage.message(stage.other, reference="r1")]
    group = await stage.store.accept(TERM, rows)
    assert [row.verdict for row in group.rows] == [Verdict.NEW, Verdict.NEW]


async def test_a_group_repeated_with_the_same_ids_is_new_again_and_stored_once(stage: Stage) -> None:
    rows = [stage.message(reference="r1"), stage.message()]
    await stage.accept(*rows)
    group = await stage.store.accept(TERM, rows)
    assert [row.verdict for row in group.rows] == [Verdict.NEW, Verdict.NEW]
    assert [row.id for row in group.rows] == [row.id for row in rows]
    assert len(await stage.claim()) == 2


async def test_a_duplicate_tells_the_first_messages_state_of_now(stage: Stage) -> None:
    claim = await stage.sent(reference="r1")
    await stage.store.settle([submitted(claim)])
    [row] = (await stage.store.accept(TERM, [stage.message(reference="r1")])).rows
    assert row.state is State.SUBMITTED


async def test_a_group_with_a_program_of_another_account_is_refused_whole(stage: Stage) -> None:
    bad = stage.message(program_id=stage.other.id)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await stage.store.accept(TERM, [stage.message(), bad])
    assert await stage.claim() == []


async def test_the_group_says_where_it_is_on_disk(stage: Stage) -> None:
    group = await stage.store.accept(TERM, [stage.message()])
    assert group.durability in set(StoredDurability)


# -- looking up


async def test_a_message_reads_back_as_it_was_sent(stage: Stage) -> None:
    message = stage.message(reference="r1", expires_at=stage.now() + DAY)
    await stage.accept(message)
    view = await stage.view(message.id)
    assert (view.to, view.body, view.reference, view.program) == (CUSTOMER, BODY, "r1", "outages")
    assert (view.expires_at, view.on_doubt, view.encoding) == (
        message.expires_at,
        message.on_doubt,
        message.encoding,
    )
    assert view.state is State.QUEUED
    assert [event.state for event in view.events] == [State.ACCEPTED]


async def test_no_account_sees_anothers_message(stage: Stage) -> None:
    message = stage.message(reference="r1")
    await stage.accept(message)
    other = stage.other.account_id
    assert await stage.store.read(TERM, other, message.id) is None
    assert await stage.store.cancel(TERM, other, message.id) is None
    assert not (await stage.store.find(TERM, other)).messages
    assert not (await stage.store.find(TERM, other, reference="r1")).messages
    assert await stage.state(message.id) is State.QUEUED


async def test_finding_by_reference_number_and_state(stage: Stage) -> None:
    wanted = stage.message(reference="r1", to="+12025550199")
    await stage.accept(wanted, stage.message(reference="r2"))
    account = stage.program.account_id
    for found in (
        (await stage.store.find(TERM, account, reference="r1")).messages,
        (await stage.store.find(TERM, account, to="+12025550199")).messages,
        (await stage.store.find(TERM, account, to="+12025550199", state=State.QUEUED)).messages,
    ):
        assert [view.id for view in found] == [wanted.id]
    assert not (await stage.store.find(TERM, account, state=State.DELIVERED)).messages


async def test_pages_are_newest_first_and_follow_the_cursor(stage: Stage) -> None:
    messages = [stage.message() for _ in range(5)]
    await stage.accept(*messages)
    account = stage.program.account_id
    first = await stage.store.find(TERM, account, limit=3)
    second = await stage.store.find(TERM, account, after=first.reached, limit=3)
    assert [v.id for v in (*first.messages, *second.messages)] == [m.id for m in reversed(messages)]
    assert first.reached == first.messages[-1].id
    assert second.reached is None


async def test_a_page_that_just_holds_the_rest_is_the_last(stage: Stage) -> None:
    await stage.accept(*(stage.message() for _ in range(3)))
    account = stage.program.account_id
    for asked in ({}, {"state": State.QUEUED}, {"to": CUSTOMER}):
        page = await stage.store.find(TERM, account, limit=3, **asked)
        assert (len(page.messages), page.reached) == (3, None)


async def test_pages_of_a_state_follow_the_cursor(stage: Stage) -> None:
    messages = [stage.message() for _ in range(6)]
    await stage.accept(*messages)
    account = stage.program.account_id
    for canceled in messages[::2]:
        await stage.store.cancel(TERM, account, canceled.id)
    first = await stage.store.find(TERM, account, state=State.CANCELED, limit=2)
    second = await stage.store.find(TERM, account, state=State.CANCELED, after=first.reached, limit=2)
    assert [v.id for v in (*first.messages, *second.messages)] == [m.id for m in messages[4::-2]]
    assert second.reached is None


async def test_finding_since_a_time_fills_its_pages_with_what_came_then_or_later(stage: Stage) -> None:
    await stage.accept(*(stage.message() for _ in range(3)))
    await stage.pass_time(DAY)
    messages = [stage.message() for _ in range(4)]
    await stage.accept(*messages)
    account, since = stage.program.account_id, stage.now() - DAY / 2
    first = await stage.store.find(TERM, account, since=since, limit=3)
    second = await stage.store.find(TERM, account, since=since, after=first.reached, limit=3)
    assert [v.id for v in (*first.messages, *second.messages)] == [m.id for m in reversed(messages)]
    assert not (await stage.store.find(TERM, account, since=stage.now() + MINUTE)).messages


async def test_finding_since_the_very_time_of_a_message_finds_it(stage: Stage) -> None:
    await stage.accept(message := stage.message())
    at = (await stage.view(message.id)).accepted_at
    account = stage.program.account_id
    assert [v.id for v in (await stage.store.find(TERM, account, since=at)).messages] == [message.id]
    assert not (await stage.store.find(TERM, account, since=at + SECOND)).messages


async def test_a_time_goes_with_every_other_way_of_finding(stage: Stage) -> None:
    old = stage.message(reference="old")
    await stage.accept(old)
    await stage.pass_time(DAY)
    new = stage.message(reference="new")
    await stage.accept(new)
    account, since = stage.program.account_id, stage.now() - DAY / 2
    for found in (
        (await stage.store.find(TERM, account, since=since, to=CUSTOMER)).messages,
        (await stage.store.find(TERM, account, since=since, state=State.QUEUED, limit=1)).messages,
        (await stage.store.find(TERM, account, since=since, reference="new")).messages,
    ):
        assert [view.id for view in found] == [new.id]
    assert not (await stage.store.find(TERM, account, since=since, reference="old")).messages


async def test_a_time_at_the_edge_of_the_calendar_is_a_time(stage: Stage) -> None:
    await stage.accept(message := stage.message())
    account = stage.program.account_id
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert [v.id for v in (await stage.store.find(TERM, account, since=first)).messages] == [message.id]
    assert not (await stage.store.find(TERM, account, since=last)).messages


# -- cancelling


async def test_a_queued_message_can_be_canceled_and_is_never_claimed(stage: Stage) -> None:
    message = stage.message()
    await stage.accept(message)
    view = await stage.store.cancel(TERM, stage.program.account_id, message.id)
    assert view is not None
    assert view.state is State.CANCELED
    assert await stage.claim() == []


async def test_what_has_been_claimed_is_not_canceled(stage: Stage) -> None:
    claim = await stage.sent()
    view = await stage.store.cancel(TERM, stage.program.account_id, claim.message_id)
    assert view is not None
    assert view.state is State.SUBMITTING


# -- numbers, accounts, replies


async def test_counts_by_state_and_the_age_of_what_waits(stage: Stage) -> None:
    await stage.accept(*(stage.message() for _ in range(3)))
    await stage.claim(1)
    await stage.pass_time(MINUTE)
    counts = await stage.store.counts(TERM)
    assert counts.by_state == {State.QUEUED: 2, State.SUBMITTING: 1}
    assert counts.oldest_queued_s == {"service": pytest.approx(60, abs=30)}


async def test_programs_and_keys_are_listed(stage: Stage) -> None:
    assert {p.account_id for p in await stage.store.programs(TERM)} == {
        stage.program.account_id,
        stage.other.account_id,
    }
    keys = await stage.store.api_keys(TERM)
    assert [key.revoked for key in keys] == [False, False]
    assert {len(key.secret_hash) for key in keys} == {32}


async def test_replies_are_taken_and_may_be_repeated(stage: Stage) -> None:
    reply = Reply(
        carrier=CARRIER,
        source=CUSTOMER,
        destination=SHORT_CODE,
        text="STOP",
        received_at=stage.now(),
        fingerprint=b"f" * 32,
    )
    for _ in range(2):
        await stage.store.replies([reply])


async def test_nothing_to_do_is_done_quietly(stage: Stage) -> None:
    await stage.store.settle([])
    await stage.store.receipts([])
    await stage.store.replies([])
    assert await stage.claim() == []
    assert await stage.store.release_due(TERM, 10) == 0
    assert await stage.store.resend_doubtful(TERM, 30, 10) == 0
    assert (await stage.store.counts(TERM)).by_state == {}
