"""The driver's connection, which asks about PostgreSQL's own types once, and not on every connection.

asyncpg knows few array types by itself. For others (`uuid[]`, `integer[]`) each new connection runs a recursive query
over the catalogue, between two that switch the JIT off and on: three round trips, and several times what connecting
costs the server. A dispatcher's connections are dialled in the middle of a failover, when nobody has that to spare.

The types numbered below `FIRST_ASSIGNED_LATER` are PostgreSQL's own, with the same numbers in every database of every
version (the manual, "System Catalog Initial Data: OID Assignment"), so that the first answer holds for all. What this
relies on in the driver is one method without a promise (`_introspect_types`); should it go, every connection asks
again, and a test says so.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import asyncpg

FIRST_ASSIGNED_LATER = 10_000


if TYPE_CHECKING:
    Base = asyncpg.Connection[asyncpg.Record]  # generic in the stubs alone
else:
    Base = asyncpg.Connection


class Connection(Base):
    _known: ClassVar[dict[frozenset[int], Any]] = {}

    async def _introspect_types(self, typeoids: Iterable[int], timeout: float | None) -> Any:
        asked = frozenset(typeoids)
        if (answer := self._known.get(asked)) is None:
            answer = await super()._introspect_types(typeoids, timeout)  # type: ignore[misc]
            if all(number < FIRST_ASSIGNED_LATER for number in asked):
                self._known[asked] = answer
        return answer
