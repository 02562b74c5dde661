"""Group commit: who is told what when commits succeed, fail, are refused, hang, or their client hangs up."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import asyncpg
import pytest

from dispatcher.intake import Acknowledgement, Intake, RowRefused, settled
from dispatcher.leadership import Unavailable
from dispatcher.memory_store import MemoryStore
from dispatcher.model import Group, NewMessage, Verdict
from sitecontrol.clock import SystemClock
from tests.api_server import TERM, HandHeldLeadership, furnished_store, settings
from tests.unit.test_grouping import OTHER, ROW


class WatchedStore(MemoryStore):
    """Notes the groups; refuses a text that says so, as PostgreSQL would; fails when told to."""

    def __init__(self) -> None:
        super().__init__(term=7)
        furnished = furnished_store()
        self._programs, self._keys = furnished._programs, furnished._keys
        self.groups: list[list[UUID]] = []
        self.fails: Exception | None = None

    async def accept(self, term: int, rows: Sequence[NewMessage]) -> Group:
        self.groups.append([row.id for row in rows])
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        if any(row.body == "poison" for row in rows):
            error = asyncpg.PostgresError("invalid byte sequence")
            error.sqlstate = "22021"
            raise error
        return await super().accept(term, rows)


@pytest.fixture
def store():
    return WatchedStore()


@pytest.fixture
def leadership(store):
    return HandHeldLeadership(store)


@pytest.fixture
async def intake(leadership):
    made = Intake(leadership, settings(group_wait_ms=1).dispatcher, SystemClock())
    yield made
    leadership.gate.set()
    await made.stop()


def row(reference: str | None = None, **changed: object) -> NewMessage:
    return replace(ROW, id=uuid4(), reference=reference, **changed)


async def all_of(intake: Intake, *rows: NewMessage) -> list[Acknowledgement | BaseException]:
    return await asyncio.gather(*map(intake.accept, rows), return_exceptions=True)


async def test_an_answer_names_the_site_of_its_own_term_though_production_moves_meanwhile(
    intake, leadership, store, monkeypatch
):
    accept = store.accept

    async def while_production_moves(term, rows):
        leadership.live_site = "denver"
        return await accept(term, rows)

    monkeypatch.setattr(store, "accept", while_production_moves)
    told = await intake.accept(row())
    assert (told.term, told.live_site) == (TERM, "columbus")


async def test_messages_that_arrive_together_are_committed_together(intake, store):
    told = await all_of(intake, *(row() for _ in range(50)))
    assert len({one.id for one in told}) == 50
    assert [len(group) for group in store.groups] == [50]


async def test_a_group_has_at_most_so_many_rows(leadership, store):
    intake = Intake(leadership, settings(group_max=20, group_wait_ms=0).dispatcher, SystemClock())
    await all_of(intake, *(row() for _ in range(50)))
    assert max(map(len, store.groups)) == 20
    assert sum(map(len, store.groups)) == 50
    await intake.stop()


async def test_rows_of_a_group_are_in_the_order_of_their_references(intake, store):
    rows = [row("b"), row("c"), row("a")]
    await all_of(intake, *rows)
    assert store.groups == [[rows[2].id, rows[0].id, rows[1].id]]


async def test_one_reference_twice_in_a_group_travels_once_and_is_answered_twice(intake, store):
    first, again, other = await all_of(intake, row("o-1"), row("o-1"), row("o-1", fingerprint=b"other"))
    assert (first.verdict, again.verdict, other.verdict) == (
        Verdict.NEW,
        Verdict.DUPLICATE,
        Verdict.CONFLICT,
    )
    assert again.id == first.id
    assert sum(map(len, store.groups)) == 1


async def test_a_reference_that_is_under_way_is_waited_for(intake, leadership, store):
    leadership.gate.clear()
    first = asyncio.create_task(intake.accept(row("o-1")))
    await leadership.held.wait()
    again = asyncio.create_task(intake.accept(row("o-1")))
    await asyncio.sleep(0)
    leadership.gate.set()
    assert (await first).id == (await again).id
    assert sum(map(len, store.groups)) == 1


async def test_what_a_conflict_leaves_open_is_asked_of_the_database(intake):
    stored = await intake.accept(OTHER)
    conflicting, matching = await all_of(intake, replace(ROW, id=uuid4()), replace(OTHER, id=uuid4()))
    assert conflicting.verdict is Verdict.CONFLICT
    assert (matching.verdict, matching.id) == (Verdict.DUPLICATE, stored.id)


async def test_a_bad_row_fails_alone_and_the_ids_stay_the_same(intake, store):
    rows = [row(body="poison" if n == 11 else "x") for n in range(32)]
    told = await all_of(intake, *rows)
    assert isinstance(told[11], RowRefused)
    assert [one.id for n, one in enumerate(told) if n != 11] == [r.id for n, r in enumerate(rows) if n != 11]
    assert len(store.groups) <= 12  # halved, not row by row


async def test_other_content_that_rode_with_a_bad_row_gets_its_own_turn(intake):
    bad, good = await all_of(intake, row("o-1", body="poison"), row("o-1", fingerprint=b"good"))
    assert isinstance(bad, RowRefused)
    assert good.verdict is Verdict.NEW


@pytest.mark.parametrize(
    "failure", [asyncpg.DiskFullError("full"), asyncpg.InterfaceError("x"), ValueError("x")]
)
async def test_a_group_that_fails_is_acknowledged_to_nobody_and_a_repeat_is_safe(intake, store, failure):
    store.fails = failure
    rows = [row("o-1"), row("o-1"), row()]
    told = await all_of(intake, *rows)
    assert all(isinstance(one, Unavailable) for one in told)
    store.fails = None
    assert (await intake.accept(rows[0])).verdict is Verdict.NEW
    assert intake.waiting == 0


async def test_a_commit_that_got_through_unheard_is_answered_as_new_after_the_repeat(
    intake, leadership, store
):
    leadership.unknown_next = 1
    told = await all_of(intake, row("o-1"), row())
    assert [one.verdict for one in told] == [Verdict.NEW, Verdict.NEW]
    assert len(store.groups) == 2


async def test_a_caller_that_hangs_up_leaves_its_message_and_the_others_alone(intake, leadership, store):
    leadership.gate.clear()
    gone, stays = (asyncio.create_task(intake.accept(r)) for r in (row("gone"), row("stays")))
    await leadership.held.wait()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    leadership.gate.set()
    assert (await stays).verdict is Verdict.NEW
    assert (await intake.accept(row("gone"))).verdict is Verdict.DUPLICATE
    assert intake.waiting == 0


async def test_more_than_may_be_held_are_turned_away_at_once(leadership):
    intake = Intake(leadership, settings(hold_max=3).dispatcher, SystemClock())
    leadership.gate.clear()
    held = [asyncio.create_task(intake.accept(row())) for _ in range(3)]
    await leadership.held.wait()
    with pytest.raises(Unavailable):
        await intake.accept(row())
    leadership.gate.set()
    await asyncio.gather(*held)
    await intake.stop()


async def test_bulk_waits_for_room_and_leaves_half_of_it_to_single_requests(leadership):
    intake = Intake(leadership, settings(hold_max=4).dispatcher, SystemClock())
    leadership.gate.clear()
    first = [await intake.offer(row()) for _ in range(2)]
    third = asyncio.create_task(intake.offer(row()))
    await leadership.held.wait()
    assert not third.done()
    single = asyncio.create_task(intake.accept(row()))
    leadership.gate.set()
    await single
    for answer in (*first, await third):
        assert settled(await answer).verdict is Verdict.NEW
    await intake.stop()


async def test_what_gets_no_turn_in_its_time_is_told_so(leadership):
    intake = Intake(
        leadership, settings(hold_for=0.1, group_max=1).dispatcher, SystemClock(), groups_in_flight=1
    )
    leadership.gate.clear()
    told = await all_of(intake, *(row() for _ in range(5)))
    assert all(isinstance(one, Unavailable) for one in told)
    assert intake.waiting == 0
    await intake.stop()


async def test_stopping_answers_everybody_and_twice_is_safe(leadership):
    intake = Intake(leadership, settings(group_max=1).dispatcher, SystemClock(), groups_in_flight=1)
    leadership.gate.clear()
    waiting = [asyncio.create_task(intake.accept(row())) for _ in range(5)]
    await leadership.held.wait()
    await intake.stop(within_s=0.01)
    await intake.stop()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in told)
    with pytest.raises(Unavailable):
        await intake.accept(row())


async def test_a_single_message_does_not_wait_for_a_bulk_group_to_fill(intake, leadership, store):
    leadership.gate.clear()
    first = await intake.offer(row())
    await leadership.held.wait()
    second = await intake.offer(row())
    single = asyncio.create_task(intake.accept(row()))
    leadership.gate.set()
    await asyncio.gather(first, second, single)
    assert [len(group) for group in store.groups] == [1, 2]
