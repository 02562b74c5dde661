"""Webhooks on PostgreSQL and real sockets: at least once, in order for each message, a bad receiver delays nobody."""

import asyncio
import random
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from dispatcher.accounts import add_account
from dispatcher.postgres_store import PostgresStore
from dispatcher.webhooks import poster as module
from dispatcher.webhooks.model import Webhook
from dispatcher.webhooks.pacing import DIES_AFTER_S
from dispatcher.webhooks.poster import Poster
from replication.session import Session, Target
from tests.api_server import HandHeldLeadership
from tests.message_scenes import SHORT_CODE, Stage, receipt, submitted
from tests.message_store import TERM, admin, as_role
from tests.poster_process import poster
from tests.receivers import Post, Receiver, raw, receiver
from tests.waiting import eventually
from tests.webhook_scenes import SECRET, endpoint, look

DISPATCH = "hotsite_dispatch"
POST_S = 1.0
CLAIM_S = 6.0


@dataclass
class Scene:
    stage: Stage
    database: Target
    superuser: Any
    stack: AsyncExitStack
    posters: list[Poster] = field(default_factory=list)

    async def store(self) -> PostgresStore:
        session = await Session.connect(as_role(self.database, DISPATCH), timeout=5)
        store = PostgresStore(session)
        self.stack.push_async_callback(store.aclose)
        return store

    async def post_with(self, *names: str, claim_for_s: float = CLAIM_S, post_s: float = POST_S) -> Poster:
        for name in names:
            one = poster(HandHeldLeadership(await self.store()), name, claim_for_s, post_s)
            self.posters.append(one)
            await one.start()
            self.stack.push_async_callback(one.stop)
        return self.posters[-1]

    async def receive(self, answering: Callable[[Post], Any] = lambda _: web.Response()) -> Receiver:
        return await self.stack.enter_async_context(receiver(answering))

    async def deliver(self, count: int, first: int = 0) -> list[UUID]:
        """Texts that come to their end."""
        rows = [self.stage.message() for _ in range(count)]
        await self.stage.accept(*rows)
        claims = await self.stage.claim(count)
        ids = {claim.message_id: f"{first + number:06x}" for number, claim in enumerate(claims)}
        await self.stage.store.settle([submitted(claim, ids[claim.message_id]) for claim in claims])
        await self.stage.store.receipts([receipt(carrier_id) for carrier_id in ids.values()])
        return [row.id for row in rows]

    async def pass_time(self, duration: timedelta) -> None:
        for table, column in (
            ("feed_event", "at"), ("webhook", "next_try_at"), ("webhook", "failing_since"), ("webhook_letter", "at"),
            ("webhook_letter", "next_try_at"),
        ):  # fmt: skip
            earlier = f"update hotsite.{table} set {column} = {column} - $1::interval"  # noqa: S608 (names from above)
            await self.superuser.execute(earlier, duration)


@asynccontextmanager
async def on(database: Target) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        session = await Session.connect(as_role(database, "hotsite_migrate"), timeout=5)
        for name in ("utility", "another"):
            await add_account(session, name=name, program="outages", source=SHORT_CODE)
        await session.aclose()
        store = PostgresStore(await Session.connect(as_role(database, DISPATCH), timeout=5))
        stack.push_async_callback(store.aclose)
        superuser = await admin(database)
        stack.push_async_callback(superuser.close)
        mine, other = await store.programs(TERM)

        async def pass_time(duration: timedelta) -> None:
            raise NotImplementedError(duration)

        stage = Stage(store, TERM, mine, other, pass_time, lambda: datetime.now(UTC))
        found = Scene(stage, database, superuser, stack)
        yield found


@pytest.fixture
async def scene(store_database: Target, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(module, "POLL_S", 0.05)
    async with on(store_database) as found:
        yield found


async def served(scene: Scene, webhook: Webhook) -> None:
    """Until nothing that is due is left of it: all was taken, or waits for its next try."""

    async def rests() -> bool:
        rests: bool = await scene.superuser.fetchval(
            "select w.claim_id is null and not hotsite.webhook_is_due(w) from hotsite.webhook as w"
            " where w.webhook_id = $1",
            webhook.id,
        )
        return rests

    await eventually(rests)


async def all_of(scene: Scene, webhook: Webhook, there: Receiver, wanted: int) -> None:
    async def settled() -> bool:
        return (await look(scene.stage, webhook.id)).taken >= wanted

    await eventually(lambda: len(there.posts) >= wanted)
    await eventually(settled)


# -- it arrives


async def test_what_happens_is_posted_once_signed_and_named(scene: Scene) -> None:
    there = await scene.receive()
    webhook = await endpoint(scene.stage, url=there.url)
    await scene.post_with("columbus-1")
    sent = await scene.deliver(1)
    await all_of(scene, webhook, there, 1)
    [post] = there.posts
    assert post.is_signed_by(SECRET)
    assert not post.is_signed_by(b"x" * 32)
    event = post.event
    assert (event["id"], event["type"]) == (post.id, "message.delivered")
    assert event["data"]["message_id"] == str(sent[0])
    assert event["data"]["message_state"] == "delivered"


async def test_while_secrets_change_both_sign(scene: Scene) -> None:
    there = await scene.receive()
    webhook = await endpoint(scene.stage, url=there.url)
    await scene.stage.store.rotate_webhook_secret(TERM, webhook.account_id, webhook.id, b"n" * 32, 3_600)
    await scene.post_with("columbus-1")
    await scene.deliver(1)
    await all_of(scene, webhook, there, 1)
    assert there.posts[0].is_signed_by(SECRET)
    assert there.posts[0].is_signed_by(b"n" * 32)


async def test_several_dispatchers_share_the_endpoints_and_post_each_event_once(scene: Scene) -> None:
    receivers = [await scene.receive() for _ in range(6)]
    webhooks = [await endpoint(scene.stage, url=there.url) for there in receivers]
    await scene.post_with("columbus-1", "columbus-2", "columbus-3")
    for turn in range(5):
        await scene.deliver(40, first=40 * turn)
    for webhook, there in zip(webhooks, receivers, strict=True):
        await all_of(scene, webhook, there, 200)
        assert len({post.id for post in there.posts}) == len(there.posts) == 200
    assert sum(one.posts.total() for one in scene.posters) == 1_200


async def test_a_round_is_not_larger_at_the_receiver_than_a_few_at_once(scene: Scene) -> None:
    async def slowly(_: Post) -> web.Response:
        await asyncio.sleep(0.005)
        return web.Response()

    there = await scene.receive(slowly)
    webhook = await endpoint(scene.stage, url=there.url)
    await scene.deliver(100)
    await scene.post_with("columbus-1")
    await all_of(scene, webhook, there, 100)
    assert there.most <= 8


# -- in order


async def test_events_of_a_message_arrive_in_order_although_the_receiver_fails_now_and_then(
    scene: Scene,
) -> None:
    """The second is tempting: it could be posted while the first waits for its next try."""
    dice = random.Random(7)
    there = await scene.receive(lambda _: web.Response(status=500 if dice.random() < 0.4 else 200))
    webhook = await endpoint(scene.stage, url=there.url)
    await scene.post_with("columbus-1", "columbus-2")
    count = 20
    await scene.stage.accept(*(scene.stage.message() for _ in range(count)))
    claims = await scene.stage.claim(count)
    await scene.stage.store.give_up_claims(TERM, [claims[0].claim_id])
    await scene.stage.store.settle([submitted(claim, f"{n:06x}") for n, claim in enumerate(claims)])
    await scene.stage.store.receipts([receipt(f"{n:06x}") for n in range(count)])
    for _ in range(60):
        if (await look(scene.stage, webhook.id)).taken == 3 * count:
            break
        await scene.pass_time(timedelta(hours=1))
        await served(scene, webhook)
    first: dict[str, list[str]] = defaultdict(list)
    taken: dict[str, str] = {}
    for post in there.posts:
        if post.event["type"] not in first[post.message_id]:
            first[post.message_id].append(post.event["type"])
        taken[post.id] = post.message_id
    assert len(taken) == 3 * count
    assert set(map(tuple, first.values())) == {("message.in_doubt", "message.submitted", "message.delivered")}


# -- bad receivers


async def test_a_receiver_that_never_answers_delays_nobody_else(scene: Scene) -> None:
    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    bad = await scene.stack.enter_async_context(raw(silent))
    stuck = [await endpoint(scene.stage, url=bad) for _ in range(3)]
    there = await scene.receive()
    good = await endpoint(scene.stage, url=there.url)
    last = await scene.post_with("columbus-1")
    await scene.deliver(50)
    await all_of(scene, good, there, 50)

    async def told() -> bool:
        found = [await look(scene.stage, one.id) for one in stuck]
        return all(one.failures for one in found)

    await eventually(told)
    found = await look(scene.stage, stuck[0].id)
    assert found.last_failure == "It did not answer within 1 s."
    assert found.next_try_at is not None
    assert last.posts["timeout"] <= 3 * 15


@pytest.mark.parametrize("status", [500, 302, 404])
async def test_a_receiver_that_takes_nothing_is_left_alone_and_loses_nothing(
    scene: Scene, status: int
) -> None:
    works = False
    there = await scene.receive(lambda _: web.Response(status=200 if works else status))
    webhook = await endpoint(scene.stage, url=there.url)
    await scene.post_with("columbus-1")
    sent = await scene.deliver(60)

    async def failing() -> bool:
        return (await look(scene.stage, webhook.id)).failures > 0

    await eventually(failing)
    assert len(there.posts) < 16
    works = True
    there.posts.clear()
    for _ in range(20):
        await scene.pass_time(timedelta(hours=2))
        await served(scene, webhook)
        if (await look(scene.stage, webhook.id)).taken == 60:
            break
    assert sorted(post.message_id for post in there.posts) == sorted(map(str, sent))
    found = await look(scene.stage, webhook.id)
    assert (found.failures, found.waiting, found.dead) == (0, 0, 0)


async def test_one_event_that_is_never_taken_dies_after_72_hours_and_can_be_replayed(scene: Scene) -> None:
    poison: set[str] = set()
    there = await scene.receive(lambda post: web.Response(status=400 if post.message_id in poison else 200))
    webhook = await endpoint(scene.stage, url=there.url)
    poison |= {str((await scene.deliver(1))[0])}
    await scene.deliver(5, first=10)
    await scene.post_with("columbus-1")
    await all_of(scene, webhook, there, 5)
    await eventually(lambda: len(there.posts) >= 6)
    await scene.pass_time(timedelta(seconds=DIES_AFTER_S))

    async def dead() -> bool:
        return (await look(scene.stage, webhook.id)).dead == 1

    await eventually(dead)
    [letter] = await scene.stage.store.dead_letters(TERM, webhook.account_id, webhook.id)
    assert (letter.status, letter.failure) == (400, "It answered 400.")
    assert letter.attempts >= 2
    poison.clear()
    there.posts.clear()
    await scene.stage.store.replay_letters(TERM, webhook.account_id, webhook.id, letter.id, 10)
    await eventually(lambda: len(there.posts) == 1)
    assert there.posts[0].id == str(letter.id)


async def test_a_receiver_that_is_gone_is_switched_off(scene: Scene) -> None:
    there = await scene.receive(lambda _: web.Response(status=410))
    webhook = await endpoint(scene.stage, url=there.url)
    await scene.post_with("columbus-1")
    await scene.deliver(1)

    async def off() -> bool:
        return not (await look(scene.stage, webhook.id)).enabled

    await eventually(off)
    assert (await look(scene.stage, webhook.id)).disabled_why == "It answered 410 (gone)."


async def test_an_internal_address_is_never_reached_and_the_reason_told(scene: Scene) -> None:
    there = await scene.receive()
    webhook = await endpoint(scene.stage, url=there.url.replace("127.0.0.1", "[::1]"))
    last = await scene.post_with("columbus-1")
    await scene.deliver(1)

    async def failing() -> bool:
        return (await look(scene.stage, webhook.id)).failures > 0

    await eventually(failing)
    told = (await look(scene.stage, webhook.id)).last_failure
    assert told == "Its address leads to an internal address: ::1 is this host's own."
    assert last.posts["internal_address"] >= 1
    assert there.posts == []


# -- who posts


async def test_a_dispatcher_of_the_other_site_posts_nothing(scene: Scene) -> None:
    there = await scene.receive()
    webhook = await endpoint(scene.stage, url=there.url)
    elsewhere = HandHeldLeadership(await scene.store())
    elsewhere.gate.clear()
    idle = poster(elsewhere, "denver-1", CLAIM_S, POST_S)
    await idle.start()
    scene.stack.push_async_callback(idle.stop)
    await scene.post_with("columbus-1")
    await scene.deliver(3)
    await all_of(scene, webhook, there, 3)
    assert idle.posts.total() == 0


async def test_a_dispatcher_that_is_killed_while_it_posts_leaves_its_round_to_another_with_the_same_ids(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = asyncio.Event()

    async def hold(_: Post) -> web.Response:
        await held.wait()
        return web.Response()

    there = await scene.receive(hold)
    webhook = await endpoint(scene.stage, url=there.url)
    await scene.deliver(3)
    target = (scene.database.host, str(scene.database.port), scene.database.database)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.poster_process", *target, "columbus-1"
    )
    await eventually(lambda: len(there.posts) == 3)
    process.kill()
    await process.wait()
    first = {post.id for post in there.posts}
    held.set()
    # The dead one's claim is good for half a minute: nobody touches it before.
    await scene.superuser.execute("update hotsite.webhook set claim_for_s = 0.5")
    monkeypatch.setattr(module, "MARGIN_S", 0.5)
    there.posts.clear()
    await scene.post_with("columbus-2")
    await all_of(scene, webhook, there, 3)
    assert {post.id for post in there.posts} == first


async def test_the_next_term_waits_out_a_claim_of_the_one_before(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MARGIN_S", 0.2)
    there = await scene.receive()
    webhook = await endpoint(scene.stage, url=there.url)
    await scene.deliver(1)
    [claim] = await scene.stage.store.claim_webhooks(TERM, "columbus-1", 1.5, 10)
    assert await scene.stage.store.webhook_batch(TERM, claim.claim_id, 1, 10, 5) is not None
    await scene.superuser.execute("update control.leadership set term = $1", TERM + 1)
    later = poster(HandHeldLeadership(await scene.store()), "denver-1", CLAIM_S, POST_S)
    monkeypatch.setattr("tests.api_server.TERM", TERM + 1)
    began = asyncio.get_running_loop().time()
    await later.start()
    scene.stack.push_async_callback(later.stop)
    await eventually(lambda: len(there.posts) == 1)
    assert asyncio.get_running_loop().time() - began > 1.5
    await scene.superuser.execute("update control.leadership set term = $1", TERM)
    assert (await look(scene.stage, webhook.id)).url == there.url
