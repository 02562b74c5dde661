"""Coming back: a node whose history left the leader's, and the traps of pg_rewind."""

import asyncio
import os
import shutil
import signal
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from replication import position, standbys
from replication.configuration import Primary, Standby
from replication.configured import NodeSettings
from replication.directory import DataDirectory
from replication.errors import NeedsClone, NodeError
from replication.node import Node
from replication.polling import until
from replication.processes import run, working_in
from replication.session import SessionLost, Target
from replication.tools import Tools
from tests.ports import free_port
from tests.postgres import Nodes, replication_target, rewind_target, tools, unprivileged_user

SOON = 20.0


async def execute(node: Node, sql: str) -> None:
    async with aclosing(await node.session()) as session:
        await session.commit(sql, timeout=SOON)


async def texts(node: Node) -> set[str]:
    async with aclosing(await node.session()) as session:
        return {row["x"] for row in await session.read("select x from t", timeout=SOON)}


async def parted(nodes: Nodes) -> tuple[Node, Node]:
    """`a`, killed, which holds a commit that nobody else has; and `b`, which leads now and has gone on."""
    a = await nodes.primary("a")
    await execute(a, "create table t (x text)")
    b = await nodes.standby("b", of=a)
    await execute(a, "insert into t values ('both')")
    async with aclosing(await a.session()) as session:
        rows = await session.read("select (pg_current_wal_flush_lsn() - '0/0')::bigint", timeout=SOON)
        await standbys.wait_flushed(session, "b", rows[0][0], deadline=SOON)
    await b.stop()
    await execute(a, "insert into t select 'only a' from generate_series(1, 1000)")
    await a.kill()
    await b.start(Standby(), cluster_name="b/2")
    await b.promote()
    await execute(b, "insert into t values ('only b')")
    return a, b


async def follow(node: Node, leader: Node) -> None:
    """Start `node` as a standby of `leader` and wait until it has all."""
    await node.start(Standby(upstream=replication_target(leader)), cluster_name=f"{node.settings.name}/9")
    async with aclosing(await leader.session()) as session:
        rows = await session.read("select (pg_current_wal_flush_lsn() - '0/0')::bigint", timeout=SOON)
        await standbys.wait_flushed(session, node.settings.name, rows[0][0], deadline=SOON)
    async with aclosing(await node.session()) as session:

        async def all_is_replayed() -> bool:
            return (await position.look(session, timeout=SOON)).replayed >= int(rows[0][0])

        await until(all_is_replayed, "not everything was replayed", deadline=SOON)


async def test_a_leader_that_was_shut_down_clean_follows_the_next_one_without_a_rewind(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    await execute(a, "create table t (x text)")
    b = await nodes.standby("b", of=a)
    identity = await a.incarnation()
    await a.stop()
    await b.promote()
    await execute(b, "insert into t values ('next')")
    await follow(a, b)
    assert await texts(a) == {"next"}
    assert await a.incarnation() == identity


async def test_a_node_with_commits_of_its_own_is_rewound_and_is_another_incarnation(nodes: Nodes) -> None:
    a, b = await parted(nodes)
    identity = await a.incarnation()
    await execute(b, "checkpoint")
    assert await a.rewind_from(rewind_target(b), timeline=2)
    await follow(a, b)
    assert await texts(a) == {"both", "only b"}
    assert await a.incarnation() != identity


async def test_before_the_leaders_first_checkpoint_there_is_no_rewind(nodes: Nodes) -> None:
    a, b = await parted_without_checkpoint(nodes)
    with pytest.raises(NodeError, match="shows timeline 1, not 2: it needs a CHECKPOINT"):
        await a.rewind_from(rewind_target(b), timeline=2)
    assert not a.needs_clone()


async def parted_without_checkpoint(nodes: Nodes) -> tuple[Node, Node]:
    """As `parted`, but the checkpoint that follows a promotion is held up."""
    a = await nodes.primary("a")
    await execute(a, "create table t (x text)")
    b = await nodes.standby("b", of=a)
    await b.stop()
    await execute(a, "insert into t values ('only a')")
    await a.stop()
    await b.start(Standby(), cluster_name="b/2")
    async with aclosing(await b.session()) as session:
        rows = await session.read(
            "select pid from pg_stat_activity where backend_type = 'checkpointer'", timeout=SOON
        )
    os.kill(rows[0]["pid"], signal.SIGSTOP)  # ended with the node
    await b.promote()
    return a, b


async def test_pg_rewind_by_itself_sees_nothing_to_do_before_that_checkpoint(nodes: Nodes) -> None:
    """[M] It says "no rewind required" and leaves the node diverged (PostgreSQL 15; 16 looks further)."""
    a, b = await parted_without_checkpoint(nodes)
    if a.settings.binaries.major > 15:
        pytest.skip("PostgreSQL 16 and later take the timeline of the last recovery into account")
    command = [a.settings.binaries["pg_rewind"], "-D", str(a.settings.data_dir), "--dry-run"]
    source = f"host={b.settings.socket_dir} port={b.settings.port} user=hotsite_agent dbname=postgres"
    output = await run(
        a.account, [*command, "--source-server", source], folder=a.settings.config_dir, deadline=SOON
    )
    assert "no rewind required" in output


async def test_what_a_rewind_brings_along_from_the_source_does_not_count(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[M] It overwrites configuration in the data directory and leaves no standby.signal."""
    a, b = await parted(nodes)
    pg_rewind, left = Tools.rewind, []

    async def watched(tools: Tools, data_dir: Path, *args: Any, **options: Any) -> bool:
        rewound = await pg_rewind(tools, data_dir, *args, **options)
        left.append((data_dir / "standby.signal").exists())
        return rewound

    monkeypatch.setattr(Tools, "rewind", watched)
    (b.settings.data_dir / "postgresql.auto.conf").write_text("port = 1\nprimary_conninfo = 'host=nowhere'\n")
    await execute(b, "checkpoint")
    await a.rewind_from(rewind_target(b), timeline=2)
    assert "nowhere" in (a.settings.data_dir / "postgresql.auto.conf").read_text()
    assert left == [False]  # by itself it would start as a primary,
    assert (a.settings.data_dir / "standby.signal").exists()  # and so we make one before it counts as usable
    await follow(a, b)
    async with aclosing(await a.session()) as session:
        seen = await position.look(session, timeout=SOON)
    assert seen.in_recovery
    assert seen.upstream == f"127.0.0.1:{b.settings.port}"


async def test_a_rewind_that_lacks_wal_from_before_the_fork_ends_in_a_clone(nodes: Nodes) -> None:
    """[M] Hence wal_keep_size; and where that was not enough, a clone."""
    a, b = await parted(nodes)
    await a.start(Primary(), cluster_name="a/2")  # recovery, and a checkpoint after which older WAL may go
    await execute(a, "select pg_switch_wal()")
    async with aclosing(await a.session()) as session:
        forked_in = (await session.read("select pg_walfile_name(pg_current_wal_lsn())", timeout=SOON))[0][0]
    await execute(a, "checkpoint")
    await a.stop()
    for segment in (a.settings.data_dir / "pg_wal").glob("00000001" + "?" * 16):
        if segment.name < forked_in:
            segment.unlink()
    await execute(b, "checkpoint")
    with pytest.raises(NeedsClone, match="pg_rewind failed"):
        await a.rewind_from(rewind_target(b), timeline=2)
    assert not a.needs_clone()  # nothing was touched: until the copy is whole there is something left
    await a.clone_from(replication_target(b))
    assert not a.needs_clone()
    await follow(a, b)
    assert await texts(a) == {"both", "only b"}


async def test_a_node_that_lost_all_of_its_wal_starts_no_more_and_is_cloned(nodes: Nodes) -> None:
    a, b = await parted(nodes)
    shutil.rmtree(a.settings.data_dir / "pg_wal")
    with pytest.raises(NodeError):
        await a.start(Primary(), cluster_name="a/2")
    await execute(b, "checkpoint")
    with pytest.raises(NeedsClone, match="pg_rewind failed"):
        await a.rewind_from(rewind_target(b), timeline=2)
    await a.clone_from(replication_target(b))
    await follow(a, b)
    assert await texts(a) == {"both", "only b"}


async def test_a_rewind_that_touched_nothing_because_the_leader_was_lost_is_tried_again(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the leader was gone: a clone would be the longer way, and throws away what can be kept."""
    a, b = await parted(nodes)
    async with a.open_privately():
        pass  # so that it is shut down clean
    await execute(b, "checkpoint")
    pg_rewind = Tools.rewind

    async def lost(tools: Tools, *args: Any, **options: Any) -> bool:
        await b.stop()
        return await pg_rewind(tools, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Tools, "rewind", lost)
        with pytest.raises(SessionLost):
            await a.rewind_from(rewind_target(b), timeline=2)
    assert not a.needs_clone()
    await b.start(Primary(), cluster_name="b/3")
    assert await a.rewind_from(rewind_target(b), timeline=2)
    await follow(a, b)
    assert await texts(a) == {"both", "only b"}


async def test_a_rewind_that_was_killed_half_way_is_never_started_and_a_clone_cures_it(nodes: Nodes) -> None:
    """[M] The directory might start, and be corrupt."""
    a, b = await parted(nodes)
    await execute(b, "checkpoint")
    rewinding = asyncio.create_task(a.rewind_from(rewind_target(b), timeline=2))
    async with asyncio.timeout(SOON):
        while not a.needs_clone():  # noqa: ASYNC110 (a marker on disk has no event)
            await asyncio.sleep(0)
    rewinding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rewinding
    assert working_in(a.settings.config_dir.stat()) == []
    a.release()
    again = await nodes.make("a")
    assert again.needs_clone()
    for role in (Primary(), Standby(upstream=replication_target(b))):
        with pytest.raises(NeedsClone):
            await again.start(role, cluster_name="a/2")
    await again.clone_from(replication_target(b))
    await follow(again, b)
    assert await texts(again) == {"both", "only b"}


async def test_a_clone_that_does_not_fit_is_not_begun_and_the_error_tells_how_much_is_missing(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await parted(nodes)
    leftover = a.settings.data_dir.with_name("data.new-0000")
    leftover.mkdir()
    await a.make_room_for(rewind_target(b))
    assert not leftover.exists()
    monkeypatch.setattr(DataDirectory, "free_bytes", lambda _: 5_000_000)
    with pytest.raises(NodeError, match=r"needs \d\d\d MB beside .*/a/data, and 5 MB are free: make room"):
        await a.make_room_for(rewind_target(b))


async def test_old_data_is_removed_beside_the_event_loop(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be many gigabytes, and nothing else of the agent would happen meanwhile."""
    a, b = await parted(nodes)
    rmtree, removed_by = shutil.rmtree, []

    def watched(path: Path, **options: Any) -> None:
        removed_by.append(threading.current_thread())
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", watched)
    a.settings.data_dir.with_name("data.new-0000").mkdir()
    await a.clone_from(replication_target(b))
    with pytest.raises(NodeError):
        await a.clone_from(Target(host="127.0.0.1", port=free_port(), user="x"))
    assert len(removed_by) == 3  # a leftover, the old data, and what a clone had begun
    assert threading.main_thread() not in removed_by


async def test_a_mount_point_as_data_directory_is_refused_at_once(tmp_path: Path) -> None:
    """A clone is renamed to where the old data was, and nothing can be renamed to there."""
    settings = NodeSettings(
        name="a",
        binaries=tools(),
        data_dir=Path("/proc"),
        config_dir=tmp_path / "etc",
        socket_dir=Path("/tmp"),  # noqa: S108 (nothing is made)
        host="127.0.0.1",
        port=5432,
        run_as=unprivileged_user(),
    )
    with pytest.raises(NodeError, match=r'replication\.data_dir: /proc is a mount point.*"/proc/data"'):
        Node(settings)


async def test_a_node_on_the_leaders_own_timeline_is_cloned_because_pg_rewind_would_not_see_the_fork(
    nodes: Nodes,
) -> None:
    a, b = await parted(nodes)
    await a.start(Primary(), cluster_name="a/2")
    await a.stop()
    await a.start(Standby(), cluster_name="a/3")
    await a.promote()  # it, too, calls its new timeline 2
    await a.stop()
    await execute(b, "checkpoint")
    with pytest.raises(NeedsClone, match="timeline 2 cannot be rewound to timeline 2"):
        await a.rewind_from(rewind_target(b), timeline=2)


async def test_a_node_of_another_cluster_is_not_rewound(nodes: Nodes) -> None:
    _, b = await parted(nodes)
    other = await nodes.primary("x")
    await other.stop()
    await execute(b, "checkpoint")
    with pytest.raises(NodeError, match="belongs to another cluster"):
        await other.rewind_from(rewind_target(b), timeline=2)


async def test_what_a_killed_agent_left_at_work_is_ended_before_anything_else(nodes: Nodes) -> None:
    a = await nodes.make("a")
    nowhere = Target(host="127.0.0.1", port=free_port(), user="x")
    listener = await asyncio.start_server(_say_nothing, nowhere.host, nowhere.port)
    async with listener:
        stray = a.account.popen(
            [a.settings.binaries["pg_basebackup"], "-h", nowhere.host, "-p", str(nowhere.port), "-D", "copy"],
            cwd=a.settings.config_dir,
        )
        try:

            async def it_works_there() -> bool:
                return working_in(a.settings.config_dir.stat()) == [stray.pid]

            await until(it_works_there, "it did not begin", deadline=SOON)
            a.release()
            await nodes.make("a")
        finally:
            stray.kill()
            assert stray.wait() == -signal.SIGKILL


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(100):
        pass
    writer.close()
