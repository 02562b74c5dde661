"""Texts whose receipts do not come are asked for; what is learned is stored as a receipt."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from dispatcher.engine import queries as module
from dispatcher.engine.queries import ASKED_MAX, Queries
from dispatcher.model import Receipt, State
from dispatcher.smpp.link import Answer, Deliver, QueryRefusedError
from dispatcher.smpp.pdu import QuerySm, QuerySmResp, SubmitSm, Ton
from sitecontrol.clock import SystemClock
from sitecontrol.settings_carriers import Carrier
from tests.waiting import eventually

ASKED = Carrier(name="acme", address="127.0.0.1:1", system_id="hotsite", query_after=0.03)
SUBMIT = SubmitSm(source="12345", source_ton=Ton.ABBREVIATED, destination="15550001111")
TAKEN = Answer(doubt=False, message_id="0AF3")


class Link:
    """Answers each query with the next of `states`, and refuses when there is none."""

    def __init__(self, *states: int) -> None:
        self.states = list(states)
        self.asked: list[QuerySm] = []
        self.is_bound = True
        self.looked_at = 0

    @property
    def bound(self) -> bool:
        self.looked_at += 1
        return self.is_bound

    async def query(self, query: QuerySm) -> QuerySmResp:
        self.asked.append(query)
        if not self.states:
            raise QueryRefusedError("query refused with ESME_RQUERYFAIL")
        state = self.states.pop(0)
        return QuerySmResp(
            message_id=query.message_id, final_date="261127083000000+", message_state=state, error_code=7
        )


class Stored:
    def __init__(self) -> None:
        self.rows: list[Deliver] = []
        self.works = True

    async def __call__(self, rows: Sequence[Deliver]) -> bool:
        if self.works:
            self.rows += rows
        return self.works


@asynccontextmanager
async def asking(link: Link, carrier: Carrier = ASKED) -> AsyncIterator[tuple[Queries, Stored]]:
    stored = Stored()
    queries = Queries(store=stored, clock=SystemClock())
    await queries.start([(carrier, link)])
    try:
        yield queries, stored
    finally:
        await queries.stop()
    assert not queries.tasks.died.is_set()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.01)


def receipt(message_id: str, state: State = State.DELIVERED) -> Receipt:
    return Receipt(
        carrier="acme",
        carrier_message_id=message_id,
        state=state,
        source="15550001111",
        destination="12345",
        text="",
        error="000",
        done_at=None,
    )


async def test_a_text_without_a_receipt_is_asked_for_and_the_answer_stored_as_one():
    link = Link(5)
    async with asking(link) as (queries, stored):
        queries.taken(ASKED, SUBMIT, TAKEN)
        await eventually(lambda: stored.rows)
        assert link.asked == [QuerySm(message_id="0AF3", source="12345", source_ton=Ton.ABBREVIATED)]
        [row] = stored.rows
        assert isinstance(row, Receipt)
        assert replace(row, done_at=None) == replace(receipt("0AF3", State.UNDELIVERED), error="007")
        assert row.done_at is not None
        assert queries.open == 0


@pytest.mark.parametrize("written", ["0AF3", "af3", "2803"])
async def test_what_a_receipt_told_is_not_asked_for(written):
    link = Link(2)
    async with asking(link) as (queries, stored):
        queries.taken(ASKED, SUBMIT, TAKEN)
        assert await queries.deliver([receipt(written)])
        assert queries.open == 0
        assert len(stored.rows) == 1
        queries.taken(ASKED, SUBMIT, replace(TAKEN, message_id="0AF4"))  # its turn is after that of the other
        await eventually(lambda: link.asked)
        assert [query.message_id for query in link.asked] == ["0AF4"]


async def test_an_intermediate_receipt_or_one_that_was_not_stored_leaves_the_question_open():
    async with asking(Link()) as (queries, stored):
        queries.taken(ASKED, SUBMIT, TAKEN)
        await queries.deliver([receipt("0AF3", State.SUBMITTED)])
        stored.works = False
        assert not await queries.deliver([receipt("0AF3")])
        assert queries.open == 1


async def test_a_text_that_is_under_way_is_asked_for_again():
    link = Link(1, 1, 2)
    async with asking(link) as (queries, stored):
        queries.taken(ASKED, SUBMIT, TAKEN)
        await eventually(lambda: stored.rows)
        assert len(link.asked) == 3


async def test_a_carrier_that_never_tells_is_left_alone_in_the_end():
    link = Link()
    async with asking(link) as (queries, stored):
        queries.taken(ASKED, SUBMIT, TAKEN)
        await eventually(lambda: len(link.asked) == ASKED_MAX and not queries.open)
        assert stored.rows == []


async def test_a_link_that_is_not_bound_is_waited_for():
    link = Link(2)
    link.is_bound = False
    async with asking(link) as (queries, stored):
        queries.taken(ASKED, SUBMIT, TAKEN)
        await eventually(lambda: link.looked_at > 2)
        await eventually(lambda: queries.open == 1)  # none is while it is taken up and put back
        assert link.asked == []
        link.is_bound = True
        await eventually(lambda: stored.rows)


@pytest.mark.parametrize(
    ("carrier", "answer"),
    [
        (ASKED.model_copy(update={"query_after": None}), TAKEN),
        (ASKED, Answer(doubt=False, command_status=8)),
        (ASKED, Answer(doubt=False)),
    ],
    ids=["not wanted", "refused", "without an id"],
)
async def test_what_cannot_or_must_not_be_asked_for_is_not_remembered(carrier, answer):
    queries = Queries(store=Stored(), clock=SystemClock())
    queries.taken(carrier, SUBMIT, answer)
    assert queries.open == 0
    await queries.start([(carrier.model_copy(update={"query_after": None}), Link())])
    await queries.stop()


async def test_no_more_is_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "REMEMBERED_MAX", 10)
    queries = Queries(store=Stored(), clock=SystemClock())
    for number in range(20):
        queries.taken(ASKED, SUBMIT, Answer(doubt=False, message_id=f"m-{number}"))
    assert queries.open == 10
