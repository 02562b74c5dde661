"""Results and deliveries on their way to the leader: kept, batched, and told truly."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from dispatcher.engine import outcome, receipts
from dispatcher.engine.receipts import Receipts
from dispatcher.engine.results import Results
from dispatcher.journal import Journal
from dispatcher.model import Receipt, Reply, State, SubmitResult
from tests.unit.fake_nodes import FakeSites, two_sites
from tests.unit.fake_queue import FakeQueue, claim
from tests.waiting import eventually

AT = datetime(2026, 1, 1, tzinfo=UTC)
BAD_ROW = asyncpg.DataError("invalid byte sequence")


def result(number: int) -> SubmitResult:
    return outcome.never_written(claim(number))


def receipt(carrier_message_id: str) -> Receipt:
    return Receipt(
        carrier="acme",
        carrier_message_id=carrier_message_id,
        state=State.DELIVERED,
        source="16145550100",
        destination="72345",
        text="Power is",
        error="000",
        done_at=AT,
    )


REPLY = Reply(
    carrier="acme", source="+16145550100", destination="72345", text="STOP", received_at=AT, fingerprint=b"f"
)


class OneBadRow(FakeQueue):
    """Refuses every batch that holds the bad one."""

    def __init__(self, bad: object) -> None:
        super().__init__()
        self.bad = bad

    def _refuse(self, rows: Sequence[object]) -> None:
        if self.bad in rows:
            raise BAD_ROW

    async def settle(self, results: Sequence[SubmitResult]) -> None:
        self._refuse(results)
        await super().settle(results)

    async def receipts(self, rows: Sequence[Receipt]) -> None:
        self._refuse(rows)
        await super().receipts(rows)


@asynccontextmanager
async def storing_results(queue: FakeQueue) -> AsyncIterator[tuple[FakeSites, Results]]:
    async with two_sites(inner=queue) as sites:
        results = Results(
            leadership=sites.leadership,
            journal=Journal(Path("unused"), "columbus-1.life"),
            clock=sites.clock,
            metrics=sites.metrics,
        )
        await results.start()
        yield sites, results
        await results.stop()
        assert not results.tasks.died.is_set()


@asynccontextmanager
async def storing_deliveries(queue: FakeQueue) -> AsyncIterator[tuple[FakeSites, Receipts]]:
    async with two_sites(inner=queue) as sites:
        deliveries = Receipts(leadership=sites.leadership, clock=sites.clock, metrics=sites.metrics)
        await deliveries.start()
        yield sites, deliveries
        await deliveries.stop()
        assert not deliveries.tasks.died.is_set()


async def test_results_wait_for_a_leader_however_long_and_go_together():
    queue = FakeQueue()
    async with storing_results(queue) as (sites, results):
        for number in range(5):
            results.put(result(number))
        await eventually(lambda: sites.leadership.state.holding == 1)
        await sites.lead("denver-a", 3)
        await eventually(lambda: len(queue.settled) == 5)


async def test_a_result_that_the_database_never_takes_is_dropped_alone():
    queue = OneBadRow(result(3))
    async with storing_results(queue) as (sites, results):
        await sites.lead("columbus-a", 1)
        for number in range(8):
            results.put(result(number))
        await eventually(lambda: len(queue.settled) == 7)
        assert sites.metrics.dropped_results == 1


async def test_trouble_that_is_not_the_datas_fault_loses_no_result(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dispatcher.engine.results.AGAIN_AFTER_S", 0.01)
    queue = FakeQueue()
    queue.errors = [asyncpg.DiskFullError("full"), asyncpg.UndefinedFunctionError("old schema")]
    async with storing_results(queue) as (sites, results):
        await sites.lead("columbus-a", 1)
        results.put(result(1))
        await eventually(lambda: len(queue.settled) == 1)
        assert sites.metrics.dropped_results == 0


async def test_a_stop_stores_what_is_there():
    queue = FakeQueue()
    async with storing_results(queue) as (sites, results):
        await sites.lead("columbus-a", 1)
        results.put(result(1))
        await results.stop(within=2.0)
        assert len(queue.settled) == 1


async def test_deliveries_are_acknowledged_when_they_are_committed():
    queue = FakeQueue()
    async with storing_deliveries(queue) as (sites, deliveries):
        taken = asyncio.create_task(deliveries.take([receipt("a"), REPLY]))
        await eventually(lambda: sites.leadership.state.holding == 1)
        assert not taken.done()
        await sites.lead("columbus-a", 1)
        assert await taken
        assert queue.received == [receipt("a"), REPLY]


async def test_deliveries_of_many_links_are_committed_together():
    queue = FakeQueue()
    async with storing_deliveries(queue) as (sites, deliveries):
        await sites.lead("columbus-a", 1)
        taken = await asyncio.gather(*(deliveries.take([receipt(str(n))]) for n in range(50)))
        assert all(taken)
        size = sites.metrics.registry.get_sample_value(
            "hotsite_dispatcher_group_size_count", {"kind": "receipts"}
        )
        assert size == 1


async def test_the_carrier_is_told_to_come_again_when_nobody_leads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(receipts, "HOLD_S", 0.01)
    async with storing_deliveries(FakeQueue()) as (_, deliveries):
        assert not await deliveries.take([receipt("a")])


async def test_one_bad_delivery_does_not_refuse_the_others():
    queue = OneBadRow(receipt("bad"))
    async with storing_deliveries(queue) as (sites, deliveries):
        await sites.lead("columbus-a", 1)
        taken = await asyncio.gather(
            deliveries.take([receipt("a")]),
            deliveries.take([receipt("bad")]),
            deliveries.take([receipt("b")]),
        )
        assert taken == [True, False, True]


async def test_after_a_stop_nothing_is_acknowledged():
    async with storing_deliveries(FakeQueue()) as (_, deliveries):
        waiting = asyncio.create_task(deliveries.take([receipt("a")]))
        await eventually(lambda: bool(deliveries._waiting))
        await deliveries.stop()
        assert not await waiting
        assert not await deliveries.take([receipt("b")])
