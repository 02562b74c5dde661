"""The agent's own writes in PostgreSQL: the row that lets dispatchers in, and what it tells (rules 5, 7 and 8)."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources

from replication.session import Session

OPENING = "opening"  # what `connect` is told: a session may stand ready for it
BARRIER_WITHIN = 10.0  # seconds; a barrier waits for every standby in step
WRITE_WITHIN = 10.0
CHECKPOINT_WITHIN = 120.0

BARRIER = "select pg_logical_emit_message(true, 'hotsite', 'barrier')"
# None of the writes to the row waits for a standby: a commit that waits keeps its row locked, even after its client
# has gone, and a standby that vanished at that moment could never be taken out of step. What they say is about
# this very start of this very server, so nothing is lost with them.
LOCAL = "with local as materialized (select set_config('synchronous_commit', 'local', true))"
OPEN = f"""
{LOCAL}
insert into control.leadership (term, node, boot, remote_in_step, opened_at)
select $1, $2, split_part(current_setting('cluster_name'), '/', 2), '{{}}', clock_timestamp() from local
on conflict (only_row) do update
    set term = excluded.term, node = excluded.node, boot = excluded.boot,
        remote_in_step = excluded.remote_in_step, opened_at = excluded.opened_at
"""
HIDE_REMOTE = f"""
{LOCAL}
update control.leadership
set remote_in_step = array(select unnest(remote_in_step) except select unnest($1::text[]))
from local
"""
SHOW_REMOTE = f"{LOCAL} update control.leadership set remote_in_step = $1::text[] from local"

CONTROL = resources.files("sitecontrol.sql").joinpath("control.sql").read_text()
FINGERPRINT = hashlib.sha256(CONTROL.encode()).hexdigest()


class Row:
    """`connect` opens a superuser session to our own PostgreSQL, in the database `hotsite`."""

    def __init__(self, connect: Callable[[str], Awaitable[Session]]) -> None:
        self._connect = connect

    async def open(self, term: int, node: str) -> None:
        """Let dispatchers in: first the barrier (everything older is where it must be), then the row."""
        session = await self._connect(OPENING)
        try:
            await self._keep_schema(session)
            await session.commit(BARRIER, timeout=BARRIER_WITHIN)
            await session.commit(OPEN, term, node, timeout=WRITE_WITHIN)
        finally:
            session.terminate()

    async def barrier(self) -> None:
        """Returns when every standby in step has confirmed a commit."""
        await self._once("barrier", BARRIER, within=BARRIER_WITHIN)

    async def show_remote(self, nodes: Sequence[str]) -> None:
        """Commits wait for these standbys of other sites, and they hold everything older."""
        await self._once("step", SHOW_REMOTE, list(nodes))

    async def hide_remote(self, nodes: Sequence[str]) -> None:
        """Before the waiting for these ends: nothing that commits from now on is shown as being there."""
        await self._once("step", HIDE_REMOTE, list(nodes))

    async def checkpoint(self, *, within: float = CHECKPOINT_WITHIN) -> None:
        session = await self._connect("checkpoint")
        try:
            await session.read("checkpoint", timeout=within)
        finally:
            session.terminate()

    async def _once(self, purpose: str, sql: str, *args: object, within: float = WRITE_WITHIN) -> None:
        session = await self._connect(purpose)
        try:
            await session.commit(sql, *args, timeout=within)
        finally:
            await session.aclose()

    async def _keep_schema(self, session: Session) -> None:
        """A newer version of this program brings its functions along with the first opening."""
        found = await session.read(
            "select obj_description('control'::regnamespace) as fingerprint", timeout=WRITE_WITHIN
        )
        if found[0]["fingerprint"] != FINGERPRINT:
            await apply_schema(session)


async def apply_schema(session: Session) -> None:
    """(Re-)create schema `control`; every statement of it can be repeated."""
    for statement in statements(CONTROL):
        await session.commit(statement, timeout=WRITE_WITHIN)
    await session.commit(f"comment on schema control is '{FINGERPRINT}'", timeout=WRITE_WITHIN)


def statements(script: str) -> list[str]:
    """The statements of a script of ours: they end with a semicolon at the end of a line, outside `$$`."""
    found: list[str] = []
    current: list[str] = []
    quoted = False
    for line in script.splitlines():
        if not current and (not line.strip() or line.lstrip().startswith("--")):
            continue
        current.append(line)
        quoted ^= line.count("$$") % 2 == 1
        if not quoted and line.rstrip().endswith(";"):
            found.append("\n".join(current))
            current = []
    return found
