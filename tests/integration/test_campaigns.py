"""A campaign goes on after whatever ends in its middle, and no row of it is sent twice."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dispatcher.accounts import add_account
from dispatcher.campaigns.model import Batch, Fed, Text
from dispatcher.campaigns.states import Act, CampaignState
from dispatcher.model import Encoding, State
from dispatcher.postgres_store import PostgresStore
from replication.session import Session, Target
from tests.campaign_scenes import IDS, act, look, new_campaign, started
from tests.integration.test_dispatcher import Scene, scene
from tests.message_scenes import Stage, submitted
from tests.message_store import TERM, admin, as_role
from tests.waiting import eventually

BATCHES = 300  # of two texts
KILLS = 6
ROWS = 3_000
VARIABLES = [{"name": "eta", "type": "time"}]


@pytest.fixture
async def stage(store_database: Target) -> AsyncIterator[Stage]:
    session = await Session.connect(as_role(store_database, "hotsite_migrate"), timeout=5)
    await add_account(session, name="utility", program="outages", source="12345")
    await session.aclose()
    store = PostgresStore(await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5))
    [program] = await store.programs(TERM)

    async def pass_time(duration: timedelta) -> None:
        raise NotImplementedError(duration)

    yield Stage(store, TERM, program, program, pass_time, lambda: datetime.now(UTC))
    await store.aclose()


async def send_some(stage: Stage, sent: Counter[str]) -> int:
    claims = await stage.claim(50)
    await stage.store.settle([submitted(c, str(c.message_id)) for c in claims])
    sent.update(claim.to for claim in claims)
    return len(claims)


async def test_a_feeder_that_is_killed_again_and_again_leaves_each_row_to_be_sent_once(
    stage: Stage, store_database: Target
) -> None:
    campaign = await started(stage, BATCHES)
    sent: Counter[str] = Counter()
    target = (store_database.host, str(store_database.port), store_database.database)
    for kill in range(KILLS):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.feeder_process", *target, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"feeding\n"
        wanted = sum(sent.values()) + 20 + 7 * kill
        while sum(sent.values()) < wanted:
            await send_some(stage, sent)
        process.kill()
        await process.wait()
    assert 0 < (await look(stage, campaign.id)).fed < 2 * BATCHES
    while (await look(stage, campaign.id)).state is CampaignState.RUNNING:
        await stage.store.feed_campaign(TERM, IDS.new(), 4, 8)
        await send_some(stage, sent)
    assert set(sent.values()) == {1}
    assert len(sent) == 2 * BATCHES


async def test_dispatchers_that_feed_at_once_feed_each_row_once(stage: Stage, store_database: Target) -> None:
    campaign = await started(stage, BATCHES)
    target = as_role(store_database, "hotsite_dispatch")
    stores = [PostgresStore(await Session.connect(target, timeout=5)) for _ in range(3)]

    async def feed(store: PostgresStore) -> int:
        fed = 0
        while (await look(stage, campaign.id)).fed < 2 * BATCHES:
            turn = await store.feed_campaign(TERM, IDS.new(), 2, 10_000)
            fed += turn.texts if turn is not None else 0
        return fed

    assert sum(await asyncio.gather(*map(feed, stores))) == 2 * BATCHES
    sent: Counter[str] = Counter()
    while await send_some(stage, sent):
        pass
    assert (set(sent.values()), len(sent)) == ({1}, 2 * BATCHES)
    for store in stores:
        await store.aclose()


async def test_canceling_beside_feeding_leaves_nothing_in_the_queue(
    stage: Stage, store_database: Target
) -> None:
    campaign = await started(stage, BATCHES)
    other = PostgresStore(await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5))

    async def feed() -> None:
        while await other.feed_campaign(TERM, IDS.new(), 2, 10_000):
            pass

    feeding = asyncio.create_task(feed())
    while not (await look(stage, campaign.id)).fed:
        pass
    canceled = await act(stage, campaign, Act.CANCEL)
    await feeding
    assert (await look(stage, campaign.id)).fed == canceled.fed > 0
    while await stage.store.sweep_campaigns(TERM, None, 50):
        pass
    assert await stage.claim() == []
    await other.aclose()


async def test_canceling_waits_for_no_claim_and_looks_again_for_what_was_being_claimed(
    stage: Stage, store_database: Target
) -> None:
    campaign = await started(stage, 2)
    await stage.store.feed_campaign(TERM, IDS.new(), 2, 8)
    connection = await admin(as_role(store_database, "hotsite_dispatch"))
    claiming = connection.transaction()
    await claiming.start()
    [claim] = await connection.fetch("select * from hotsite.claim_unexpired($1, 'columbus-1', 1, 5.0)", TERM)
    await act(stage, campaign, Act.CANCEL)
    async with asyncio.timeout(5.0):
        assert await stage.store.sweep_campaigns(TERM, None, 10) == 1
    await claiming.rollback()
    await connection.close()
    assert await stage.store.sweep_campaigns(TERM, None, 10) == 0
    assert await stage.claim() == []
    assert await stage.state(claim["message_id"]) is State.CANCELED


# -- what stops a campaign


async def test_a_text_that_the_database_refuses_stops_its_campaign_with_the_reason_and_no_other(
    stage: Stage,
) -> None:
    made = await stage.store.create_campaign(TERM, new_campaign(stage))
    await stage.store.begin_list(TERM, made.account_id, made.id)
    bad = Batch(number=1, texts=[Text(2, "+16145550123", "Hello", Encoding.GSM, 0)], bad=[])
    await stage.store.add_to_list(TERM, made.account_id, made.id, 1, [bad])
    await stage.store.end_list(TERM, made.account_id, made.id, 1, 1, "hs_")
    await act(stage, made, Act.START)
    other = await started(stage, 1)
    assert await stage.store.feed_campaign(TERM, IDS.new(), 1, 8) == Fed(campaign_id=other.id, texts=2)
    stopped = await look(stage, made.id)
    assert (stopped.state, stopped.fed, stopped.acts[-1].by) == (CampaignState.PAUSED, 0, "")
    assert "refuses a text of batch 1" in (stopped.note or "")
    assert len(await stage.claim()) == 2


async def test_a_campaign_whose_program_is_switched_off_stands_until_it_is_resumed(
    stage: Stage, store_database: Target
) -> None:
    campaign = await started(stage, 2)
    superuser = await admin(store_database)
    await superuser.execute("update hotsite.program set enabled = false")
    assert await stage.store.feed_campaign(TERM, IDS.new(), 1, 8) == Fed(campaign_id=campaign.id, texts=0)
    stopped = await look(stage, campaign.id)
    assert (stopped.state, stopped.note) == (CampaignState.PAUSED, "Its program is switched off.")
    await superuser.execute("update hotsite.program set enabled = true")
    await superuser.close()
    assert (await act(stage, campaign, Act.RESUME)).note is None
    assert await stage.store.feed_campaign(TERM, IDS.new(), 2, 8) == Fed(campaign_id=campaign.id, texts=4)


# -- a whole dispatcher


async def make(at: Scene, name: str = "Storm") -> str:
    asked = {"program": "outage", "name": name, "text": "Back by {eta}.", "variables": VARIABLES}
    async with at.http.post("/v1/campaigns", json=asked) as answer:
        assert answer.status == 201, await answer.text()
        path = f"/v1/campaigns/{(await answer.json())['id']}"
    data = "to,eta\n" + "".join(f"+1614{n:07},17:00\n" for n in range(2_000_000, 2_000_000 + ROWS))
    async with at.http.put(f"{path}/list", data=data, headers={"Content-Type": "text/csv"}) as answer:
        assert answer.status == 200, await answer.text()
        assert (await answer.json())["texts"] == ROWS
    return path


async def do(at: Scene, path: str, act: str) -> dict[str, Any]:
    async with at.http.post(f"{path}/{act}") as answer:
        assert answer.status == 200, await answer.text()
        return dict(await answer.json())


async def progress(at: Scene, path: str) -> dict[str, Any]:
    async with at.http.get(f"{path}/progress") as answer:
        assert answer.status == 200, await answer.text()
        return dict(await answer.json())


async def report(at: Scene, path: str) -> dict[str, Any]:
    async with at.http.get(f"{path}/report") as answer:
        assert answer.status == 200, await answer.text()
        return dict((await answer.json())["progress"])


async def test_a_campaign_goes_on_after_its_connections_were_cut_and_each_row_is_sent_once(
    store_database: Target, tmp_path: Path
) -> None:
    superuser = await admin(store_database)
    async with scene(store_database, tmp_path) as at:
        await at.name_leader()
        path = await make(at)
        await do(at, path, "start")
        for part in range(1, 4):
            await eventually(lambda part=part: len(at.submits()) > part * ROWS // 5)
            await superuser.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'hotsite_dispatch'"
            )

        async def all_delivered() -> bool:
            told = await report(at, path)
            return bool(told["by_state"] == {"delivered": ROWS} and told["state"] == "done")

        await eventually(all_delivered, within=60)
        numbers = Counter(line["destination"] for line in at.submits())
        assert (len(numbers), set(numbers.values())) == (ROWS, {1})
    await superuser.close()


async def test_a_paused_campaign_stops_within_what_is_in_the_queue_and_goes_on_when_it_is_resumed(
    store_database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatcher.campaigns.feeder.AHEAD", 1)
    monkeypatch.setattr("dispatcher.campaigns.feeder.BATCHES", 1)
    async with scene(store_database, tmp_path) as at:
        await at.name_leader()
        path = await make(at)
        await do(at, path, "start")
        await eventually(at.submits)
        await do(at, path, "pause")

        async def drained() -> bool:
            told = await report(at, path)
            return bool(told["by_state"] == {"delivered": told["texts"] - told["waiting"]})

        await eventually(drained)
        waiting = (await progress(at, path))["waiting"]
        assert waiting > 0
        sent = len(at.submits())
        assert sent == ROWS - waiting
        await do(at, path, "resume")
        await eventually(lambda: len(at.submits()) == ROWS, within=60)
        assert (await progress(at, path))["waiting"] == 0
