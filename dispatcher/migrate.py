"""Brings the schema `hotsite` up to date: plain SQL files, numbered, only ever forward.

`sql/migrations/NNNN_name.pre.sql` is run before a new version of the dispatcher is started and must not disturb
the old one; `NNNN_name.post.sql` after the last old one is gone. A run without `post` still applies the `post`
files of earlier numbers than the last `pre` that it has to apply: those are overdue.

Each file is one transaction under one advisory lock, recorded with its checksum in the same transaction, so
that it is applied once, whole, whoever runs it and however often. A file that was changed after it was
applied is refused. The run ends with a commit that is known (failover rule 6), and so are those before it.

Who waits for a lock on a table has everybody who comes after wait behind him. So a file waits for one only a moment; if
it is not to be had, the file is begun anew, whole, a little later.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from importlib import resources
from typing import Any

import asyncpg
import structlog
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random

from dispatcher.store import DispatcherError
from replication.session import Session, SessionLost, Target
from sitecontrol.settings import Secrets, Settings

log = structlog.get_logger()

ROLE = "hotsite_migrate"
DATABASE = "hotsite"
LOCK = 0x686F74  # ours alone in this database; the number says nothing
CONNECT_WITHIN_S = 3.0
KNOWN_WITHIN_S = 10.0
LOCK_TIMEOUT = "500ms"  # longer than calls hold a row while their commit crosses to the other site
# An autovacuum gives way only to somebody who has waited for longer than deadlock_timeout, a second: now and then one
# waits for so long.
LONG_LOCK_TIMEOUT, LONG_EVERY = "1500ms", 10  # tries
LOCKED_OUT = frozenset({"55P03", "40P01"})  # lock_not_available, deadlock_detected
TRIES = 60  # of a file whose locks are taken
AGAIN_AFTER_S = 0.5
_NAME = re.compile(r"(?P<number>\d{4})_(?P<name>\w+)\.(?P<phase>pre|post)\.sql")


class MigrationError(DispatcherError):
    """The schema cannot be brought up to date."""


class Phase(IntEnum):
    PRE = 0  # before the new version starts
    POST = 1  # after the last of the old version has stopped


@dataclass(frozen=True, kw_only=True, order=True)
class Migration:
    number: int
    phase: Phase
    name: str  # of the file
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run did: names of files, in the order of applying."""

    applied: tuple[str, ...]
    already: int
    waiting: tuple[str, ...]  # `post` files for a later run with post=True


def migrations() -> tuple[Migration, ...]:
    """The files that this version comes with, in order."""
    found = []
    for file in (resources.files("dispatcher.sql") / "migrations").iterdir():
        match = _NAME.fullmatch(file.name)
        if match is None:
            continue
        found.append(
            Migration(
                number=int(match["number"]),
                phase=Phase[match["phase"].upper()],
                name=file.name,
                sql=file.read_text(encoding="utf-8"),
            )
        )
    return tuple(sorted(found))


def plan(
    known: Iterable[Migration], applied: Mapping[str, str], *, post: bool
) -> tuple[tuple[Migration, ...], tuple[Migration, ...]]:
    """What to apply now, and which `post` files wait. `applied`: file name → checksum, as recorded.

    Raises MigrationError when a file was changed after it was applied.
    """
    pending: list[Migration] = []
    for migration in sorted(known):
        checksum = applied.get(migration.name)
        if checksum is None:
            pending.append(migration)
        elif checksum != migration.checksum:
            raise MigrationError(
                f"{migration.name} was changed after it was applied: put the old text back,"
                f" and write the change as a new migration with the next number"
            )
    last_pre = max((m.number for m in pending if m.phase is Phase.PRE), default=0)
    now = tuple(m for m in pending if post or m.phase is Phase.PRE or m.number < last_pre)
    return now, tuple(m for m in pending if m not in now)


async def migrate(settings: Settings, secrets: Secrets, *, post: bool = False) -> Report:
    """Find the leader among the nodes of the settings and bring its schema up to date."""
    return await apply(await leader(settings, secrets), post=post)


async def leader(settings: Settings, secrets: Secrets) -> Target:
    """The node that takes writes, as `hotsite_migrate`. Raises MigrationError that names what was tried."""
    password = secrets.get("postgres-migrate")
    tried = []
    for node in (node for place in settings.place for node in place.nodes):
        host, _, port = node.postgres.rpartition(":")
        target = Target(
            host=host.strip("[]"),
            port=int(port),
            user=ROLE,
            password=password,
            database=DATABASE,
            application_name="hotsite-migrate",
        )
        try:
            session = await Session.connect(target, timeout=CONNECT_WITHIN_S)
        except (SessionLost, asyncpg.PostgresError) as error:
            tried.append(f"{node.name}: {error}")
            continue
        try:
            # A standby, and a server that is not opened yet, take no writes.
            [row] = await session.read("select is_open from control.state()", timeout=CONNECT_WITHIN_S)
        except (OSError, asyncpg.PostgresError) as error:
            tried.append(f"{node.name}: {error}")
            continue
        finally:
            await session.aclose()
        if row["is_open"]:
            return target
        tried.append(f"{node.name}: not the leader")
    raise MigrationError("no leader to migrate: " + "; ".join(tried))


@asynccontextmanager
async def at_leader(settings: Settings, secrets: Secrets) -> AsyncIterator[Session]:
    """A session, as `hotsite_migrate`, at whichever node leads. Raises MigrationError that names what was tried."""
    session = await Session.connect(await leader(settings, secrets), timeout=CONNECT_WITHIN_S)
    try:
        yield session
    finally:
        await session.aclose()


async def apply(target: Target, *, post: bool = False, known: Sequence[Migration] | None = None) -> Report:
    """Bring the schema at `target` up to date. Raises MigrationError, CommitUnknown (run it again)."""
    known = migrations() if known is None else known
    connection = await asyncpg.connect(
        host=target.host,
        port=target.port,
        user=target.user,
        password=target.password or "",
        database=target.database,
        server_settings={"application_name": target.application_name},
    )
    try:
        applied: list[str] = []
        while True:
            step = await _apply_patiently(connection, known, post=post)
            if step is None:
                break
            log.info("migration_applied", name=step)
            applied.append(step)
        _, waiting = plan(known, await _applied(connection), post=post)
    finally:
        await connection.close()
    await _make_known(target)
    return Report(
        applied=tuple(applied),
        already=len(known) - len(applied) - len(waiting),
        waiting=tuple(m.name for m in waiting),
    )


async def _apply_patiently(connection: Any, known: Sequence[Migration], *, post: bool) -> str | None:
    """`_apply_next`, again and again while somebody else has a table that it needs."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(_is_locked_out),
        stop=stop_after_attempt(TRIES),
        wait=wait_random(AGAIN_AFTER_S / 2, AGAIN_AFTER_S),
        reraise=True,
    ):
        with attempt:
            long = attempt.retry_state.attempt_number % LONG_EVERY == 0
            lock_timeout = LONG_LOCK_TIMEOUT if long else LOCK_TIMEOUT
            return await _apply_next(connection, known, post=post, lock_timeout=lock_timeout)
    raise AssertionError  # `reraise` leaves no way to here


def _is_locked_out(error: BaseException) -> bool:
    cause = error.__cause__ if isinstance(error, MigrationError) else error
    return isinstance(cause, asyncpg.PostgresError) and cause.sqlstate in LOCKED_OUT


async def _apply_next(
    connection: Any, known: Sequence[Migration], *, post: bool, lock_timeout: str
) -> str | None:
    """Apply the first pending file, if there is one, and return its name."""
    async with connection.transaction():
        await connection.execute("set local lock_timeout = '10s'")  # another run may take its time
        await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
        await connection.execute(f"set local lock_timeout = '{lock_timeout}'")
        if not await connection.fetchval("select to_regnamespace('hotsite') is not null"):
            raise MigrationError(
                f"database {DATABASE} has no schema hotsite: the site agent makes it when it first opens a cluster"
            )
        await connection.execute(
            "create table if not exists hotsite.migration ("
            " name text primary key, checksum text not null, applied_at timestamptz not null default now())"
        )
        now, _ = plan(known, await _applied(connection), post=post)
        if not now:
            return None
        migration = now[0]
        try:
            await connection.execute(migration.sql)
        except asyncpg.PostgresError as error:
            raise MigrationError(f"{migration.name} failed and changed nothing: {error}") from error
        await connection.execute(
            "insert into hotsite.migration (name, checksum) values ($1, $2)",
            migration.name,
            migration.checksum,
        )
        return migration.name


async def _applied(connection: Any) -> dict[str, str]:
    rows = await connection.fetch("select name, checksum from hotsite.migration")
    return {row["name"]: row["checksum"] for row in rows}


async def _make_known(target: Target) -> None:
    """A commit that is known to be everywhere, and with it all that were made before it."""
    session = await Session.connect(target, timeout=CONNECT_WITHIN_S)
    try:
        await session.commit("select pg_logical_emit_message(true, 'hotsite', '')", timeout=KNOWN_WITHIN_S)
    finally:
        await session.aclose()
