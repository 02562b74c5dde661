"""When a commit waits for standbys, when that begins, and how a wait that was cut short looks.

What PostgreSQL and asyncpg do by themselves is tested next to what we make of it: the first kind of test fails
when a new version changes the ground that our rules stand on.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing

import asyncpg
import pytest

from replication import standbys
from replication.configuration import Primary, Standby
from replication.errors import NodeError
from replication.node import Node
from replication.polling import until
from replication.session import CommitUnknown, Session
from tests.postgres import Nodes

SOON = 20.0
WRITE = "insert into t values (default) returning id"


@pytest.fixture
async def a(nodes: Nodes) -> Node:
    """A primary with a table."""
    a = await nodes.primary("a")
    async with aclosing(await a.session()) as session:
        await session.commit("create table t (id bigserial primary key)", timeout=SOON)
    return a


@pytest.fixture
async def session(a: Node) -> AsyncIterator[Session]:
    async with aclosing(await a.session()) as session:
        yield session


@pytest.fixture
async def witness(a: Node) -> AsyncIterator[Session]:
    async with aclosing(await a.session()) as session:
        yield session


@pytest.fixture
async def raw(a: Node) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """asyncpg as it comes, without our session around it."""
    connection = await asyncpg.connect(
        host=str(a.settings.socket_dir), port=a.settings.port, user="hotsite_agent", database="postgres"
    )
    yield connection
    await connection.close()


async def count(witness: Session) -> int:
    return int((await witness.read("select count(*) from t", timeout=SOON))[0][0])


async def until_one_waits(witness: Session) -> int:
    """The process that waits for a standby, once there is one."""
    waiting = "select pid from pg_stat_activity where wait_event = 'SyncRep'"

    async def one_waits() -> bool:
        return bool(await witness.read(waiting, timeout=SOON))

    await until(one_waits, "no commit waited", deadline=SOON)
    return int((await witness.read(waiting, timeout=SOON))[0][0])


async def until_it_waits(witness: Session, pid: int) -> None:
    """Until this very process waits: what `begin_waiting` committed to see whether commits wait may still do, too."""
    waiting = "select from pg_stat_activity where wait_event = 'SyncRep' and pid = $1"

    async def it_waits() -> bool:
        return bool(await witness.read(waiting, pid, timeout=SOON))

    await until(it_waits, "the commit did not wait", deadline=SOON)


async def commit_when_waiting_began(
    a: Node, session: Session, witness: Session
) -> "tuple[asyncio.Task[object], int]":
    """A commit of ours that waits for a standby which does not exist, and its process."""
    await standbys.begin_waiting(a, ["nobody"])
    pid = int((await session.read("select pg_backend_pid()", timeout=SOON))[0][0])
    commit = asyncio.create_task(session.commit(WRITE, timeout=SOON))
    await until_it_waits(witness, pid)
    return commit, pid


# -- who is in step


async def test_a_standby_shows_where_it_is(a: Node, nodes: Nodes, session: Session) -> None:
    await nodes.standby("b", of=a)
    await session.commit(WRITE, timeout=SOON)
    rows = await session.read("select (pg_current_wal_flush_lsn() - '0/0')::bigint", timeout=SOON)
    await standbys.wait_flushed(session, "b", rows[0][0], deadline=SOON)
    (b,) = await standbys.streaming(session)
    assert b.name == "b"
    assert b.streaming
    assert b.flushed >= rows[0][0]
    assert b.behind == 0
    assert b.place == 0


async def test_a_standby_that_does_not_replay_falls_behind_in_bytes_and_in_seconds(
    a: Node, nodes: Nodes, session: Session
) -> None:
    b = await nodes.standby("b", of=a)
    async with aclosing(await b.session()) as on_b:
        await on_b.read("select pg_wal_replay_pause()", timeout=SOON)
        written: list[tuple[int, float]] = []

        async def grows() -> bool:
            await session.commit(WRITE, timeout=SOON)
            (seen,) = await standbys.streaming(session)
            held = (seen.flushed - seen.replayed, seen.replay_lag_s or 0.0)
            if not written or (held[0] > written[-1][0] and held[1] > written[-1][1]):
                written.append(held)
            return len(written) > 3 and held[1] > 0.5

        await until(grows, "the lag of the replay did not grow", deadline=SOON)
        (seen,) = await standbys.streaming(session)
        assert seen.flush_lag_s is not None
        assert seen.flush_lag_s < seen.replay_lag_s  # it is on disk there all the same
        await on_b.read("select pg_wal_replay_resume()", timeout=SOON)

        async def caught_up() -> bool:
            await session.commit(WRITE, timeout=SOON)
            (now,) = await standbys.streaming(session)
            return now.replay_lag_s is not None and now.replay_lag_s < 0.5

        await until(caught_up, "the lag of the replay did not end", deadline=SOON)


async def test_a_standby_that_does_not_receive_falls_behind_in_bytes_and_its_last_seconds_stand_still(
    a: Node, nodes: Nodes, session: Session
) -> None:
    """PostgreSQL measures with each answer: of a silent standby, seconds have to be counted by who looks at it."""
    b = await nodes.standby("b", of=a)
    await session.commit(WRITE, timeout=SOON)
    async with aclosing(await b.session()) as on_b:
        receiver = await on_b.read("select pid from pg_stat_wal_receiver", timeout=SOON)
    os.kill(receiver[0]["pid"], signal.SIGSTOP)
    try:
        told: list[tuple[int, float | None]] = []
        for _ in range(4):
            await session.commit(WRITE, timeout=SOON)
            (seen,) = await standbys.streaming(session)
            told.append((seen.behind, seen.flush_lag_s))
    finally:
        os.kill(receiver[0]["pid"], signal.SIGCONT)
    told = told[1:]  # its last answer may have been on the way until then
    assert 0 < told[0][0] < told[1][0] < told[2][0]
    assert len({seconds for _, seconds in told}) == 1


async def test_commits_wait_for_every_standby_that_is_named(a: Node, nodes: Nodes, session: Session) -> None:
    await nodes.standby("b", of=a)
    await standbys.begin_waiting(a, ["b"])
    await session.commit(WRITE, timeout=SOON)
    await standbys.begin_waiting(a, ["b", "c"])
    with pytest.raises(CommitUnknown):
        await session.commit(WRITE, timeout=0.5)  # b has it, c does not exist


async def test_a_standby_that_has_the_position_lacks_no_commit_that_returned_before_waiting_began(
    a: Node, nodes: Nodes, session: Session
) -> None:
    b = await nodes.standby("b", of=a)
    acknowledged: list[int] = []
    stop = asyncio.Event()

    async def write() -> None:
        async with aclosing(await a.session()) as writer:
            while not stop.is_set():
                acknowledged.append((await writer.commit(WRITE, timeout=SOON))[0][0])

    writing = asyncio.create_task(write())
    position = await standbys.begin_waiting(a, ["b"])
    await standbys.wait_flushed(session, "b", position, deadline=SOON)
    await a.kill()
    stop.set()
    with pytest.raises((CommitUnknown, OSError)):
        await writing
    await b.promote()
    async with aclosing(await b.session()) as after:
        rows = await after.read("select id from t", timeout=SOON)
    assert set(acknowledged) <= {row["id"] for row in rows}


async def test_a_flush_position_that_does_not_come_is_an_error_in_time(a: Node, session: Session) -> None:
    with pytest.raises(Exception, match=r"b did not flush 7FFFFFFF/0 within 0\.1 s"):
        await standbys.wait_flushed(session, "b", 0x7FFFFFFF << 32, deadline=0.1)


async def test_names_that_are_new_come_first_so_that_every_older_place_changes() -> None:
    assert standbys.new_first(("a", "b"), ("b", "c", "a")) == ("c", "a", "b")
    assert standbys.new_first((), ("b",)) == ("b",)
    assert standbys.new_first(("a", "b"), ("b",)) == ("a", "b")


# -- rule 3: waiting begins later than it seems


async def test_names_are_shown_while_commits_still_return_unwaited(
    a: Node, session: Session, witness: Session
) -> None:
    """[M] The checkpointer switches waiting on; while it is stopped, SHOW says otherwise."""
    pids = await witness.read(
        "select pid from pg_stat_activity where backend_type = 'checkpointer'", timeout=SOON
    )
    os.kill(pids[0]["pid"], signal.SIGSTOP)
    try:
        await a.wait_for(("nobody",))
        assert await standbys.waited_for(session) == ("nobody",)
        await session.commit(WRITE, timeout=SOON)  # returns, though nobody has it
    finally:
        os.kill(pids[0]["pid"], signal.SIGCONT)


async def test_waiting_is_not_said_to_have_begun_while_the_checkpointer_has_not_switched_it_on(
    a: Node, session: Session, witness: Session
) -> None:
    pids = await witness.read(
        "select pid from pg_stat_activity where backend_type = 'checkpointer'", timeout=SOON
    )
    os.kill(pids[0]["pid"], signal.SIGSTOP)
    try:
        begun = asyncio.create_task(standbys.begin_waiting(a, ["nobody"], deadline=SOON))

        async def checkpoint_requested() -> bool:
            asked = "select 1 from pg_stat_activity where wait_event = 'CheckpointStart'"
            return bool(await witness.read(asked, timeout=SOON))

        await until(checkpoint_requested, "no checkpoint was requested", deadline=SOON)
        assert not begun.done()
    finally:
        os.kill(pids[0]["pid"], signal.SIGCONT)
    await begun
    with pytest.raises(CommitUnknown):
        await session.commit(WRITE, timeout=0.3)


async def test_waiting_has_begun_only_when_every_walsender_knows_the_new_names(
    a: Node, nodes: Nodes, session: Session
) -> None:
    """A walsender that has not read the longer list would let commits go that the new standby lacks."""
    await nodes.standby("b", of=a)
    await standbys.begin_waiting(a, ["b"])
    (walsender,) = await standbys.streaming(session)
    os.kill(walsender.pid, signal.SIGSTOP)
    try:
        begun = asyncio.create_task(standbys.begin_waiting(a, ["b", "c"], deadline=SOON))

        async def all_is_told() -> bool:
            return await standbys.waited_for(session) == ("c", "b")

        await until(all_is_told, "the names did not change", deadline=SOON)
        done, _ = await asyncio.wait({begun}, timeout=0.3)
        assert not done
    finally:
        os.kill(walsender.pid, signal.SIGCONT)
    await begun


# -- rules 5 and 6: a wait that was cut short


async def test_a_walsender_that_missed_that_another_left_is_not_taken_for_one_that_knows_the_new_names(
    a: Node, nodes: Nodes, session: Session
) -> None:
    """Its place in the list from before that is the one that it has in the new list."""
    await nodes.standby("b", of=a)
    await a.wait_for(("gone", "b"))

    async def has_second_place() -> bool:
        return [s.place for s in await standbys.streaming(session)] == [2]

    await until(has_second_place, "the walsender did not read the names", deadline=SOON)
    (walsender,) = await standbys.streaming(session)
    os.kill(walsender.pid, signal.SIGSTOP)
    try:
        await a.wait_for(("b",))
        with pytest.raises(NodeError, match="commits do not wait for c"):
            await standbys.begin_waiting(a, ["c"], deadline=1.0)
        assert await standbys.waited_for(session) == ("b",)
    finally:
        os.kill(walsender.pid, signal.SIGCONT)
    await standbys.begin_waiting(a, ["c"], deadline=SOON)
    assert await standbys.waited_for(session) == ("c", "b")


async def test_a_commit_whose_wait_was_cancelled_returns_as_if_done_and_is_visible(
    a: Node, session: Session, witness: Session, raw: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """[M] Only a warning tells; the row is on no standby, yet everybody here sees it."""
    await standbys.begin_waiting(a, ["nobody"])
    heard: list[str] = []
    raw.add_log_listener(lambda _, message: heard.append(message.message))
    pid = raw.get_server_pid()
    commit = asyncio.create_task(raw.fetch(WRITE))
    await until_it_waits(witness, pid)
    await witness.read("select pg_cancel_backend($1)", pid, timeout=SOON)
    assert len(await commit) == 1
    assert ["canceling wait for synchronous replication" in text for text in heard] == [True]
    assert await count(witness) == 1


async def test_a_commit_whose_wait_was_cancelled_is_unknown(
    a: Node, session: Session, witness: Session
) -> None:
    commit, pid = await commit_when_waiting_began(a, session, witness)
    await witness.read("select pg_cancel_backend($1)", pid, timeout=SOON)
    with pytest.raises(CommitUnknown, match="canceling wait for synchronous replication"):
        await commit


async def test_a_commit_whose_backend_was_terminated_while_it_waited_is_unknown(
    a: Node, session: Session, witness: Session
) -> None:
    commit, pid = await commit_when_waiting_began(a, session, witness)
    await witness.read("select pg_terminate_backend($1)", pid, timeout=SOON)
    with pytest.raises(CommitUnknown):
        await commit
    assert await count(witness) == 1  # and still it is there


@pytest.mark.filterwarnings("ignore:.*is being released to the pool:asyncpg.InterfaceWarning")
async def test_a_pool_of_asyncpg_forgets_its_listeners_from_the_second_acquire_on(
    a: Node, witness: Session
) -> None:
    """[M] Therefore sessions are no pool."""
    heard: list[str] = []

    async def listen(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        connection.add_log_listener(lambda _, message: heard.append(message.message))

    pool = await asyncpg.create_pool(
        host=str(a.settings.socket_dir),
        port=a.settings.port,
        user="hotsite_agent",
        database="postgres",
        min_size=1,
        max_size=1,
        init=listen,
    )
    async with pool:
        for _ in range(2):
            async with pool.acquire() as connection:
                await connection.execute("do $$ begin raise warning 'loud'; end $$")
    assert heard == ["loud"]


async def test_a_cancelled_task_of_asyncpg_ends_the_wait_of_its_commit(
    a: Node, witness: Session, raw: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """[M] It sends a CancelRequest: the row becomes visible though nobody has it."""
    await standbys.begin_waiting(a, ["nobody"])
    commit = asyncio.create_task(raw.fetch(WRITE))
    await until_one_waits(witness)
    assert await count(witness) == 0
    commit.cancel()
    await asyncio.wait({commit})

    async def visible() -> bool:
        return await count(witness) == 1

    await until(visible, "the wait was not ended", deadline=SOON)


async def test_a_cancelled_caller_of_ours_leaves_the_commit_waiting(
    a: Node, session: Session, witness: Session
) -> None:
    commit, _ = await commit_when_waiting_began(a, session, witness)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    assert session.closed
    await until_one_waits(witness)
    assert await count(witness) == 0


async def test_a_commit_past_its_time_leaves_the_commit_waiting(
    a: Node, session: Session, witness: Session
) -> None:
    await standbys.begin_waiting(a, ["nobody"])
    with pytest.raises(CommitUnknown, match="may be waiting for a standby"):
        await session.commit(WRITE, timeout=0.3)
    await until_one_waits(witness)
    assert await count(witness) == 0


async def test_statement_timeout_does_not_end_the_wait(
    a: Node, witness: Session, raw: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """[M] It counts until the statement is done; the wait comes after."""
    await standbys.begin_waiting(a, ["nobody"])
    await raw.execute("set statement_timeout = '100ms'")
    commit = asyncio.create_task(raw.fetch(WRITE))
    await until_one_waits(witness)
    done, _ = await asyncio.wait({commit}, timeout=0.5)
    assert not done
    await standbys.stop_waiting(a)
    await commit


async def test_a_commit_that_a_crash_cut_off_is_unknown_and_visible_after_the_restart(
    a: Node, session: Session, witness: Session
) -> None:
    """[M] Recovery replays it, and nothing waits for it any more: hence the barrier after every start."""
    commit, _ = await commit_when_waiting_began(a, session, witness)
    await a.kill()
    with pytest.raises(CommitUnknown):
        await commit

    await a.start(Primary(waits_for=("nobody",)), cluster_name="a/2")
    async with aclosing(await a.session()) as after:
        assert await count(after) == 1


# -- rule 7: waiters that are let go


async def test_waiters_let_go_by_clearing_the_names_return_success_without_a_warning(
    a: Node, session: Session, witness: Session
) -> None:
    """[M] So the label of a commit is decided after it, from where the standbys are, not from its success."""
    commit, _ = await commit_when_waiting_began(a, session, witness)
    await standbys.stop_waiting(a)
    await commit  # raises nothing


# -- slots


async def slots(session: Session) -> dict[str, int]:
    """From where on each keeps WAL."""
    rows = await session.read(
        "select slot_name, (restart_lsn - '0/0')::bigint as kept from pg_replication_slots", timeout=SOON
    )
    return {row["slot_name"]: row["kept"] for row in rows}


async def test_a_slot_is_made_once_moved_only_forward_and_dropped(a: Node, session: Session) -> None:
    await standbys.create_slot(session, "b")
    await standbys.create_slot(session, "b")
    [begin] = (await slots(session)).values()
    [row] = await session.read("select (pg_current_wal_flush_lsn() - '0/0')::bigint as end", timeout=SOON)
    await standbys.move_slot(session, "b", row["end"])
    await standbys.move_slot(session, "b", begin)
    assert await slots(session) == {"b": row["end"]}
    await standbys.move_slot(session, "none", begin)
    await standbys.drop_slot(session, "b")
    await standbys.drop_slot(session, "b")
    assert await slots(session) == {}


async def test_a_server_that_starts_as_a_standby_has_no_slots_left(nodes: Nodes) -> None:
    """They would keep its WAL for ever: nobody moves them there."""
    a = await nodes.primary("a")
    async with aclosing(await a.session()) as session:
        await standbys.create_slot(session, "b")
    await a.stop()
    await a.start(Primary(), cluster_name="a/2")
    async with aclosing(await a.session()) as session:
        assert (await slots(session)).keys() == {"b"}
    await a.stop()
    await a.start(Standby(), cluster_name="a/3")
    async with aclosing(await a.session()) as session:
        assert await slots(session) == {}


async def test_one_hung_walreceiver_holds_a_fast_shutdown_no_longer_than_its_timeout(
    a: Node, nodes: Nodes, session: Session
) -> None:
    """[M] The shutdown waits for the walsender until wal_sender_timeout."""
    b = await nodes.standby("b", of=a)
    async with aclosing(await b.session()) as on_b:
        receiver = await on_b.read("select pid from pg_stat_wal_receiver", timeout=SOON)
    os.kill(receiver[0]["pid"], signal.SIGSTOP)
    await session.commit(WRITE, timeout=SOON)
    begin = asyncio.get_running_loop().time()
    await a.stop(deadline=SOON)
    assert 0.5 < asyncio.get_running_loop().time() - begin < 6
