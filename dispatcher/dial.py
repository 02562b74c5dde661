"""Connections to real nodes: a `PostgresStore` on a `Session` of its own, as the role `hotsite_dispatch`."""

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from dispatcher.metrics import Metrics
from dispatcher.model import Group, NewMessage, Verdict
from dispatcher.postgres_store import PostgresStore
from dispatcher.store import Store
from dispatcher.warm import Connection, Dial
from replication.session import Session, Target
from sitecontrol.settings import Secrets, Settings, SettingsError
from sitecontrol.settings_types import Name

ROLE = "hotsite_dispatch"
DATABASE = "hotsite"
CONNECT_WITHIN_S = 3.0  # several round trips, also over a slow line
CLOCKS_APART_S = 10.0  # at most, a dispatcher's and its leader's


class CountingStore(PostgresStore):
    """Counts the groups that it acknowledged."""

    def __init__(self, session: Session, metrics: Metrics, *, stored_within_s: float) -> None:
        super().__init__(session, stored_within_s=stored_within_s)
        self._metrics = metrics

    async def accept(self, term: int, rows: Sequence[NewMessage]) -> Group:
        group = await super().accept(term, rows)
        self._metrics.group("accept", len(rows))
        self._metrics.accepted += sum(row.verdict is Verdict.NEW for row in group.rows)
        return group


class PostgresConnection:
    """Implements `warm.Connection`."""

    def __init__(self, session: Session, metrics: Metrics, *, stored_within_s: float) -> None:
        self._session = session
        self._store = CountingStore(session, metrics, stored_within_s=stored_within_s)

    @property
    def store(self) -> Store:
        return self._store

    @property
    def closed(self) -> bool:
        return self._session.closed

    def terminate(self) -> None:
        self._session.terminate()

    async def aclose(self) -> None:
        await self._session.aclose()


def connector(
    settings: Settings, secrets: Secrets, application_name: str, *, database: str = DATABASE
) -> Callable[[Name], Awaitable[Session]]:
    """What makes a plain session with a node. Raises SettingsError when the password is missing."""
    password = secrets.get("postgres-dispatch")

    async def connect(name: Name) -> Session:
        node = settings.node(name)
        if node is None:
            raise SettingsError(f"no node {name!r} in the settings")
        address = urlsplit(f"//{node.postgres}")
        target = Target(
            host=address.hostname or "",
            port=address.port or 5432,
            user=ROLE,
            password=password,
            database=database,
            application_name=application_name,
        )
        return await Session.connect(target, timeout=CONNECT_WITHIN_S)

    return connect


def dialler(
    settings: Settings,
    secrets: Secrets,
    application_name: str,
    metrics: Metrics,
    *,
    database: str = DATABASE,
) -> Dial:
    """A `Dial` for the nodes of the settings. Raises SettingsError when the password is missing."""
    connect = connector(settings, secrets, application_name, database=database)
    # A line of a bulk request waits for room, and then for its commit, each for as long as a request is held.
    stored_within_s = 2 * settings.dispatcher.hold_for + CLOCKS_APART_S

    async def dial(name: Name) -> Connection:
        session = await connect(name)
        try:
            await PostgresStore(session).warm_up()
        except BaseException:  # also a stop in that moment: nobody else knows of this connection
            session.terminate()
            raise
        return PostgresConnection(session, metrics, stored_within_s=stored_within_s)

    return dial
