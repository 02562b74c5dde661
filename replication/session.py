"""A connection whose commits are *known*, or said to be unknown. The only place that decides which.

A synchronous commit that waits for a standby can be let go before the standby has it: its wait is cancelled,
its connection dies, the server crashes. The row is then visible on the leader and may be nowhere else. What
the client sees of it differs, and most drivers and pools hide it. The rules here, each with a test:

* A cancelled wait returns **success with a warning**. So a log listener hangs on the connection for its
  whole life (asyncpg's pools drop listeners when a connection is given back: there is no pool here), the
  server is told `client_min_messages = warning`, and *any* warning during a commit makes it unknown.
* A driver's time-out or a cancelled task sends a CancelRequest, which ends that very wait. So no statement
  gets a driver time-out and none runs in its caller's task: past its time the connection is cut, and the
  server is left to wait.
* A server that says FATAL (shutdown, crash of another backend) may say it after the commit record was
  written. Only an ERROR is a definite "no"; and not even that if it says that a query was cancelled.
* A connection that is known to be closed before anything was sent raises `SessionLost`.
* A cancelled caller gets its `CancelledError`, as every asyncio task must (else a loop that retries could not
  be stopped). It counts as unknown, and the session is cut.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import asyncpg

from replication import known_types
from replication.errors import CommitUnknown, ReplicationError, SessionLost

__all__ = ["CommitUnknown", "Session", "SessionLost", "Target"]

T = TypeVar("T")

QUERY_CANCELED = "57014"
LOUD_ENOUGH = frozenset({"debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning"})
WAITS_FOR_STANDBYS = frozenset({"on", "remote_apply"})
CLOSE_WITHIN_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where and as whom to connect. A host that starts with a slash is the folder of a unix socket."""

    host: str
    port: int
    user: str
    password: str | None = field(default=None, repr=False)
    database: str = "postgres"
    application_name: str = "hotsite"


class Session:
    """One connection, one statement at a time, each in a transaction of its own (autocommit)."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._one_at_a_time = asyncio.Lock()
        self._warning: str | None = None
        connection.add_log_listener(self._hear)

    @classmethod
    async def connect(cls, target: Target, *, timeout: float) -> Self:
        """Connect, and make sure that a cancelled wait would be heard of. `timeout` in seconds.

        Raises SessionLost (cannot be reached in time) or asyncpg.PostgresError (refused: password, no such
        database, starting up).
        """
        try:
            async with asyncio.timeout(timeout):
                connection = await asyncpg.connect(
                    host=target.host,
                    port=target.port,
                    user=target.user,
                    password=target.password or "",
                    database=target.database,
                    timeout=timeout,
                    connection_class=known_types.Connection,
                    server_settings={
                        "application_name": target.application_name,
                        "client_min_messages": "warning",
                        "synchronous_commit": "on",
                    },
                )
                session = cls(connection)
                try:
                    await session._make_sure()
                except BaseException:
                    session.terminate()
                    raise
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as error:
            reason = str(error) or f"no answer within {timeout} s"
            raise SessionLost(f"{target.host}:{target.port} cannot be reached: {reason}") from error
        return session

    @property
    def closed(self) -> bool:
        """Whether the connection is gone, as far as this end knows."""
        return self._connection.is_closed()

    async def commit(self, sql: str, *args: object, timeout: float) -> list[asyncpg.Record]:
        """Run one statement that writes; return its rows once the commit is known to be where it must be.

        Raises CommitUnknown; asyncpg.PostgresError (asyncpg.InterfaceError for arguments that do not fit)
        when it has definitely changed nothing; SessionLost when the connection was gone before. `timeout`, in
        seconds, includes the wait for an earlier statement of this session; when it ends in the middle of
        ours, the session is cut.
        """
        try:
            rows = await self._run(sql, args, timeout)
        except TimeoutError as error:
            raise CommitUnknown(
                f"no answer within {timeout} s: the commit may be waiting for a standby"
            ) from error
        except SessionLost:
            raise
        except Exception as error:
            if self._changed_nothing(error):
                raise
            self.terminate()
            raise CommitUnknown(f"the connection broke during the commit: {error}") from error
        if self._warning is not None:
            raise CommitUnknown(f"the server warned: {self._warning}")
        return rows

    async def read(self, sql: str, *args: object, timeout: float) -> list[asyncpg.Record]:
        """Run one statement that only reads; return its rows.

        Raises asyncpg.PostgresError, SessionLost, or TimeoutError after which the session is cut.
        """
        try:
            return await self._run(sql, args, timeout)
        except asyncpg.InternalClientError as error:
            # A server that says FATAL in the middle of an exchange can confuse the driver's own states.
            self.terminate()
            raise SessionLost(f"the driver lost its place: {error}") from error
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
            if self.closed and not isinstance(error, TimeoutError | SessionLost):
                raise SessionLost(str(error)) from error
            raise

    async def aclose(self) -> None:
        """Close politely; cut when a statement is still under way or the server does not answer."""
        if self._one_at_a_time.locked():
            self.terminate()
        try:
            await self._connection.close(timeout=CLOSE_WITHIN_S)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.terminate()

    def terminate(self) -> None:
        """Cut the connection now. A commit that is under way becomes unknown; none is cancelled by this."""
        self._connection.terminate()

    async def _run(self, sql: str, args: tuple[object, ...], timeout: float) -> list[asyncpg.Record]:
        """Run one statement in a task of its own, so that neither time nor its caller can cancel it."""
        async with asyncio.timeout(timeout) as bound:
            await self._one_at_a_time.acquire()
        try:
            if self.closed:
                raise SessionLost
            self._warning = None
            statement = asyncio.ensure_future(self._connection.fetch(sql, *args))
            statement.add_done_callback(_forget)
            remaining = (bound.when() or 0.0) - asyncio.get_running_loop().time()
            try:
                await asyncio.wait({statement}, timeout=max(remaining, 0.0))
            finally:
                if not statement.done():
                    self.terminate()
            if not statement.done():
                raise TimeoutError
            return statement.result()
        finally:
            self._one_at_a_time.release()

    def _changed_nothing(self, error: Exception) -> bool:
        """Whether `error` proves that the statement had no effect."""
        if isinstance(error, asyncpg.PostgresConnectionError):
            return False  # asyncpg's own word for a connection that broke
        if isinstance(error, asyncpg.PostgresError):
            # No severity: asyncpg refused an argument and sent nothing.
            severity = error.severity_en or error.severity
            return severity in {None, "ERROR"} and error.sqlstate != QUERY_CANCELED
        # "expects 2 arguments, 1 given", and the like.
        return isinstance(error, asyncpg.InterfaceError) and not self.closed

    async def _make_sure(self) -> None:
        row = await self._connection.fetchrow(
            "select current_setting('client_min_messages') as loudness,"
            " current_setting('synchronous_commit') as waiting"
        )
        if row is None or row["loudness"] not in LOUD_ENOUGH or row["waiting"] not in WAITS_FOR_STANDBYS:
            raise ReplicationError(
                f"this session would not hear of cancelled commits: {row}; do not override"
                " client_min_messages and synchronous_commit in between"
            )

    def _hear(self, _: object, message: Any) -> None:
        # Called before the statement's result is handed over: the event loop keeps the order of call_soon.
        if (message.severity_en or message.severity) == "WARNING":
            self._warning = f"{message.message} {message.detail or ''}".strip()


def _forget(statement: "asyncio.Future[list[asyncpg.Record]]") -> None:
    """Take the outcome of a statement: its caller may be cancelled, even as it is done, and then nobody else does."""
    if not statement.cancelled():
        statement.exception()
