"""Customers' replies and campaigns are deleted when they are old enough, whole, and nothing that still goes on is."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from dispatcher.accounts import add_account
from dispatcher.campaigns.states import Act
from dispatcher.model import Reply
from dispatcher.postgres_store import PostgresStore
from dispatcher.retention import forgetting
from dispatcher.retention.forgetting import forget_campaigns, forget_replies
from dispatcher.retention.store import RetentionStore
from dispatcher.store import NotLeader
from replication.session import Session, Target
from sitecontrol.clock import SystemClock
from tests.campaign_scenes import act, feed, look, started, uploaded
from tests.message_scenes import SHORT_CODE, Stage
from tests.message_store import TERM, admin, as_role

CLOCK = SystemClock()
DAY = timedelta(days=1)


@dataclass
class Scene:
    stage: Stage
    store: RetentionStore
    superuser: "asyncpg.Connection[asyncpg.Record]"
    target: Target

    async def rows(self, sql: str) -> list[Any]:
        return [tuple(row) for row in await self.superuser.fetch(sql)]

    async def reply(self, *texts: str) -> None:
        await self.stage.store.replies(
            [
                Reply(
                    carrier="acme",
                    source="+16145550123",
                    destination=SHORT_CODE,
                    text=text,
                    received_at=datetime.now(UTC),
                    fingerprint=text.encode(),
                )
                for text in texts
            ]
        )


async def never(duration: timedelta) -> None:
    raise NotImplementedError(duration)


@pytest.fixture
async def scene(store_database: Target) -> AsyncIterator[Scene]:
    session = await Session.connect(as_role(store_database, "hotsite_migrate"), timeout=5)
    await add_account(session, name="utility", program="outages", source=SHORT_CODE)
    await session.aclose()
    superuser = await admin(store_database)
    store = PostgresStore(await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5))
    [program] = await store.programs(TERM)
    session = await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5)
    yield Scene(
        stage=Stage(store, TERM, program, program, never, lambda: datetime.now(UTC)),
        store=RetentionStore(session, TERM, CLOCK),
        superuser=superuser,
        target=store_database,
    )
    await session.aclose()
    await store.aclose()
    await superuser.close()


async def test_replies_are_deleted_by_when_they_were_stored_some_at_a_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "REPLIES_AT_ONCE", 2)
    monkeypatch.setattr(forgetting, "PAUSE_S", 0.0)
    await scene.reply("one", "two", "three", "four", "five")
    await scene.superuser.execute("update hotsite.reply set stored_at = stored_at - interval '40 days'")
    await scene.reply("STOP", "six")
    before = datetime.now(UTC) - 30 * DAY
    assert await forget_replies(scene.store, CLOCK, before, calls=2) == 4
    left = {text for (text,) in await scene.rows("select text from hotsite.reply")}
    assert len(left) == 3
    assert left > {"STOP", "six"}
    assert await forget_replies(scene.store, CLOCK, before, calls=100) == 1
    assert await forget_replies(scene.store, CLOCK, before, calls=100) == 0
    assert set(await scene.rows("select text from hotsite.reply")) == {("six",), ("STOP",)}


async def test_campaigns_that_have_ended_go_whole_and_those_that_go_on_stay(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "PAUSE_S", 0.0)
    stage = scene.stage
    await uploaded(stage, 1)  # a draft
    canceled = await started(stage, 2)
    assert await feed(stage, batches=1, ahead=10_000) is not None
    canceled = await act(stage, canceled, Act.CANCEL)
    assert await stage.store.sweep_campaigns(TERM, None, 10) == 0
    sweeping = await started(stage, 2)
    assert await feed(stage, batches=1, ahead=10_000) is not None
    sweeping = await act(stage, sweeping, Act.CANCEL)
    paused = await act(stage, await started(stage, 1), Act.PAUSE)
    running = await started(stage, 1)
    soon = datetime.now(UTC) + DAY
    assert await forget_campaigns(scene.store, CLOCK, datetime.now(UTC) - DAY, calls=100) == 0
    assert await forget_campaigns(scene.store, CLOCK, soon, calls=1) == 1
    assert await forget_campaigns(scene.store, CLOCK, soon, calls=100) == 1
    kept = {sweeping.id, paused.id, running.id}
    for table in ("campaign", "campaign_batch", "campaign_act"):
        found = await scene.rows(f"select distinct campaign_id from hotsite.{table}")  # noqa: S608 (names from above)
        assert {row[0] for row in found} == kept
    assert await stage.store.sweep_campaigns(TERM, None, 10) == 0
    assert await forget_campaigns(scene.store, CLOCK, soon, calls=100) == 1
    assert (await look(stage, running.id)).id == running.id
    # Its messages are not its own: they stay as long as messages do.
    assert await scene.rows("select count(*) from hotsite.message") == [(4,)]


async def test_a_store_that_does_not_lead_deletes_nothing(scene: Scene) -> None:
    await scene.reply("one")
    elsewhere = RetentionStore(scene.store._session, TERM - 1, CLOCK)
    with pytest.raises(NotLeader):
        await forget_replies(elsewhere, CLOCK, datetime.now(UTC) + DAY, calls=1)
    with pytest.raises(NotLeader):
        await forget_campaigns(elsewhere, CLOCK, datetime.now(UTC) + DAY, calls=1)
    assert await scene.rows("select count(*) from hotsite.reply") == [(1,)]
