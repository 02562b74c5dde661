"""The moment recovery ends: what a warm session may do then, and what only the row lets it do (failover rule 8)."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from dispatcher import migrate
from dispatcher.accounts import add_account
from dispatcher.model import Claim, State
from dispatcher.postgres_store import PostgresStore
from dispatcher.store import NotLeader
from replication.node import Node
from replication.session import Session, Target
from sitecontrol.agent.row import Row, apply_schema
from tests.message_scenes import SHORT_CODE, Stage, receipt, submitted
from tests.postgres import Nodes

SOON = 20.0
NOT_THE_LEADER = "HS001"
IN_RECOVERY = "25006"
OLD, NEW = 7, 8  # terms
PASSWORD = "open sesame"
ASSERT = "select control.assert_leader($1)"
ROLES = ("hotsite_migrate", "hotsite_dispatch", "hotsite_monitor")


def target(node: Node, role: str) -> Target:
    return Target(host="127.0.0.1", port=node.settings.port, user=role, password=PASSWORD)


def row_of(node: Node) -> Row:
    async def connect(_: str) -> Session:
        return await node.session()

    return Row(connect)


@dataclass
class Scene:
    """`a` leads term 7 with a plain table beside the schemas; `b` is its standby, with two warm sessions to it."""

    a: Node
    b: Node
    claim: Claim  # made in term 7; its answer is still to come
    stage: Stage  # on a dispatcher's session to b
    warm: "asyncpg.Connection[asyncpg.Record]"  # the same role, with nothing of ours in between

    async def promote(self) -> None:
        await self.a.kill()
        await self.b.promote()


@pytest.fixture
async def scene(nodes: Nodes) -> AsyncIterator[Scene]:
    a = await nodes.primary("a")
    async with aclosing(await a.session()) as session:
        for role in ROLES:
            await session.commit(f"create role {role} login password '{PASSWORD}'", timeout=SOON)
        await session.commit("create schema hotsite authorization hotsite_migrate", timeout=SOON)
        await apply_schema(session)
        await row_of(a).open(OLD, "a")
        await session.commit("create table plain (id int primary key)", timeout=SOON)
        await session.commit("grant insert on plain to hotsite_dispatch", timeout=SOON)
    await migrate.apply(target(a, "hotsite_migrate"))
    async with aclosing(await Session.connect(target(a, "hotsite_migrate"), timeout=SOON)) as session:
        for name in ("utility", "another"):
            await add_account(session, name=name, program="outages", source=SHORT_CODE)

    async def pass_time(duration: timedelta) -> None:
        raise NotImplementedError(duration)

    at_a = PostgresStore(await Session.connect(target(a, "hotsite_dispatch"), timeout=SOON))
    mine, other = await at_a.programs(OLD)
    old = Stage(at_a, OLD, mine, other, pass_time, lambda: datetime.now(UTC))
    claim = await old.sent()
    b = await nodes.standby("b", of=a)
    at_b = PostgresStore(await Session.connect(target(b, "hotsite_dispatch"), timeout=SOON))
    where = target(b, "hotsite_dispatch")
    warm = await asyncpg.connect(
        host=where.host, port=where.port, user=where.user, password=where.password, database=where.database
    )
    yield Scene(a, b, claim, replace(old, store=at_b, term=NEW), warm)
    for store in (at_a, at_b):
        await store.aclose()
    await warm.close()


async def sqlstate(statement: Any) -> str:
    """With which code it is refused."""
    with pytest.raises(asyncpg.PostgresError) as refusal:
        await statement
    return str(refusal.value.sqlstate)


async def test_a_warm_session_writes_a_plain_table_the_moment_recovery_ends(scene: Scene) -> None:
    """[M] PostgreSQL by itself bars nobody: what keeps a just-promoted server closed is ours."""
    assert await sqlstate(scene.warm.execute("insert into plain values (1)")) == IN_RECOVERY
    await scene.promote()
    await scene.warm.execute("insert into plain values (1)")


async def test_the_functions_refuse_the_same_session_until_the_row_is_this_servers_own(scene: Scene) -> None:
    await scene.promote()
    stage = scene.stage
    for term in (OLD, NEW):
        assert await sqlstate(scene.warm.execute(ASSERT, term)) == NOT_THE_LEADER
        stage.term = term
        for refused in (
            stage.accept(stage.message()),
            stage.claim(),
            stage.view(scene.claim.message_id),
            stage.store.find(term, stage.program.account_id),
            stage.store.give_up_claims(term, [scene.claim.claim_id]),
            # these two pass without a term, but not without a leader:
            stage.store.settle([submitted(scene.claim)]),
            stage.store.receipts([receipt()]),
        ):
            with pytest.raises(NotLeader) as refusal:
                await refused
            assert isinstance(refusal.value.__cause__, asyncpg.PostgresError)
            assert refusal.value.__cause__.sqlstate == NOT_THE_LEADER

    await row_of(scene.b).open(NEW, "b")
    await scene.warm.execute(ASSERT, NEW)
    assert await sqlstate(scene.warm.execute(ASSERT, OLD)) == NOT_THE_LEADER
    await stage.store.settle([submitted(scene.claim)])  # of a claim that the old leader made
    await stage.store.receipts([receipt()])
    assert await stage.state(scene.claim.message_id) is State.DELIVERED
    await stage.sent()
