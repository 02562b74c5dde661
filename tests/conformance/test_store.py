"""What every store promises; the same tests on PostgreSQL and in memory."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from dispatcher.accounts import add_account
from dispatcher.memory_store import MemoryStore
from dispatcher.model import (
    ApiKey,
    MessageClass,
    OnDoubt,
    Program,
    Reply,
    State,
    StoredDurability,
    SubmitOutcome,
    Verdict,
)
from dispatcher.postgres_store import PostgresStore
from dispatcher.store import NotLeader
from replication.session import Session
from tests.message_scenes import (
    BODY,
    CARRIER,
    CUSTOMER,
    SHORT_CODE,
    Stage,
    new_id,
    receipt,
    result,
    submitted,
)
from tests.message_store import TERM, admin, as_role

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)

# Every column that a clock is compared with.
TIMES = (
    ("message", "accepted_at"),
    ("agenda", "at"),
    ("message", "send_at"),
    ("message", "expires_at"),
    ("delivery", "submitted_at"),
    ("delivery", "updated_at"),
    ("submission", "submitted_at"),
    ("doubt", "since"),
    ("doubt", "claimed_at"),
    ("claim", "claimed_at"),
    ("parked_receipt", "parked_at"),
    ("reply", "stored_at"),
)


class HeldClock:
    """Wall-clock time that only a test moves."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def now(self) -> float:
        return self.time.timestamp()

    def wall(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


@pytest.fixture(params=["memory", "postgres"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "memory":
        yield in_memory()
        return
    database = request.getfixturevalue("store_database")
    session = await Session.connect(as_role(database, "hotsite_migrate"), timeout=5)
    programs = [
        await add_account(session, name=name, program="outages", source=SHORT_CODE)
        for name in ("utility", "another")
    ]
    await session.aclose()
    superuser = await admin(database)

    await superuser.execute("update control.canary set written_at = clock_timestamp()")

    async def pass_time(duration: timedelta) -> None:
        await superuser.execute("update control.canary set written_at = written_at - $1::interval", duration)
        for table, column in TIMES:
            earlier = f"update hotsite.{table} set {column} = {column} - $1::interval"  # noqa: S608 (names from above)
            await superuser.execute(earlier, duration)

    async def lead(term: int) -> None:
        await superuser.execute("update control.leadership set term = $1", term)

    store = PostgresStore(await Session.connect(as_role(database, "hotsite_dispatch"), timeout=5))
    mine, other = [p for p in await store.programs(TERM) if p.id in {a.program_id for a in programs}]
    yield Stage(store, TERM, mine, other, pass_time, lambda: datetime.now(UTC), lead)
    await check_books(superuser)
    await superuser.close()
    await store.aclose()


def in_memory() -> Stage:
    clock = HeldClock()
    store = MemoryStore(clock, term=TERM)
    mine, other = (
        Program(
            id=number,
            account_id=number,
            name="outages",
            source=SHORT_CODE,
            on_doubt=OnDoubt.HOLD,
            message_class=MessageClass.SERVICE,
            enabled=True,
        )
        for number in (1, 2)
    )
    for program in (mine, other):
        store.add_program(program)
        store.add_key(
            ApiKey(
                id=program.id,
                account_id=program.account_id,
                prefix="hs_",
                secret_hash=bytes([program.id]) * 32,
                expires_at=None,
                revoked=False,
            )
        )

    async def pass_time(duration: timedelta) -> None:
        clock.time += duration

    async def lead(term: int) -> None:
        store.lead(term)

    return Stage(store, TERM, mine, other, pass_time, clock.wall, lead)


async def check_books(superuser: "asyncpg.Connection[asyncpg.Record]") -> None:
    """After every test: the tally counts what is there, and whatever waits is on a work list."""
    wrong = await superuser.fetch(
        "select state, counted, tallied from"
        " (select state, count(*) as counted from hotsite.delivery group by state) as c"
        " full join (select state, sum(delta) as tallied from hotsite.tally group by state) as t using (state)"
        " where coalesce(counted, 0) <> coalesce(tallied, 0)"
    )
    assert wrong == []
    forgotten = await superuser.fetch(
        "select d.* from hotsite.delivery as d where case d.state"
        " when 'queued' then not exists (select from hotsite.queue as q"
        "   where q.message_id = d.message_id and q.segment = d.segment)"
        "   and not exists (select from hotsite.agenda as a"
        "   where a.message_id = d.message_id and a.segment = d.segment)"
        " when 'scheduled' then not exists (select from hotsite.agenda as a"
        "   where a.message_id = d.message_id and a.segment = d.segment)"
        " when 'in_doubt' then not exists (select from hotsite.doubt as o"
        "   where o.message_id = d.message_id and o.segment = d.segment)"
        " when 'submitting' then not exists (select from hotsite.claim as c where c.claim_id = d.claim_id)"
        " else false end"
    )
    assert forgotten == []


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


async def test_answers_and_receipts_of_an_older_terms_claims_pass_and_nothing_else_of_it_does(
    stage: Stage,
) -> None:
    """They are true whoever leads: what was sent was sent (failover rule 8)."""
    assert stage.lead is not None
    answered, receipted = await stage.sent(), await stage.sent()
    await stage.store.settle([submitted(receipted, "77")])
    queued = stage.message()
    await stage.accept(queued)
    await stage.lead(TERM + 1)
    await stage.store.settle([submitted(answered, "78")])
    await stage.store.receipts([receipt("77")])
    for refused in (
        stage.claim(),
        stage.accept(stage.message()),
        stage.store.give_up_claims(TERM, [answered.claim_id]),
        stage.store.return_claims(TERM, "columbus-1", [answered.claim_id]),
    ):
        with pytest.raises(NotLeader):
            await refused
    stage.term = TERM + 1
    assert await stage.state(answered.message_id) is State.SUBMITTED
    assert await stage.state(receipted.message_id) is State.DELIVERED
    assert [claim.message_id for claim in await stage.claim()] == [queued.id]


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


# -- claiming


async def test_a_claim_brings_all_that_sending_needs(stage: Stage) -> None:
    claim = await stage.sent(body=BODY, to=CUSTOMER)
    assert (claim.to, claim.body, claim.source) == (CUSTOMER, BODY, SHORT_CODE)
    assert (claim.segment, claim.segments, claim.attempt) == (1, 1, 1)


async def test_emergencies_go_first_then_the_oldest(stage: Stage) -> None:
    bill, notice, alarm = (
        stage.message(message_class=message_class)
        for message_class in (MessageClass.MARKETING, MessageClass.SERVICE, MessageClass.EMERGENCY)
    )
    later = stage.message(message_class=MessageClass.SERVICE)
    await stage.accept(bill, notice, alarm, later)
    assert [c.message_id for c in await stage.claim()] == [alarm.id, notice.id, later.id, bill.id]


async def test_what_is_claimed_is_not_claimed_again(stage: Stage) -> None:
    await stage.accept(*(stage.message() for _ in range(5)))
    first, second = await stage.claim(3), await stage.claim(3)
    assert len(first) == 3
    assert len(second) == 2
    assert {c.message_id for c in first}.isdisjoint(c.message_id for c in second)
    assert first[0].claim_id != second[0].claim_id


async def test_each_segment_is_claimed_by_itself(stage: Stage) -> None:
    await stage.accept(stage.message(body="x" * 300, segments=2))
    assert [(c.segment, c.segments) for c in await stage.claim()] == [(1, 2), (2, 2)]


async def test_open_claims_tell_whose_and_how_many(stage: Stage) -> None:
    await stage.accept(stage.message(), stage.message())
    first, second = await stage.claim()
    [opened] = await stage.store.open_claims(TERM)
    assert (opened.dispatcher, opened.term, opened.segments) == ("columbus-1", TERM, 2)
    assert (opened.claim_id, opened.claim_for_s) == (first.claim_id, 5.0)
    await stage.store.settle([submitted(first), submitted(second, "0af4")])
    assert list(await stage.store.open_claims(TERM)) == []


# -- settling


async def test_an_answer_makes_it_submitted_and_a_repeat_changes_nothing(stage: Stage) -> None:
    claim = await stage.sent()
    for _ in range(2):
        await stage.store.settle([submitted(claim)])
    view = await stage.view(claim.message_id)
    assert view.state is State.SUBMITTED
    assert (view.segments[0].carrier, view.segments[0].carrier_message_id) == (CARRIER, "0af3")
    assert [event.state for event in view.events] == [State.ACCEPTED, State.SUBMITTED]


async def test_refused_for_good_is_failed_with_the_carriers_code(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([result(claim, SubmitOutcome.FAILED, command_status=0x0B)])
    [segment] = (await stage.view(claim.message_id)).segments
    assert (segment.state, segment.command_status) == (State.FAILED, 0x0B)


async def test_refused_for_now_is_claimed_again_as_a_new_attempt(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([result(claim, SubmitOutcome.QUEUED)])
    [again] = await stage.claim()
    assert (again.message_id, again.attempt) == (claim.message_id, 2)


async def test_a_retry_waits_for_its_time(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([result(claim, SubmitOutcome.QUEUED, retry_after_s=30)])
    assert await stage.store.release_due(TERM, 10) == 0
    assert await stage.claim() == []
    await stage.pass_time(MINUTE)
    assert await stage.store.release_due(TERM, 10) == 1
    assert [c.attempt for c in await stage.claim()] == [2]


async def test_an_answer_for_an_older_attempt_does_not_touch_the_new_one(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([result(claim, SubmitOutcome.QUEUED)])
    await stage.claim()
    await stage.store.settle([result(claim, SubmitOutcome.FAILED)])
    assert await stage.state(claim.message_id) is State.SUBMITTING


async def test_a_message_is_delivered_when_all_its_segments_are(stage: Stage) -> None:
    await stage.accept(stage.message(body="x" * 300, segments=2))
    first, second = await stage.claim()
    await stage.store.settle([submitted(second, "0af4"), submitted(first, "0af3")])
    await stage.store.receipts([receipt("0af3")])
    assert await stage.state(first.message_id) is State.SUBMITTED
    await stage.store.receipts([receipt("0af4")])
    assert await stage.state(first.message_id) is State.DELIVERED


# -- receipts


@pytest.mark.parametrize(
    "written",
    ["0af3", "0AF3", "AF3", "00000af3", "2803"],
    ids=["as answered", "other case", "no leading zero", "more zeros", "in decimal"],
)
async def test_a_receipt_finds_its_text_however_the_id_is_written(stage: Stage, written: str) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim, "0af3")])
    await stage.store.receipts([receipt(written)])
    assert await stage.state(claim.message_id) is State.DELIVERED


async def test_a_receipt_in_hexadecimal_finds_an_answer_in_decimal(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim, "2803")])
    await stage.store.receipts([receipt("AF3")])
    assert await stage.state(claim.message_id) is State.DELIVERED


async def test_an_id_as_written_wins_over_other_readings(stage: Stage) -> None:
    await stage.accept(stage.message(), stage.message())
    decimal, hexadecimal = await stage.claim()
    await stage.store.settle([submitted(decimal, "16"), submitted(hexadecimal, "10")])
    await stage.store.receipts([receipt("10")])
    assert await stage.state(decimal.message_id) is State.SUBMITTED
    assert await stage.state(hexadecimal.message_id) is State.DELIVERED


async def test_a_receipt_for_another_number_is_not_believed(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim)])
    await stage.store.receipts([receipt(source="+12025559999")])
    assert await stage.state(claim.message_id) is State.SUBMITTED


async def test_a_receipt_of_another_carrier_is_not_believed(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim)])
    await stage.store.receipts([receipt(carrier="carrier-b")])
    assert await stage.state(claim.message_id) is State.SUBMITTED


async def test_the_first_final_receipt_stands(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([submitted(claim)])
    await stage.store.receipts([receipt(state=State.SUBMITTED)])
    await stage.store.receipts([receipt(state=State.UNDELIVERED, error="042")])
    await stage.store.receipts([receipt(state=State.DELIVERED)])
    [segment] = (await stage.view(claim.message_id)).segments
    assert (segment.state, segment.error) == (State.UNDELIVERED, "042")


async def test_a_receipt_that_overtakes_its_answer_is_kept_for_it(stage: Stage) -> None:
    claim = await stage.sent()
    for _ in range(2):
        await stage.store.receipts([receipt("2803")])
    assert await stage.state(claim.message_id) is State.SUBMITTING
    await stage.store.settle([submitted(claim, "0AF3")])
    assert await stage.state(claim.message_id) is State.DELIVERED


# -- doubt


async def test_claims_given_up_are_in_doubt_and_not_queued(stage: Stage) -> None:
    claim = await stage.sent()
    assert await stage.store.give_up_claims(TERM, [claim.claim_id]) == 1
    assert await stage.store.give_up_claims(TERM, [claim.claim_id]) == 0
    view = await stage.view(claim.message_id)
    assert view.state is State.IN_DOUBT
    assert [event.state for event in view.events] == [State.ACCEPTED, State.IN_DOUBT]
    assert await stage.claim() == []


async def test_a_claim_whose_commit_was_unknown_is_returned_to_the_queue(stage: Stage) -> None:
    claim = await stage.sent()
    assert await stage.store.return_claims(TERM, "denver-1", [claim.claim_id]) == 0
    assert await stage.store.return_claims(TERM, "columbus-1", [claim.claim_id]) == 1
    assert [c.attempt for c in await stage.claim()] == [2]


async def test_a_late_answer_settles_the_doubt(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.store.settle([submitted(claim)])
    assert await stage.state(claim.message_id) is State.SUBMITTED
    await stage.store.receipts([receipt()])
    assert await stage.state(claim.message_id) is State.DELIVERED


async def test_a_late_refusal_settles_the_doubt(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.settle([result(claim, SubmitOutcome.IN_DOUBT)])
    await stage.store.settle([result(claim, SubmitOutcome.FAILED)])
    assert await stage.state(claim.message_id) is State.FAILED


async def test_what_proves_to_be_never_sent_is_queued_again(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.store.settle([result(claim, SubmitOutcome.QUEUED)])
    assert [c.attempt for c in await stage.claim()] == [2]


async def test_doubt_is_never_resent_by_a_program_that_holds(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.HOLD)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(MINUTE)
    assert await stage.store.resend_doubtful(TERM, 30, 10) == 0
    assert await stage.claim() == []


async def test_doubt_is_resent_once_after_the_grace(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    assert await stage.store.resend_doubtful(TERM, 30, 10) == 0
    await stage.pass_time(MINUTE)
    assert await stage.store.resend_doubtful(TERM, 30, 10) == 1
    [again] = await stage.claim()
    assert (again.message_id, again.attempt) == (claim.message_id, 2)
    await stage.store.give_up_claims(TERM, [again.claim_id])
    await stage.pass_time(MINUTE)
    assert await stage.store.resend_doubtful(TERM, 30, 10) == 0
    assert await stage.state(claim.message_id) is State.IN_DOUBT


async def test_a_late_answer_stops_a_resending_that_has_not_left(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(MINUTE)
    await stage.store.resend_doubtful(TERM, 30, 10)
    await stage.store.settle([submitted(claim)])
    assert await stage.claim() == []
    assert await stage.state(claim.message_id) is State.SUBMITTED


async def test_both_attempts_taken_is_told_and_either_receipt_counts(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(MINUTE)
    await stage.store.resend_doubtful(TERM, 30, 10)
    [again] = await stage.claim()
    await stage.store.settle([submitted(again, "0af4")])
    await stage.store.settle([submitted(claim, "0af3")])
    view = await stage.view(claim.message_id)
    assert "that attempt was taken, too" in view.events[-1].detail
    await stage.store.receipts([receipt("0af3")])
    assert await stage.state(claim.message_id) is State.DELIVERED


async def test_that_the_first_attempt_failed_says_nothing_about_the_second(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(MINUTE)
    await stage.store.resend_doubtful(TERM, 30, 10)
    [again] = await stage.claim()
    await stage.store.settle([submitted(again, "0af4"), submitted(claim, "0af3")])
    await stage.store.receipts([receipt("0af3", State.UNDELIVERED)])
    assert await stage.state(claim.message_id) is State.SUBMITTED


async def test_a_canceled_resending_is_in_doubt_again(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(MINUTE)
    await stage.store.resend_doubtful(TERM, 30, 10)
    view = await stage.store.cancel(TERM, stage.program.account_id, claim.message_id)
    assert view is not None
    assert view.state is State.IN_DOUBT
    assert await stage.claim() == []


async def test_a_receipt_without_a_known_id_settles_the_only_doubt_that_fits(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    for _ in range(2):
        await stage.store.receipts([receipt("77", text=BODY[:20])])
    view = await stage.view(claim.message_id)
    assert view.state is State.DELIVERED
    assert view.segments[0].carrier_message_id == "77"


async def test_a_receipt_that_came_before_the_doubt_settles_it(stage: Stage) -> None:
    claim = await stage.sent()
    await stage.store.receipts([receipt("77", text=BODY[:20])])
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    assert await stage.state(claim.message_id) is State.DELIVERED


@pytest.mark.parametrize(
    "changes",
    [{"text": "Something else"}, {"source": "+12025559999"}, {"destination": "54321"}],
    ids=["text", "number", "short code"],
)
async def test_a_receipt_that_does_not_fit_settles_no_doubt(stage: Stage, changes: dict[str, Any]) -> None:
    claim = await stage.sent()
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.store.receipts([receipt("77", **changes)])
    assert await stage.state(claim.message_id) is State.IN_DOUBT


async def test_a_receipt_from_before_the_claim_settles_no_doubt(stage: Stage) -> None:
    await stage.store.receipts([receipt("77", text=BODY[:20])])
    await stage.pass_time(SECOND)
    claim = await stage.sent()
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    assert await stage.state(claim.message_id) is State.IN_DOUBT


async def test_a_receipt_that_fits_two_doubts_settles_neither(stage: Stage) -> None:
    await stage.accept(stage.message(), stage.message())
    claims = await stage.claim()
    await stage.store.give_up_claims(TERM, [claims[0].claim_id])
    await stage.store.receipts([receipt("77", text=BODY[:20])])
    assert {await stage.state(c.message_id) for c in claims} == {State.IN_DOUBT}


async def test_a_receipt_that_may_be_for_a_text_still_unanswered_settles_no_doubt(stage: Stage) -> None:
    doubtful = await stage.sent()
    await stage.store.give_up_claims(TERM, [doubtful.claim_id])
    unanswered = await stage.sent()
    await stage.store.receipts([receipt("77", text=BODY[:20])])
    assert await stage.state(doubtful.message_id) is State.IN_DOUBT
    await stage.store.settle([submitted(unanswered, "77")])
    assert await stage.state(unanswered.message_id) is State.DELIVERED


async def test_a_repeated_receipt_of_a_settled_text_settles_no_doubt(stage: Stage) -> None:
    settled = await stage.sent()
    await stage.store.settle([submitted(settled, "77")])
    doubtful = await stage.sent()
    await stage.store.give_up_claims(TERM, [doubtful.claim_id])
    for _ in range(2):
        await stage.store.receipts([receipt("77", text=BODY[:20])])
    assert await stage.state(doubtful.message_id) is State.IN_DOUBT


async def test_no_receipt_in_72_hours_is_unknown(stage: Stage) -> None:
    answered = await stage.sent()
    await stage.store.settle([submitted(answered)])
    doubtful = await stage.sent()
    await stage.store.give_up_claims(TERM, [doubtful.claim_id])
    await stage.pass_time(2 * DAY)
    assert await stage.store.release_due(TERM, 10) == 0
    await stage.pass_time(DAY + MINUTE)
    assert await stage.store.release_due(TERM, 10) == 2
    assert await stage.state(answered.message_id) is State.UNKNOWN
    assert await stage.state(doubtful.message_id) is State.UNKNOWN


# -- time


async def test_a_scheduled_message_is_claimed_only_when_its_time_has_come(stage: Stage) -> None:
    message = stage.message(send_at=stage.now() + MINUTE)
    [row] = (await stage.store.accept(TERM, [message])).rows
    assert row.state is State.SCHEDULED
    assert await stage.store.release_due(TERM, 10) == 0
    assert await stage.claim() == []
    await stage.pass_time(2 * MINUTE)
    assert await stage.store.release_due(TERM, 10) == 1
    assert [c.message_id for c in await stage.claim()] == [message.id]


async def test_a_queued_message_expires_and_is_never_claimed(stage: Stage) -> None:
    message = stage.message(expires_at=stage.now() + MINUTE)
    await stage.accept(message)
    await stage.pass_time(2 * MINUTE)
    assert await stage.store.release_due(TERM, 10) == 1
    assert await stage.state(message.id) is State.EXPIRED
    assert await stage.claim() == []


async def test_what_has_expired_is_not_claimed_though_nobody_looked_at_it_yet(stage: Stage) -> None:
    late, timely = stage.message(expires_at=stage.now() + MINUTE), stage.message()
    later = stage.message(expires_at=stage.now() + 5 * MINUTE)
    await stage.accept(late, timely, later)
    await stage.pass_time(2 * MINUTE)
    assert [c.message_id for c in await stage.claim()] == [timely.id, later.id]
    assert await stage.store.release_due(TERM, 10) == 1
    view = await stage.view(late.id)
    assert view.state is State.EXPIRED
    assert view.events[-1].detail == "Its time ran out."
    assert [part.attempts for part in view.segments] == [0]


async def test_a_text_behind_many_that_expired_is_claimed_at_once(stage: Stage) -> None:
    await stage.accept(*(stage.message(expires_at=stage.now() + MINUTE) for _ in range(12)), stage.message())
    await stage.pass_time(2 * MINUTE)
    assert len(await stage.claim(2)) == 1
    assert await stage.store.release_due(TERM, 100) == 12


async def test_of_what_expires_no_more_than_the_limit_is_looked_at_together(stage: Stage) -> None:
    await stage.accept(*(stage.message(expires_at=stage.now() + MINUTE) for _ in range(5)))
    await stage.pass_time(2 * MINUTE)
    assert [await stage.store.release_due(TERM, 2) for _ in range(4)] == [2, 2, 1, 0]


async def test_what_is_due_does_not_wait_behind_the_expiry_of_texts_long_delivered(stage: Stage) -> None:
    for number in range(4):
        claim = await stage.sent(expires_at=stage.now() + MINUTE)
        await stage.store.settle([submitted(claim, f"id{number}")])
    scheduled = stage.message(send_at=stage.now() + 2 * MINUTE)
    await stage.accept(scheduled)
    await stage.pass_time(3 * MINUTE)
    assert await stage.store.release_due(TERM, 2) == 1
    assert [c.message_id for c in await stage.claim()] == [scheduled.id]


async def test_a_claim_tells_how_long_its_text_may_still_be_sent(stage: Stage) -> None:
    claim = await stage.sent(expires_at=stage.now() + MINUTE)
    assert claim.expires_in_s == pytest.approx(60, abs=10)
    assert (await stage.sent()).expires_in_s is None


async def test_a_text_that_may_have_left_before_does_not_expire_but_is_in_doubt(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND, expires_at=stage.now() + 5 * MINUTE)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(MINUTE)
    assert await stage.store.resend_doubtful(TERM, 30, 10) == 1
    await stage.pass_time(5 * MINUTE)
    assert await stage.claim() == []
    assert await stage.store.release_due(TERM, 10) == 1
    assert await stage.state(claim.message_id) is State.IN_DOUBT


async def test_a_scheduled_message_expires_without_having_been_queued(stage: Stage) -> None:
    message = stage.message(send_at=stage.now() + MINUTE, expires_at=stage.now() + 2 * MINUTE)
    await stage.accept(message)
    await stage.pass_time(3 * MINUTE)
    assert await stage.store.release_due(TERM, 10) == 1
    assert await stage.state(message.id) is State.EXPIRED


async def test_a_text_that_returns_to_the_queue_still_expires(stage: Stage) -> None:
    claim = await stage.sent(expires_at=stage.now() + MINUTE)
    await stage.pass_time(2 * MINUTE)
    assert await stage.store.release_due(TERM, 10) == 0
    await stage.store.settle([result(claim, SubmitOutcome.QUEUED)])
    assert await stage.store.release_due(TERM, 10) == 1
    assert await stage.state(claim.message_id) is State.EXPIRED


async def test_an_expired_text_is_not_resent(stage: Stage) -> None:
    claim = await stage.sent(on_doubt=OnDoubt.RESEND, expires_at=stage.now() + MINUTE)
    await stage.store.give_up_claims(TERM, [claim.claim_id])
    await stage.pass_time(2 * MINUTE)
    assert await stage.store.resend_doubtful(TERM, 30, 10) == 0
    assert await stage.state(claim.message_id) is State.IN_DOUBT


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
