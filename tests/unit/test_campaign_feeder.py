"""Feeding campaigns: when it is done, and what it outlives."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dispatcher.campaigns.feeder import Feeder
from dispatcher.campaigns.model import Fed
from dispatcher.memory_store import MemoryStore
from dispatcher.uuid7 import Ids
from sitecontrol.clock import SystemClock
from tests.api_server import TERM, HandHeldLeadership
from tests.waiting import eventually

CAMPAIGN = UUID(int=1)


class Told(MemoryStore):
    """Feeds what the test told, one thing after another; then nothing."""

    def __init__(self, *turns: Fed | Exception | None) -> None:
        super().__init__(term=TERM)
        self.turns = list(turns)
        self.believed: list[bool] = []
        self.sweeps = 0

    async def feed_campaign(
        self, term: int, first: UUID, batches: int, ahead: int, *, clock_agrees: bool = True
    ) -> Fed | None:
        self.believed.append(clock_agrees)
        turn = self.turns.pop(0) if self.turns else None
        if isinstance(turn, Exception):
            raise turn
        return turn

    async def sweep_campaigns(self, term: int, campaign_id: UUID | None, batches: int) -> int:
        self.sweeps += 1
        return 0


def fed(texts: int) -> Fed:
    return Fed(campaign_id=CAMPAIGN, texts=texts)


@pytest.fixture
async def feeding() -> AsyncIterator[Any]:
    started: list[Feeder] = []

    async def start(turns: Sequence[Fed | Exception | None], *, may_send: bool = True) -> tuple[Told, Feeder]:
        store = Told(*turns)
        leadership = HandHeldLeadership(store)
        if not may_send:
            leadership.gate.clear()
        feeder = Feeder(leadership=leadership, ids=Ids(SystemClock()))
        started.append(feeder)
        await feeder.start()
        return store, feeder

    yield start
    for feeder in started:
        await feeder.stop()
        assert not feeder.tasks.died.is_set()


async def test_it_goes_on_at_once_while_there_is_something_to_feed(feeding) -> None:
    store, feeder = await feeding([fed(500)] * 50)
    await eventually(lambda: feeder.fed == 25_000, within=1.0)
    await eventually(lambda: store.sweeps)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UndefinedFunctionError("hotsite.feed_campaign"),  # an older schema: beside it we wait
        asyncpg.InvalidSchemaNameError("hotsite"),
        asyncpg.InternalServerError("a defect"),
    ],
)
async def test_it_outlives_what_the_database_says(feeding, error: Exception) -> None:
    _, feeder = await feeding([error, fed(2)])
    await eventually(lambda: feeder.fed == 2, within=5.0)


async def test_it_feeds_nothing_at_a_site_that_may_not_send(feeding) -> None:
    store, feeder = await feeding([fed(2)], may_send=False)
    feeder.wake()
    await eventually(lambda: not feeder._wake.is_set())
    assert store.turns == [fed(2)]


async def test_it_looks_at_once_when_it_is_woken(feeding) -> None:
    store, feeder = await feeding([])
    await eventually(lambda: store.believed)
    store.turns.append(fed(3))
    feeder.wake()
    await eventually(lambda: feeder.fed == 3, within=0.5)


async def test_it_asks_each_time_whether_the_clock_may_be_believed(feeding) -> None:
    store, feeder = await feeding([])
    feeder.clock_agrees = lambda: False
    feeder.wake()
    await eventually(lambda: False in store.believed)
