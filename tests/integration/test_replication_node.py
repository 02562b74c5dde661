"""One node's life: made, started, found again, stopped, killed, promoted."""

import asyncio
import os
import re
import shutil
import signal
from contextlib import aclosing
from itertools import pairwise

import asyncpg
import psutil
import pytest

from replication import lsn, position, standbys
from replication.configuration import Primary, Standby
from replication.control import ClusterState, record_end
from replication.errors import DataDirectoryInUse, NeedsClone, NodeError, NotReady, NotStopped
from replication.node import Node
from replication.polling import until
from replication.postmaster import StopMode
from replication.processes import run, working_in
from tests.postgres import Nodes, replication_target, unprivileged_user


async def fetch(node: Node, sql: str) -> object:
    async with aclosing(await node.session()) as session:
        return (await session.read(sql, timeout=10))[0][0]


async def test_a_new_node_takes_writes_and_a_clone_of_it_follows(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    b = await nodes.standby("b", of=a)
    async with aclosing(await b.session()) as session:
        seen = await position.look(session, timeout=5)
    assert seen.in_recovery
    assert seen.streaming
    assert seen.upstream == f"127.0.0.1:{a.settings.port}"
    assert seen.cluster_name == "b/1"
    assert seen.timeline == 1


async def test_initdb_touches_no_data_that_is_there(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    with pytest.raises(NodeError, match="has data already"):
        await a.initdb()


async def test_the_settings_that_guarantees_rest_on_are_in_force(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    async with aclosing(await a.session()) as session:
        rows = await session.read("select name, setting from pg_settings", timeout=5)
    settings = {row["name"]: row["setting"] for row in rows}
    assert settings["synchronous_commit"] == "on"
    assert settings["fsync"] == "on"
    assert settings["full_page_writes"] == "on"
    assert settings["restart_after_crash"] == "off"
    assert settings["wal_log_hints"] == "on"
    assert settings["data_checksums"] == "on"
    assert settings["wal_sender_timeout"] == "2000"
    assert settings["max_standby_streaming_delay"] == "500"
    assert settings["cluster_name"] == "a/1"
    assert settings["config_file"] == str(a.settings.config_dir / "postgresql.conf")
    assert not list(a.settings.data_dir.glob("**/role.conf"))


async def test_what_alter_system_or_a_copy_left_behind_does_not_count(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    await a.stop()
    auto = a.settings.data_dir / "postgresql.auto.conf"
    auto.write_text("port = 1\nsynchronous_commit = off\n")
    (a.settings.data_dir / "postgresql.conf").write_text("port = 1\n")
    (a.settings.data_dir / "standby.signal").touch()
    await a.start(Primary(), cluster_name="a/2")
    assert await fetch(a, "select current_setting('synchronous_commit')") == "on"
    assert await fetch(a, "select pg_is_in_recovery()") is False


async def test_the_superuser_comes_in_over_the_socket_only(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(
            host="127.0.0.1", port=a.settings.port, user="hotsite_agent", database="postgres"
        )


async def test_a_second_agent_cannot_use_the_same_data_directory(nodes: Nodes) -> None:
    await nodes.primary("a")
    with pytest.raises(DataDirectoryInUse, match="another agent"):
        await nodes.make("a")


async def test_the_server_outlives_its_agent_and_is_found_again(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    pid = a.running.pid if a.running else None
    a.release()
    again = await nodes.make("a")
    found = again.find_running()
    assert found is not None
    assert found.pid == pid
    assert await fetch(again, "select 1") == 1
    ended = asyncio.create_task(again.wait_exit())
    await again.stop(deadline=10)
    await ended
    assert again.find_running() is None


async def test_a_number_in_postmaster_pid_that_is_another_process_is_not_taken_for_the_server(
    nodes: Nodes,
) -> None:
    a = await nodes.primary("a")
    await a.kill()
    pid_file = a.settings.data_dir / "postmaster.pid"
    pid_file.write_text("\n".join([str(os.getpid()), *pid_file.read_text().splitlines()[1:]]))
    assert a.find_running() is None
    await a.start(Primary(), cluster_name="a/2")


async def test_a_server_that_cannot_start_says_why(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    await a.stop()
    other = await nodes.make("x", parameters={"shared_buffers": "nonsense"})
    await other.initdb()
    with pytest.raises(NodeError, match=r'invalid value for parameter "shared_buffers"'):
        await other.start(Primary(), cluster_name="x/1")


async def test_a_standby_without_the_wal_that_it_needs_is_not_ready_and_goes_on_trying(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    b = await nodes.make("b")
    await b.clone_from(replication_target(a))
    wal = next(iter(sorted((b.settings.data_dir / "pg_wal").glob("0*1*"))))
    wal.unlink()
    await a.stop()
    with pytest.raises(NotReady):
        await b.start(Standby(upstream=replication_target(a)), cluster_name="b/1", deadline=0.5)
    assert b.running is not None


async def test_no_directory_that_was_a_standby_is_started_as_a_primary(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    b = await nodes.make("b")
    await b.clone_from(replication_target(a))
    with pytest.raises(NodeError, match="two histories"):  # just copied
        await b.start(Primary(), cluster_name="b/1")
    await b.start(Standby(upstream=replication_target(a)), cluster_name="b/1")
    await b.stop()
    with pytest.raises(NodeError, match="two histories"):
        await b.start(Primary(), cluster_name="b/1")


async def test_promotion_begins_a_new_timeline_and_can_be_repeated(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    b = await nodes.standby("b", of=a)
    await a.kill()
    await b.promote()
    await b.promote()
    async with aclosing(await b.session()) as session:
        await session.commit("create table t ()", timeout=5)
        assert (await position.look(session, timeout=5)).timeline == 2


async def test_a_promotion_through_a_session_that_stands_leaves_it_open_to_write(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    b = await nodes.standby("b", of=a)
    async with aclosing(await b.session()) as standing:
        await a.kill()
        await b.promote(through=standing)
        await standing.commit("create table t ()", timeout=5)


async def test_killing_ends_backends_that_survived_their_postmaster(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    async with aclosing(await a.session()) as session:
        backend = (await session.read("select pg_backend_pid()", timeout=5))[0][0]
        os.kill(backend, signal.SIGSTOP)  # it will not notice that its postmaster died
        assert a.running is not None
        os.kill(a.running.pid, signal.SIGKILL)
        await a.wait_exit()
        folder = a.settings.data_dir.stat()

        async def only_it_is_left() -> bool:
            return working_in(folder) == [backend]

        await until(only_it_is_left, "other backends went on", deadline=10)
        assert await a.kill() == 1
    assert working_in(folder) == []
    await a.start(Primary(), cluster_name="a/2")


async def test_a_start_ends_orphans_first(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    async with aclosing(await a.session()) as session:
        backend = (await session.read("select pg_backend_pid()", timeout=5))[0][0]
        os.kill(backend, signal.SIGSTOP)
        assert a.running is not None
        os.kill(a.running.pid, signal.SIGKILL)
        await a.wait_exit()
        await a.start(Primary(), cluster_name="a/2")
    assert backend not in working_in(a.settings.data_dir.stat())


async def test_after_the_crash_of_one_backend_the_server_ends_and_does_not_restart_itself(
    nodes: Nodes,
) -> None:
    a = await nodes.primary("a")
    async with aclosing(await a.session()) as session:
        os.kill((await session.read("select pg_backend_pid()", timeout=5))[0][0], signal.SIGKILL)
        async with asyncio.timeout(10):
            assert await a.wait_exit() == 1


async def test_a_stop_past_its_time_says_so_and_a_kill_still_works(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    async with aclosing(await a.session()):
        with pytest.raises(NotStopped):
            await a.stop(StopMode.SMART, deadline=0.2)  # it waits for our session
        assert await a.kill() > 0


async def test_a_clean_shutdown_ends_where_the_standby_has_flushed_to(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    b = await nodes.standby("b", of=a)
    await a.stop()
    end = await a.shutdown_lsn()
    async with aclosing(await b.session()) as session:
        received = (await position.look(session, timeout=5)).received
    assert end is not None
    assert end == received
    assert end > (await a.control_data()).checkpoint  # which is where the record begins


async def test_the_end_of_a_shutdown_is_read_past_segments_that_were_only_made_ready(nodes: Nodes) -> None:
    """pg_waldump asks the first file that it comes across how large segments are; those hold nothing but zeros."""
    a = await nodes.primary("a")
    await a.stop()
    end = await a.shutdown_lsn()
    wal = a.settings.data_dir / "pg_wal"
    for number in range(200, 232):  # a folder lists them in no order that could be relied upon
        ready = wal / f"00000001{0:08X}{number:08X}"
        ready.write_bytes(bytes(16 * 1024))
        shutil.copystat(wal.parent / "PG_VERSION", ready)
        ready.chmod(0o644)
    assert end is not None
    assert await a.shutdown_lsn() == end


async def test_records_end_where_the_next_ones_begin(nodes: Nodes) -> None:
    """Over thousands of real ones, page after page: what the end of a shutdown record is reckoned by."""
    a = await nodes.primary("a")
    async with aclosing(await a.session()) as session:
        await session.commit(
            "create table t as select repeat(n::text, n % 90) from generate_series(1, 9000) n", timeout=20
        )
    await a.stop()
    control = await a.control_data()
    command = [a.settings.binaries["pg_waldump"], "--path", str(a.settings.data_dir / "pg_wal")]
    command += ["--start", lsn.show(control.redo // control.segment_bytes * control.segment_bytes + 40)]
    # It fails at the end of the WAL, after its output.
    quietly = ["/bin/sh", "-c", '"$@" 2>/dev/null || true', "sh", *command]
    output = await run(a.account, quietly, folder=a.settings.config_dir, deadline=20)
    records = [
        (lsn.parse(at), int(length))
        for length, at in re.findall(r"rec/tot\): *\d+/ *(\d+),.* lsn: (\S+),", output)
    ]
    assert len(records) > 5000
    for (begin, length), (following, _) in pairwise(records):
        end = record_end(begin, length, segment_bytes=control.segment_bytes, block_bytes=control.block_bytes)
        header = 0 if end % control.block_bytes else 24 if end % control.segment_bytes else 40
        assert end + header == following


async def test_a_crash_or_a_standby_has_no_end_of_a_clean_shutdown(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    b = await nodes.standby("b", of=a)
    await b.stop()
    await a.stop(StopMode.IMMEDIATE)
    assert await a.shutdown_lsn() is None
    assert await b.shutdown_lsn() is None
    assert (await a.control_data()).state is ClusterState.IN_PRODUCTION
    assert (await b.control_data()).was_standby


async def test_a_clone_is_another_incarnation_and_a_restart_is_not(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    b = await nodes.standby("b", of=a)
    identity = await b.incarnation()
    assert identity != await a.incarnation()
    await b.stop()
    await b.start(Standby(upstream=replication_target(a)), cluster_name="b/2")
    assert await b.incarnation() == identity
    await b.stop()
    await b.clone_from(replication_target(a))
    assert await b.incarnation() != identity


async def test_a_snapshot_that_was_put_back_is_another_incarnation(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    await a.stop()
    identity = await a.incarnation()
    control = a.settings.data_dir / "global" / "pg_control"
    older = control.read_bytes()
    await a.start(Primary(), cluster_name="a/2")
    await a.stop()
    assert await a.incarnation() == identity
    control.write_bytes(older)
    assert await a.incarnation() != identity


async def test_a_volume_that_was_exchanged_is_another_incarnation(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    await a.stop()
    identity = await a.incarnation()
    data = a.settings.data_dir
    data.rename(data.with_name("kept"))
    await nodes.primary("b")
    b_data = data.parent.parent / "b" / "data"
    b_data.rename(data)
    assert await a.incarnation() != identity
    data.rename(b_data)


async def test_a_failed_clone_leaves_the_old_data_as_it_was(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    b = await nodes.standby("b", of=a)
    identity = await b.incarnation()
    await b.stop()
    await a.stop()
    with pytest.raises(NodeError, match="pg_basebackup failed"):
        await b.clone_from(replication_target(a))
    assert await b.incarnation() == identity
    assert not b.needs_clone()
    assert {p.name for p in b.settings.data_dir.parent.glob("data*")} == {"data", "data.lock"}


async def test_a_directory_without_a_control_file_is_never_started(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    await a.stop()
    (a.settings.data_dir / "global" / "pg_control").unlink()
    assert a.needs_clone()
    with pytest.raises(NeedsClone):
        await a.start(Primary(), cluster_name="a/2")


async def test_a_running_standby_follows_another_upstream_without_a_restart(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    b = await nodes.standby("b", of=a)
    c = await nodes.standby("c", of=a)
    pid = c.running.pid if c.running else None
    await a.stop()
    await b.promote()
    c.follow(Standby(upstream=replication_target(b)))
    async with aclosing(await b.session()) as session:
        await standbys.wait_flushed(session, "c", 0, deadline=20)
    assert c.running is not None
    assert c.running.pid == pid


async def test_the_way_to_the_source_shows_no_password_to_other_users(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    b = await nodes.standby("b", of=a)
    for file in b.settings.config_dir.glob("*.pass"):
        assert file.stat().st_mode & 0o077 == 0
    assert not (b.settings.config_dir / "source.pass").exists()
    assert "passfile" in str(await fetch(b, "select current_setting('primary_conninfo')"))


@pytest.mark.skipif(unprivileged_user() is None, reason="only root can run it as somebody else")
async def test_root_runs_it_as_an_ordinary_user(nodes: Nodes) -> None:
    a = await nodes.primary("a")
    assert a.running is not None
    assert a.account.uid != 0
    assert psutil.Process(a.running.pid).uids().real == a.account.uid
