"""The first start of all: a data directory, its roles and schema, and then all first records by one transaction.

A crash before that transaction leaves nothing behind: the reservation in etcd dies with our lease, and a marker
beside the data directory says that it may never have been part of a cluster. Whether it was is told by etcd alone:
the marker counts only while the data directory's system identifier is not the cluster's. It is removed before
anybody is let in (`OwnPostgres.forget_marker`). A transaction of unknown outcome is barred before the next try throws
the data directory away: the reservation is written anew, and the transaction names the revision of its own.

Nothing is made or reserved while another configured node has data: then it is etcd that has lost its records, and a
reservation would stand in the way of bringing them back (`sitectl cluster adopt`). And nothing is
thrown away that is no first start's: whoever decided on one may have been wrong. The marker names the system identifier
of what was made, as soon as it is known.

On a slow machine the lease may be lost, and the reservation with it, before all is made. What this agent has made is
kept then, while it runs, and the next try only reserves anew and writes the records: else a machine that takes longer
for the whole than it keeps a lease would begin again for ever.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import structlog

from replication.directory import write_durably
from replication.session import Session
from sitecontrol.agent.own_postgres import MADE_WITHIN, OwnPostgres
from sitecontrol.agent.row import WRITE_WITHIN, apply_schema
from sitecontrol.clock import Clock
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.settings import Secrets

log = structlog.get_logger()

LOGINS = ("replication", "rewind", "migrate", "dispatch", "monitor")
ROLES = resources.files("sitecontrol.sql").joinpath("roles.sql").read_text()


def quoted(text: str) -> str:
    """A string literal; a NUL cannot stand in one."""
    if "\0" in text:
        raise ValueError("a password may not contain a NUL character")
    return "'" + text.replace("'", "''") + "'"


class HasData(RuntimeError):
    """The data directory holds what a first start did not make."""


class Bootstrapper:
    def __init__(
        self,
        *,
        postgres: OwnPostgres,
        writer: Callable[[Facts], Writer],
        write: Callable[[Transaction], Awaitable[int]],
        secrets: Secrets,
        marker: Path,
        others_with_data: Callable[[], Awaitable[str | None]],
        clock: Clock,
    ) -> None:
        self._postgres = postgres
        self._writer = writer
        self._write = write
        self._secrets = secrets
        self._marker = marker
        self._others_with_data = others_with_data
        self._clock = clock
        # The identity of what we made, whole; nothing of it is in etcd yet, as far as we know.
        self._made: tuple[str, str] | None = None

    async def run(self, facts: Facts) -> None:
        """Raises HasData, with nothing written or touched, when that would throw data away."""
        if (why := await self._postgres.worth_keeping()) is not None:
            raise HasData(
                f"the data directory has data, and {why}: nothing was touched. If it is this cluster's, etcd has lost"
                " its records: bring these back. If nobody needs it, move it away; or correct replication.data_dir"
            )
        if found := await self._others_with_data():
            raise RuntimeError(
                f"{found} has data already: etcd has lost its records, or this is the wrong etcd"
            )
        reserved_at = await self._write(self._writer(facts).begin_bootstrap())
        if not await self._runs_as_made():
            self._made = None
            self._made = await self._make()
        system_id, incarnation = self._postgres.identity
        writer = replace(self._writer(facts), incarnation=incarnation)
        await self._write(writer.bootstrap(system_id, self._clock.wall(), reserved_at=reserved_at))
        self._made = None
        log.info("bootstrapped", system_id=system_id)

    async def _runs_as_made(self) -> bool:
        return (
            self._made is not None
            and await self._postgres.at_rest() is None
            and self._postgres.identity == self._made
        )

    async def _make(self) -> tuple[str, str]:
        write_durably(self._marker, "a first start that is not finished\n")
        await self._postgres.create()
        await self._postgres.start_primary((), within=MADE_WITHIN)
        made = self._postgres.identity
        write_durably(self._marker, f"{made[0]}\n")
        await self._create_roles()
        return made

    async def _create_roles(self) -> None:
        session = await self._postgres.connect("bootstrap", database="postgres")
        try:
            for statement in filter(None, (part.strip() for part in ROLES.split(";"))):
                await session.commit(statement, timeout=WRITE_WITHIN)
            for login in LOGINS:
                password = quoted(self._secrets.get(f"postgres-{login}"))
                await session.commit(f"alter role hotsite_{login} password {password}", timeout=WRITE_WITHIN)
            await session.commit("create database hotsite", timeout=MADE_WITHIN)
        finally:
            await session.aclose()
        await self._create_schemas(await self._postgres.connect("bootstrap"))

    async def _create_schemas(self, session: Session) -> None:
        try:
            await session.commit(
                "create schema if not exists hotsite authorization hotsite_migrate", timeout=WRITE_WITHIN
            )
            await apply_schema(session)
        finally:
            await session.aclose()
