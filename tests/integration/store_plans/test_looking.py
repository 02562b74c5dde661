"""What looking up, counting, feeding campaigns and canceling read."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher.campaigns.states import Act
from dispatcher.model import Reply, State
from tests.campaign_scenes import IDS, act, started, uploaded
from tests.integration.store_plans.conftest import FEW, GROUP, MANY, MOST_PER_ROW, Scene, groups
from tests.message_scenes import CARRIER, SHORT_CODE
from tests.message_store import TERM


async def test_the_counts(scene: Scene) -> None:
    await scene.queue(MANY)
    await scene.ready()
    await scene.metered.counts(TERM)
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_feeding_a_long_list_beside_others(scene: Scene) -> None:
    for _ in range(3):
        await uploaded(scene.stage, MANY // 2)
    await started(scene.stage, MANY // 2)
    for _ in range(FEW):
        await scene.store.feed_campaign(TERM, IDS.new(), 50, 10_000)
    await scene.ready()
    fed = await scene.metered.feed_campaign(TERM, IDS.new(), FEW // 2, 10_000)
    assert fed is not None
    assert fed.texts == FEW
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_canceling_looks_through_its_own_batches(scene: Scene) -> None:
    await started(scene.stage, MANY // 2)
    for _ in range(FEW):
        await scene.store.feed_campaign(TERM, IDS.new(), 50, 10_000)
    [campaign] = await scene.store.campaigns(TERM, scene.stage.program.account_id)
    await act(scene.stage, campaign, Act.CANCEL)
    await scene.ready()
    await scene.metered.sweep_campaigns(TERM, None, FEW // 2)
    assert scene.looked_at <= FEW * 2 * MOST_PER_ROW


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"state": State.DELIVERED},
        {"to": "+12029999999"},
        {"reference": "looked-for"},
        {"since": timedelta(minutes=5)},
    ],
    ids=lambda asked: next(iter(asked), "all"),
)
async def test_looking_up(scene: Scene, asked: dict[str, Any]) -> None:
    await scene.queue(MANY)
    wanted = scene.stage.message(to="+12029999999", reference="looked-for")
    await scene.stage.accept(wanted)
    await scene.ready()
    if "since" in asked:
        asked = {"since": datetime.now(UTC) - asked["since"]}
    page = await scene.metered.find(TERM, scene.stage.program.account_id, limit=FEW, **asked)
    if "state" in asked:
        # Every message back to the end of the reach is looked at.
        assert scene.looked_at <= MANY * 4
    else:
        assert page.messages[0].id == wanted.id
        # The newest are sought in each partition, as far as no time bounds it; then each is looked up.
        assert scene.looked_at <= FEW * MOST_PER_ROW + 2 * (scene.days + 10)


async def test_reading_one(scene: Scene) -> None:
    await scene.queue(MANY)
    wanted = scene.stage.message()
    await scene.stage.accept(wanted)
    await scene.ready()
    assert await scene.metered.read(TERM, scene.stage.program.account_id, wanted.id)
    assert scene.looked_at <= MOST_PER_ROW


async def test_canceling_one(scene: Scene) -> None:
    await scene.queue(MANY)
    wanted = scene.stage.message()
    await scene.stage.accept(wanted)
    await scene.ready()
    assert await scene.metered.cancel(TERM, scene.stage.program.account_id, wanted.id)
    assert scene.looked_at <= MOST_PER_ROW


async def test_a_page_of_what_came_into_doubt_in_a_term(scene: Scene) -> None:
    await scene.give_up(await scene.claim(MANY))
    await scene.ready()
    page = await scene.metered.doubts(TERM, scene.stage.program.account_id, of_term=TERM, limit=FEW)
    assert len(page.doubts) == FEW
    # The first lines of each partition are sought, and the whole page is put together of them.
    assert scene.looked_at <= FEW * MOST_PER_ROW + 4 * (scene.days + 10)


async def test_what_operators_see_of_doubts(scene: Scene) -> None:
    await scene.settle(await scene.claim(MANY))
    doubts = await scene.claim(FEW)
    await scene.give_up(doubts)
    await scene.ready()
    rows = await scene.asked("known_doubts", TERM, None)
    assert len(rows) == FEW
    assert scene.looked_at <= FEW * MOST_PER_ROW + 4 * (scene.days + 10)


async def test_what_an_ended_dispatcher_held(scene: Scene) -> None:
    await scene.settle(await scene.claim(MANY))
    await scene.store.release_due(TERM, GROUP)
    await scene.claim(FEW)
    await scene.ready()
    assert len(await scene.metered.claimed_by(TERM, "columbus-1")) == FEW
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_the_progress_and_the_rows_of_a_campaign_beside_others(scene: Scene) -> None:
    await scene.queue(MANY)
    await started(scene.stage, MANY // 2)
    for _ in range(FEW):
        await scene.store.feed_campaign(TERM, IDS.new(), 50, 10_000)
    account = scene.stage.program.account_id
    [campaign] = await scene.store.campaigns(TERM, account)
    await scene.ready()
    await scene.metered.count_campaign(TERM, account, campaign.id, FEW // 2, since=datetime.now(UTC))
    assert await scene.metered.campaign_rows(TERM, account, campaign.id, after=0, batches=FEW // 2)
    # Of each batch its counts are read, and its texts one by one.
    assert scene.looked_at <= MANY * 2 + FEW * MOST_PER_ROW


async def test_deleting_old_replies_and_campaigns_looks_at_no_young_ones(scene: Scene) -> None:
    now = datetime.now(UTC)
    for some in groups(MANY):
        await scene.store.replies(
            [
                Reply(
                    carrier=CARRIER,
                    source=f"+1303{number:07}",
                    destination=SHORT_CODE,
                    text="OUT",
                    received_at=now,
                    fingerprint=str(number).encode(),
                )
                for number in some
            ]
        )
    for _ in range(FEW):
        await uploaded(scene.stage, 1)
    await scene.ready()
    assert (await scene.asked("forget_replies", TERM, now - timedelta(days=1), FEW))[0][0] == 0
    assert (await scene.asked("forget_campaign", TERM, now - timedelta(days=1)))[0][0] is None
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_references_are_walked_in_their_order(scene: Scene) -> None:
    for some in groups(MANY):
        await scene.stage.accept(*(scene.message(reference=f"r-{n}") for n in some))
    await scene.ready()
    [row] = await scene.asked("forget_references", TERM, datetime.now(UTC) + timedelta(days=1), 0, "", FEW)
    assert row["reference"] is not None
    assert scene.looked_at <= FEW * MOST_PER_ROW
