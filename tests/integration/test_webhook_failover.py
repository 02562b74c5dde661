"""A cursor goes on at the other site: what was told is not told again, and nothing is left out."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from dispatcher import migrate
from dispatcher.accounts import add_account
from dispatcher.postgres_store import PostgresStore
from dispatcher.webhooks.model import Position
from replication.node import Node
from replication.session import Session, Target
from sitecontrol.agent.row import Row, apply_schema
from tests.message_scenes import SHORT_CODE, Stage
from tests.postgres import Nodes
from tests.webhook_scenes import batch, claimed, delivered, endpoint, look, settlement

SOON = 20.0
OLD, NEW = 7, 8  # terms
PASSWORD = "open sesame"
ROLES = ("hotsite_migrate", "hotsite_dispatch", "hotsite_monitor")


def target(node: Node, role: str) -> Target:
    return Target(host="127.0.0.1", port=node.settings.port, user=role, password=PASSWORD)


def row_of(node: Node) -> Row:
    async def connect(_: str) -> Session:
        return await node.session()

    return Row(connect)


@dataclass
class Scene:
    """`a` leads term 7; `b` is its standby."""

    a: Node
    b: Node
    at_a: Stage
    at_b: Stage

    async def fail_over(self) -> None:
        await self.a.kill()
        await self.b.promote()
        await row_of(self.b).open(NEW, "b")


@pytest.fixture
async def scene(nodes: Nodes) -> AsyncIterator[Scene]:
    a = await nodes.primary("a")
    async with aclosing(await a.session()) as session:
        for role in ROLES:
            await session.commit(f"create role {role} login password '{PASSWORD}'", timeout=SOON)
        await session.commit("create schema hotsite authorization hotsite_migrate", timeout=SOON)
        await apply_schema(session)
        await row_of(a).open(OLD, "a")
    await migrate.apply(target(a, "hotsite_migrate"))
    async with aclosing(await Session.connect(target(a, "hotsite_migrate"), timeout=SOON)) as session:
        for name in ("utility", "another"):
            await add_account(session, name=name, program="outages", source=SHORT_CODE)

    async def pass_time(duration: timedelta) -> None:
        raise NotImplementedError(duration)

    at_a = PostgresStore(await Session.connect(target(a, "hotsite_dispatch"), timeout=SOON))
    mine, other = await at_a.programs(OLD)
    old = Stage(at_a, OLD, mine, other, pass_time, lambda: datetime.now(UTC))
    b = await nodes.standby("b", of=a)
    at_b = PostgresStore(await Session.connect(target(b, "hotsite_dispatch"), timeout=SOON))
    yield Scene(a, b, old, replace(old, store=at_b, term=NEW))
    for store in (at_a, at_b):
        await store.aclose()


async def read(stage: Stage, position: Position) -> tuple[list[UUID | None], Position]:
    page = await stage.store.feed_page(stage.term, stage.program.account_id, position, 100)
    return [event.subject for event in page.events], page.position


async def test_a_cursor_of_the_lost_leader_goes_on_at_the_new_one(scene: Scene) -> None:
    begun = (await scene.at_a.store.feed_page(OLD, scene.at_a.program.account_id, None, 1)).position
    first = [await delivered(scene.at_a, f"a{n}") for n in range(3)]
    seen, position = await read(scene.at_a, begun)
    assert seen == first
    unread = [await delivered(scene.at_a, f"b{n}") for n in range(3)]
    await scene.fail_over()
    after = [await delivered(scene.at_b, f"c{n}") for n in range(3)]
    seen, position = await read(scene.at_b, position)
    assert seen == [*unread, *after]
    assert await read(scene.at_b, position) == ([], position)
    assert (await read(scene.at_b, begun))[0] == [*first, *unread, *after]


async def test_a_round_that_was_settled_at_the_lost_leader_is_not_posted_again(scene: Scene) -> None:
    webhook = await endpoint(scene.at_a)
    await delivered(scene.at_a, "a1")
    claim = await claimed(scene.at_a)
    [one] = (await batch(scene.at_a, claim)).events
    await scene.at_a.store.settle_webhook(
        settlement(claim, position=one.event.position, taken=1, release=False)
    )
    second = await delivered(scene.at_a, "a2")
    await scene.fail_over()
    # The claim of before stands, and is nobody's to take before it was waited out.
    assert list(await scene.at_b.store.claim_webhooks(NEW, "denver-1", 30.0, 10)) == []
    seen = await scene.at_b.store.webhook_claims(NEW)
    again = await claimed(scene.at_b, "denver-1", waited_out=seen)
    assert [one.event.subject for one in (await batch(scene.at_b, again)).events] == [second]
    assert (await look(scene.at_b, webhook.id)).taken == 1
