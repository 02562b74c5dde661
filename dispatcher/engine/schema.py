"""Whether the schema `hotsite` is there, as the queue's own calls find out.

A cluster opens with an empty schema, and dispatchers may be started before `python -m dispatcher migrate` has filled
it. Until one call has worked, what the database says of missing rights, schemas and functions is no error but a
reason not to be ready; afterwards it is an error like any other.
"""

from typing import Final

import asyncpg
import structlog

log = structlog.get_logger()

NOT_THERE: Final = frozenset(
    {
        "42501",  # insufficient_privilege: the schema is made, and our rights in it are not
        "3F000",  # invalid_schema_name
        "42883",  # undefined_function
    }
)


class SchemaSeen:
    def __init__(self) -> None:
        self._worked = False
        self._complaint: str | None = None

    @property
    def reason(self) -> str | None:
        """Why it is not ready yet, for people; None when it is, or when nobody has asked."""
        if self._complaint is None:
            return None
        cure = "`python -m dispatcher migrate` brings it up to date"
        return f"The schema is not in place yet ({self._complaint}): {cure}."

    def works(self) -> None:
        """A call has come back."""
        self._worked = True
        self._complaint = None

    def is_awaited(self, error: asyncpg.PostgresError) -> bool:
        """Whether `error` only says that the schema is not there yet; told once."""
        if self._worked or error.sqlstate not in NOT_THERE:
            return False
        if self._complaint is None:
            log.info("schema_awaited", sqlstate=error.sqlstate, said=str(error))
        self._complaint = str(error)
        return True
