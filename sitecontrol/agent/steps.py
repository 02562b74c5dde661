"""Standbys leave step and come into it, by the order that failover rules 2 and 3 demand."""

from collections.abc import Awaitable, Callable

import structlog

from replication.errors import ReplicationError
from sitecontrol.agent.own_postgres import OwnPostgres
from sitecontrol.agent.row import Row
from sitecontrol.leadership.effects import Join, Leave
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.records import InStep

log = structlog.get_logger()

JOIN_WITHIN = 2.0  # seconds; commits wait for the standby meanwhile, so a slow one is sent away again


class Steps:
    def __init__(
        self,
        postgres: OwnPostgres,
        row: Row,
        writer: Callable[[Facts], Writer],
        write: Callable[[Transaction], Awaitable[int]],
        join_failed: Callable[[str], None],
    ) -> None:
        """`join_failed` is told which standby was waited for in vain."""
        self._postgres = postgres
        self._row = row
        self._writer = writer
        self._write = write
        self._join_failed = join_failed

    async def leave(self, facts: Facts, effect: Leave) -> None:
        """Etcd first; then the row; then the names. `sync` is written even if it says so already, because an
        earlier write of unknown outcome must not be able to put a standby back after its names are cleared.
        """
        staying = tuple(s for s in self._in_sync(facts) if s.node not in effect.nodes)
        names = tuple(s.node for s in staying)
        # With the names go those, too, whom an earlier leave took out of etcd without our hearing of it.
        gone = {*effect.nodes, *facts.pg.names, *facts.pg.remote_in_step}.difference(names)
        await self._write(self._writer(facts).rewrite_sync(staying))
        await self._row.hide_remote(tuple(sorted(gone)))
        await self._postgres.set_names(names)
        log.warning("left_step", nodes=effect.nodes, reason=effect.reason, staying=[s.node for s in staying])

    async def join(self, facts: Facts, effect: Join) -> None:
        """The names first; a position once waiting has really begun; its flush by the standby; only then etcd."""
        member = facts.member(effect.node)
        if member is None or member.record.incarnation is None:
            return
        already = tuple(s for s in self._in_sync(facts) if s.node != effect.node)
        try:
            position = await self._postgres.bring_in(effect.node, within=JOIN_WITHIN)
        except ReplicationError:
            self._join_failed(effect.node)
            raise
        joined = InStep(
            node=effect.node,
            incarnation=member.record.incarnation,
            timeline=facts.pg.timeline,
            lsn=position,
        )
        await self._write(self._writer(facts).rewrite_sync((*already, joined)))
        log.info("came_into_step", node=effect.node, lsn=position)

    def _in_sync(self, facts: Facts) -> tuple[InStep, ...]:
        return facts.sync.standbys if facts.sync else ()
