"""The feed follows the order of commits, and tells of what the code says that it tells of."""

import asyncio
import random
from uuid import UUID

from dispatcher.model import State
from dispatcher.webhooks.model import FeedEvent, Position, is_told
from tests.integration.test_webhooks import Scene, scene
from tests.message_store import TERM, admin
from tests.waiting import WITHIN_S

__all__ = ["scene"]


async def pages(scene: Scene, position: Position) -> tuple[list[FeedEvent], Position]:
    page = await scene.stage.store.feed_page(TERM, scene.stage.program.account_id, position, 1_000)
    return list(page.events), page.position


async def test_what_commits_later_with_the_lower_number_is_not_skipped(scene: Scene) -> None:
    begun = (await scene.stage.store.feed_page(TERM, scene.stage.program.account_id, None, 1)).position
    await scene.stage.accept(scene.stage.message(), scene.stage.message())
    one, two = await scene.stage.claim(2)
    first, second = await admin(scene.database), await admin(scene.database)
    fail = "update hotsite.delivery set state = 'failed' where message_id = $1"
    transaction = first.transaction()
    await transaction.start()
    await first.execute(fail, one.message_id)
    await second.execute(fail, two.message_id)  # committed
    seen, position = await pages(scene, begun)
    assert seen == []  # told now, it would carry a cursor past the one that is still under way
    await transaction.commit()
    seen, position = await pages(scene, position)
    assert [event.subject for event in seen] == [one.message_id, two.message_id]
    assert await pages(scene, position) == ([], position)
    for connection in (first, second):
        await connection.close()


async def test_the_order_of_a_message_is_that_of_its_changes_although_the_older_transaction_made_the_later(
    scene: Scene,
) -> None:
    begun = (await scene.stage.store.feed_page(TERM, scene.stage.program.account_id, None, 1)).position
    claim = await scene.stage.sent()
    older, younger = await admin(scene.database), await admin(scene.database)
    transaction = older.transaction()
    await transaction.start()
    await older.fetchval("select pg_current_xact_id()")  # its number is the lower one
    move = "update hotsite.delivery set state = $2::text::hotsite.state where message_id = $1"
    await younger.execute(move, claim.message_id, "in_doubt")
    seen, position = await pages(scene, begun)
    await older.execute(move, claim.message_id, "delivered")
    await transaction.commit()
    more, _ = await pages(scene, position)
    assert [event.kind for event in [*seen, *more]] == ["message.in_doubt", "message.delivered"]
    for connection in (older, younger):
        await connection.close()


async def test_readers_beside_writers_that_commit_in_any_order_see_everything_once(scene: Scene) -> None:
    """Twelve connections change texts in transactions of all lengths; two readers with small pages follow."""
    dice = random.Random(11)
    begun = (await scene.stage.store.feed_page(TERM, scene.stage.program.account_id, None, 1)).position
    await scene.stage.accept(*(scene.stage.message() for _ in range(240)))
    claims = await scene.stage.claim(240)
    changed: list[UUID] = []
    writing = 12

    async def write(mine: list[UUID]) -> None:
        connection = await admin(scene.database)
        while mine:
            async with connection.transaction():
                for _ in range(min(len(mine), dice.randint(1, 5))):
                    one = mine.pop()
                    for state in ("in_doubt", "delivered"):
                        await connection.execute(
                            "update hotsite.delivery set state = $2::text::hotsite.state where message_id = $1",
                            one,
                            state,
                        )
                    changed.append(one)
                await asyncio.sleep(dice.random() * 0.02)
        await connection.close()

    async def read(limit: int) -> list[tuple[UUID | None, str]]:
        store, position = await scene.store(), begun
        seen: list[tuple[UUID | None, str]] = []
        # The other reader's transaction may hold the horizon for a moment after the last writer has ended.
        async with asyncio.timeout(WITHIN_S):
            last = 0
            while len(seen) < 480 or last:
                page = await store.feed_page(TERM, scene.stage.program.account_id, position, limit)
                seen += [(event.subject, event.kind) for event in page.events]
                position, last = page.position, len(page.events)
        return seen

    ids = [claim.message_id for claim in claims]
    lots = [ids[start::writing] for start in range(writing)]
    *_, small, large = await asyncio.gather(*map(write, lots), read(7), read(200))
    assert len(changed) == 240
    for seen in (small, large):
        assert len(seen) == len(set(seen)) == 480
        place = {event: number for number, event in enumerate(seen)}
        for one in ids:
            assert place[one, "message.in_doubt"] < place[one, "message.delivered"]


async def test_a_feed_of_many_intervals_is_read_in_pages_of_any_size(scene: Scene) -> None:
    begun = (await scene.stage.store.feed_page(TERM, scene.stage.program.account_id, None, 1)).position
    sent: list[UUID] = []
    for turn in range(12):
        sent += await scene.deliver(5, first=5 * turn)
        await pages(scene, begun)  # closes an interval
    for limit in (1, 3, 5, 7, 60, 100):
        position, seen = begun, []
        while True:
            page = await scene.stage.store.feed_page(TERM, scene.stage.program.account_id, position, limit)
            seen += [event.subject for event in page.events]
            position = page.position
            if not page.more:
                break
        assert sorted(map(str, seen)) == sorted(map(str, sent)), limit


async def test_an_account_without_feed_costs_no_row(scene: Scene) -> None:
    await scene.deliver(3)
    assert await scene.superuser.fetchval("select count(*) from hotsite.feed_event") == 0


async def test_the_trigger_tells_of_the_changes_that_the_code_says_and_of_no_other(scene: Scene) -> None:
    await scene.stage.store.feed_page(TERM, scene.stage.program.account_id, None, 1)
    await scene.stage.accept(scene.stage.message())
    row = await scene.superuser.fetchrow("select message_id from hotsite.delivery")
    assert row is not None
    for before in State:
        for after in State:
            await scene.superuser.execute("set session_replication_role = replica")
            await scene.superuser.execute(
                "update hotsite.delivery set state = $1::text::hotsite.state", before
            )
            await scene.superuser.execute("set session_replication_role = origin")
            count = await scene.superuser.fetchval("select count(*) from hotsite.feed_event")
            await scene.superuser.execute(
                "update hotsite.delivery set state = $1::text::hotsite.state", after
            )
            grown = await scene.superuser.fetchval("select count(*) from hotsite.feed_event") - count
            assert grown == is_told(before, after), (before, after)
