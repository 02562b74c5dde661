"""A node that is opened for nobody but its agent, to look at what it holds before that is thrown away."""

import asyncio
from contextlib import aclosing

import asyncpg
import pytest

from replication import position, timelines
from replication.configuration import Primary
from replication.errors import NodeError
from replication.node import Node
from replication.processes import working_in
from replication.session import Session, SessionLost, Target
from tests.integration.test_replication_return import execute, follow, parted, texts
from tests.postgres import Nodes, replication_target, rewind_target

SOON = 20.0


async def forked_at(a: Node, b: Node) -> int:
    """Where the history of `a` left that of `b`, which runs."""
    found = timelines.fork(await a.history(), await b.history())
    assert found is not None
    return found


async def test_what_a_node_alone_holds_can_be_read_and_it_is_rewound_all_the_same(nodes: Nodes) -> None:
    a, b = await parted(nodes)
    fork = await forked_at(a, b)
    async with (
        a.open_privately() as private,
        aclosing(await Session.connect(private, timeout=SOON)) as session,
    ):
        rows = await session.read("select x, count(*) from t group by x", timeout=SOON)
        assert {row["x"]: row["count"] for row in rows} == {"both": 1, "only a": 1000}
        end = (await position.look(session, timeout=SOON)).received
        changes = await a.changes(fork, end)
        [table] = await session.read(
            "select d.oid::int as database, pg_relation_filenode('t')::int as file, min(t.xmin::text)::int as tx"
            " from pg_database d, t where d.datname = current_database() and x = 'only a' group by 1, 2",
            timeout=SOON,
        )
        assert table["tx"] in changes.transactions
        assert changes.blocks[table["database"], table["file"]] == set(range(5))  # 1,000 rows of 28 bytes
    assert await a.shutdown_lsn() is not None  # clean: pg_rewind need not run recovery itself
    await execute(b, "checkpoint")
    assert await a.rewind_from(rewind_target(b), timeline=2)
    await follow(a, b)
    assert await texts(a) == {"both", "only b"}


async def test_nobody_else_can_see_that_it_runs_and_nothing_is_written(nodes: Nodes) -> None:
    a, _ = await parted(nodes)
    async with a.open_privately() as private:
        assert a.running is None
        assert str(a.settings.socket_dir) in private.host
        for target in (a.target(), replication_target(a)):
            with pytest.raises(SessionLost):
                await Session.connect(target, timeout=SOON)
        async with aclosing(await Session.connect(private, timeout=SOON)) as session:
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await session.commit("insert into t values ('late')", timeout=SOON)
            [row] = await session.read(
                "select current_setting('listen_addresses') || current_setting('synchronous_standby_names') as any,"
                " current_setting('autovacuum') as autovacuum",
                timeout=SOON,
            )
            assert (row["any"], row["autovacuum"]) == ("", "off")
    assert working_in(a.settings.data_dir.stat()) == []


async def test_whoever_ends_the_server_ends_a_private_one_too(nodes: Nodes) -> None:
    a, _ = await parted(nodes)
    opened = asyncio.Event()

    async def look() -> None:
        async with a.open_privately():
            opened.set()
            await asyncio.Event().wait()

    looking = asyncio.create_task(look())
    await opened.wait()
    assert await a.kill() > 0
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert working_in(a.settings.data_dir.stat()) == []
    await a.start(Primary(), cluster_name="a/3")


async def test_a_private_server_that_a_killed_agent_left_is_ended_by_the_next_one(nodes: Nodes) -> None:
    a, _ = await parted(nodes)
    async with a.open_privately() as private:
        assert isinstance(private, Target)
        a.release()
        again = await nodes.make("a")
        assert working_in(a.settings.data_dir.stat()) == []
        assert again.find_running() is None


async def test_a_standby_is_not_opened_so_for_its_history_would_go_on_as_another(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    b = await nodes.standby("b", of=a)
    await b.stop()
    with pytest.raises(NodeError, match="was a standby"):
        async with b.open_privately():
            pass


async def test_a_server_that_cannot_be_opened_leaves_nothing_running(nodes: Nodes) -> None:
    a, _ = await parted(nodes)
    for segment in (a.settings.data_dir / "pg_wal").glob("0" * 7 + "?" * 17):
        segment.unlink()
    with pytest.raises(NodeError, match="PostgreSQL did not start"):
        async with a.open_privately():
            pass
    assert working_in(a.settings.data_dir.stat()) == []


async def test_changes_of_wal_that_is_gone_or_takes_too_long_are_an_error_that_says_so(nodes: Nodes) -> None:
    a, b = await parted(nodes)
    fork = await forked_at(a, b)
    async with a.open_privately():
        with pytest.raises(NodeError, match="pg_waldump did not end within 0 s"):
            await a.changes(fork, fork + 10_000, deadline=0)
        with pytest.raises(NodeError, match=r"pg_waldump failed with status 1: .*could not"):
            await a.changes(fork + 2**40, fork + 2**40 + 8)
