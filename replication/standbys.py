"""Who follows a primary, how far each has come, and whom its commits wait for.

That commits wait *begins later than it seems*. `synchronous_standby_names` is read at once by every backend,
and `pg_stat_replication` calls the standby `sync`, while commits still return unwaited: the checkpointer
switches waiting on, when it comes to it, and not in the middle of an immediate checkpoint. Each walsender, too,
reads the names by itself, and one that has not yet done so lets commits go by the old ones. `begin_waiting`
returns when both have happened:

* a commit of ours was seen waiting (`wait_event = SyncRep`), or a CHECKPOINT was requested, on a connection
  opened after the reload was complete, and is done: the checkpointer reads its configuration before it begins;
* every walsender shows the place in the list that the new names give it. Names that are new come first: thus
  the place of every older name changes whenever the list grows, and cannot be mistaken for its old one. That holds
  for a walsender that has read the list as it was: this is looked at before anything is added.

Names are only added here. Whoever is waited for already may be on the way into step by a write that nobody knows of
yet: only `Node.wait_for` takes names away, once it was written that they are out of step.

Every commit that returned unwaited lies before the position that `begin_waiting` returns: a standby that has
flushed up to there, and is waited for since, lacks no commit that anybody was told of.
"""

import asyncio
import re
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from replication import lsn
from replication.errors import CommitUnknown, NodeError
from replication.node import Node
from replication.polling import until
from replication.session import Session

STATEMENT_S = 5.0
TRIES = 10  # commits that we try to see waiting before a checkpoint has to prove it


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """A standby as its primary sees it."""

    name: str  # its application_name
    pid: int  # of its walsender
    streaming: bool  # it has caught up once and receives as things happen
    sent: int
    written: int
    flushed: int
    replayed: int
    behind: int  # bytes that the primary has on disk and the standby has not
    # Measured with each answer of the standby: of a silent one they stay as they were. None: nothing to measure by.
    flush_lag_s: float | None
    replay_lag_s: float | None
    place: int  # in synchronous_standby_names as its walsender has read it; 0: not waited for


STANDBYS = """
    select application_name, pid, state, sent_lsn::text, write_lsn::text, flush_lsn::text, replay_lsn::text,
           greatest(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), coalesce(flush_lsn, '0/0')), 0)::bigint as behind,
           extract(epoch from flush_lag)::float8 as flush_lag, extract(epoch from replay_lag)::float8 as replay_lag,
           sync_priority
    from pg_stat_replication
    order by application_name, pid
"""


async def streaming(session: Session, *, timeout: float = STATEMENT_S) -> tuple[Streaming, ...]:
    """Everybody who streams from this primary (a base backup in progress included, under its own name)."""
    return tuple(
        Streaming(
            name=row["application_name"],
            pid=row["pid"],
            streaming=row["state"] == "streaming",
            sent=_position(row["sent_lsn"]),
            written=_position(row["write_lsn"]),
            flushed=_position(row["flush_lsn"]),
            replayed=_position(row["replay_lsn"]),
            behind=row["behind"],
            flush_lag_s=row["flush_lag"],
            replay_lag_s=row["replay_lag"],
            place=row["sync_priority"],
        )
        for row in await session.read(STANDBYS, timeout=timeout)
    )


async def waited_for(session: Session, *, timeout: float = STATEMENT_S) -> tuple[str, ...]:
    """The names that this server has been told to wait for, in order. Not a proof that it does."""
    rows = await session.read("select current_setting('synchronous_standby_names')", timeout=timeout)
    return tuple(name.replace('""', '"') for name in re.findall(r'"((?:[^"]|"")*)"', rows[0][0]))


async def begin_waiting(node: Node, names: Sequence[str], *, deadline: float = 30.0) -> int:
    """Have the commits of `node`, a primary, wait for every standby of `names` too.

    Returns, when waiting has really begun, the position before which all unwaited commits lie. Raises
    NodeError after `deadline` seconds; then it may begin at any moment.
    """
    try:
        async with asyncio.timeout(deadline):
            async with aclosing(await node.session()) as session:
                known = await waited_for(session)
                await until(
                    lambda: _in_their_places(session, known), "walsenders read old names", deadline=deadline
                )
            order = new_first(known, names)
            await node.wait_for(order, deadline=deadline)
            async with aclosing(await node.session()) as session:
                await _prove_that_commits_wait(node, session, deadline)
                await until(
                    lambda: _in_their_places(session, order), "walsenders did not read it", deadline=deadline
                )
                rows = await session.read("select pg_current_wal_insert_lsn()::text", timeout=STATEMENT_S)
                return lsn.parse(rows[0][0])
    except TimeoutError:
        raise NodeError(f"commits do not wait for {', '.join(names)} within {deadline} s") from None


async def stop_waiting(node: Node, *, deadline: float = 5.0) -> None:
    """Have commits wait for nobody. Those that wait now return as if they had been waited for."""
    await node.wait_for((), deadline=deadline)


async def wait_flushed(session: Session, name: str, position: int, *, deadline: float) -> None:
    """Wait until the standby `name` streams and has `position` on disk. Raises NodeError after `deadline`."""

    async def has_flushed() -> bool:
        return any(s.name == name and s.streaming and s.flushed >= position for s in await streaming(session))

    await until(has_flushed, f"{name} did not flush {lsn.show(position)}", deadline=deadline)


async def create_slot(session: Session, name: str, *, timeout: float = STATEMENT_S) -> None:
    """Make sure that WAL is kept from the last checkpoint on, until the slot `name` is moved or dropped."""
    await session.commit(
        "select pg_create_physical_replication_slot($1, true)"
        " where not exists (select from pg_replication_slots where slot_name = $1)",
        name,
        timeout=timeout,
    )


async def move_slot(session: Session, name: str, position: int, *, timeout: float = STATEMENT_S) -> None:
    """What lies before `position` need not be kept any more; a slot that is further, lost or gone stays as it is."""
    await session.read(
        "select pg_replication_slot_advance(slot_name, $2::text::pg_lsn) from pg_replication_slots"
        " where slot_name = $1 and restart_lsn < $2::text::pg_lsn and not active",
        name,
        lsn.show(position),
        timeout=timeout,
    )


async def drop_slot(session: Session, name: str, *, timeout: float = STATEMENT_S) -> None:
    """Keep no WAL for it any more."""
    await session.read(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
        " where slot_name = $1 and not active",
        name,
        timeout=timeout,
    )


def new_first(known: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """All of them, in an order that shows, place by place, who has read it (see above)."""
    return (*(n for n in names if n not in known), *known)


async def _prove_that_commits_wait(node: Node, witness: Session, deadline: float) -> None:
    """`witness` was opened after the reload was complete, as every session from here on."""
    async with aclosing(await node.session()) as session:
        pid = (await session.read("select pg_backend_pid()", timeout=STATEMENT_S))[0][0]
        for _ in range(TRIES):
            if await _seen_waiting(session, pid, witness, deadline):
                return
    await witness.read("checkpoint", timeout=deadline)


async def _seen_waiting(session: Session, pid: int, witness: Session, deadline: float) -> bool:
    commit = asyncio.create_task(
        session.commit("select pg_logical_emit_message(true, 'hotsite', '')", timeout=deadline)
    )
    try:
        while not commit.done():
            if await witness.read(
                "select 1 from pg_stat_activity where pid = $1 and wait_event = 'SyncRep'",
                pid,
                timeout=STATEMENT_S,
            ):
                return True
        commit.result()
        return False
    finally:
        if not commit.done():
            session.terminate()  # it has served its purpose
            with suppress(CommitUnknown):
                await commit


async def _in_their_places(session: Session, names: Sequence[str]) -> bool:
    places = {name: place for place, name in enumerate(names, start=1)}
    return all(s.place == places.get(s.name, 0) for s in await streaming(session))


def _position(text: str | None) -> int:
    return lsn.parse(text) if text is not None else 0
