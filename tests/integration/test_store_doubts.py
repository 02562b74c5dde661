"""An operator's side of doubt: the list of a term, and decisions, as the commands carry them out."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from dispatcher.accounts import add_account
from dispatcher.doubts import Decision, NothingInDoubtError, decide, list_doubts, still_open
from dispatcher.model import Claim, NewMessage, OnDoubt, Program, State, SubmitOutcome
from dispatcher.postgres_store import PostgresStore
from replication.session import Session, Target
from tests.message_scenes import Stage, receipt, result, submitted
from tests.message_store import TERM, as_role


@pytest.fixture
async def session(store_database: Target) -> AsyncIterator[Session]:
    found = await Session.connect(as_role(store_database, "hotsite_migrate"), timeout=5)
    yield found
    await found.aclose()


@pytest.fixture
async def stage(store_database: Target, session: Session) -> AsyncIterator[Stage]:
    store = PostgresStore(await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5))
    programs: list[Program] = []
    for name in ("utility", "other"):
        await add_account(session, name=name, program="outages", source="12345")
    programs.extend(await store.programs(TERM))
    yield Stage(
        store=store,
        term=TERM,
        program=programs[0],
        other=programs[1],
        pass_time=lambda _: session.read("select", timeout=5.0),  # type: ignore[arg-type,return-value] # unused
        now=lambda: datetime.now(UTC),
    )
    await store.aclose()


async def in_doubt(stage: Stage, *messages: NewMessage) -> list[Claim]:
    await stage.accept(*messages)
    claims = await stage.claim()
    await stage.store.settle([result(claim, SubmitOutcome.IN_DOUBT) for claim in claims])
    return claims


async def test_the_list_of_a_term_names_each_with_its_account_and_its_state(
    stage: Stage, session: Session
) -> None:
    first, _ = await in_doubt(stage, stage.message(reference="r1"), stage.message(stage.other))
    await stage.store.settle([submitted(first, "77")])
    found = await list_doubts(session, TERM)
    assert [(d.account, d.reference, d.state, d.term, d.on_doubt) for d in found] == [
        ("utility", "r1", State.SUBMITTED, TERM, OnDoubt.HOLD),
        ("other", None, State.IN_DOUBT, TERM, OnDoubt.HOLD),
    ]
    assert [d.account for d in still_open(found)] == ["other"]
    assert [d.account for d in await list_doubts(session, TERM, "utility")] == ["utility"]
    assert await list_doubts(session, TERM + 1) == []
    assert found[0].as_json()["message_id"] == str(first.message_id)


async def test_what_is_decided_to_be_sent_again_is_claimed_whatever_its_program_says(
    stage: Stage, session: Session
) -> None:
    [claim] = await in_doubt(stage, stage.message(on_doubt=OnDoubt.HOLD))
    assert await decide(session, [claim.message_id], Decision.RESEND) == [(claim.message_id, 1)]
    [again] = await stage.claim()
    assert (again.message_id, again.attempt) == (claim.message_id, 2)
    await stage.store.settle([submitted(claim, "77")])  # the late answer to the first attempt
    await stage.store.receipts([receipt("77")])
    assert await stage.state(claim.message_id) is State.DELIVERED


async def test_what_is_let_go_is_unknown_and_never_sent_again(stage: Stage, session: Session) -> None:
    [claim] = await in_doubt(stage, stage.message())
    assert await decide(session, [claim.message_id], Decision.LET_GO) == [(claim.message_id, 1)]
    assert await stage.state(claim.message_id) is State.UNKNOWN
    assert (await stage.store.counts(TERM)).by_state == {State.UNKNOWN: 1}
    assert await stage.claim() == []
    view = await stage.view(claim.message_id)
    assert "An operator decided to wait for nothing more." in view.events[-1].detail


async def test_what_is_not_in_doubt_is_not_decided(stage: Stage, session: Session) -> None:
    claim = await stage.sent()
    with pytest.raises(NothingInDoubtError):
        await decide(session, [claim.message_id], Decision.RESEND)
    assert await stage.state(claim.message_id) is State.SUBMITTING


async def test_of_a_long_text_only_the_segment_in_doubt_is_decided(stage: Stage, session: Session) -> None:
    await stage.accept(stage.message(body="x" * 300, segments=2))
    first, second = await stage.claim()
    await stage.store.settle([submitted(first, "77"), result(second, SubmitOutcome.IN_DOUBT)])
    assert await decide(session, [first.message_id], Decision.RESEND) == [(second.message_id, 2)]
    assert [claim.segment for claim in await stage.claim()] == [2]
