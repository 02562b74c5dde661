"""A session that is dialled while there is time, for the moment in which everybody waits.

Connecting costs PostgreSQL a process and three round trips: as much as a promotion, or the opening after it, has to
say. So a standby's agent keeps one session ready for both.
"""

from collections.abc import Awaitable, Callable

import asyncpg
import structlog

from replication.errors import ReplicationError
from replication.session import Session

log = structlog.get_logger()


class Spare:
    def __init__(self, dial: Callable[[], Awaitable[Session]]) -> None:
        self._dial = dial
        self._session: Session | None = None

    async def prepare(self) -> None:
        """Have one ready. That it cannot be had is no failure: whoever needs one dials it then."""
        if self.session is None:
            try:
                self._session = await self._dial()
            except (ReplicationError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                log.debug("no_spare_session", error=str(error))

    @property
    def session(self) -> Session | None:
        """The session that stands ready, which stays here."""
        if self._session is not None and self._session.closed:
            self._session = None
        return self._session

    def take(self) -> Session | None:
        """The session that stands ready, the caller's to close from now on."""
        taken, self._session = self.session, None
        return taken
