"""A session of the agent with the model of PostgreSQL: what its statements do, and what a poll tells."""

from datetime import timedelta
from typing import Any

import asyncpg

from replication.errors import SessionLost
from sitecontrol.agent.monitor import CANARY, POLL
from sitecontrol.agent.neighbours import RECEIVED
from sitecontrol.agent.row import BARRIER, FINGERPRINT, HIDE_REMOTE, OPEN, SHOW_REMOTE
from sitecontrol.leadership.slots import slot_of
from tests.simulation.postgres import Database, Server
from tests.simulation.scheduler import EPOCH


class ModelSession:
    """What the agent's code asks of a session, statement by statement."""

    def __init__(self, database: Database, server: Server) -> None:
        self._database = database
        self._server = server
        self.closed = False

    def terminate(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True

    async def read(self, sql: str, *_: object, timeout: float) -> list[dict[str, Any]]:
        database = self._database
        await self._ready(timeout)
        if sql == POLL:
            return [database_poll(database, self._server)]
        if sql == RECEIVED:
            return [{"lsn": len(self._server.disk.wal)}]
        if sql == "checkpoint":
            await database.world.scheduler.wait(database.world.rng.uniform(0.02, 0.4))
            await self._ready(timeout)
            disk = self._server.disk
            disk.control_timeline, disk.checkpoint = disk.timeline, len(disk.wal)
            return []
        assert "fingerprint" in sql
        return [{"fingerprint": FINGERPRINT}]

    async def commit(self, sql: str, *args: Any, timeout: float) -> list[Any]:
        database, server = self._database, self._server
        await self._ready(timeout)
        if sql == BARRIER:
            await database.commit("barrier", None, within=timeout)
        elif sql == CANARY:
            written_at = database.world.scheduler.now
            await database.commit("canary", EPOCH + timedelta(seconds=written_at), within=timeout)
            server.canary_at = written_at
        elif sql == OPEN:
            term, node = args
            await database.commit("row", (term, node, server.boot, ()), within=timeout, local=True)
            server.opened_at = database.world.scheduler.now
        else:
            row = database.last("row")
            if row is None:
                return []
            term, node, boot, remote = row.payload
            if sql == HIDE_REMOTE:
                remote = tuple(n for n in remote if n not in args[0])
            else:
                assert sql == SHOW_REMOTE
                remote = tuple(args[0])
            await database.commit("row", (term, node, boot, remote), within=timeout, local=True)
        return []

    async def _ready(self, timeout: float) -> None:
        """The same server still answers."""
        database = self._database
        await database.world.scheduler.wait(database.world.rng.uniform(0.0005, 0.004))
        if database.hung and not await database.world.scheduler.until(
            lambda: not database.hung, within=timeout, every=0.05
        ):
            self.closed = True
            raise SessionLost("no answer")
        if self.closed or database.server is not self._server:
            self.closed = True
            raise SessionLost("the server is gone")


def database_poll(database: Database, server: Server) -> dict[str, Any]:
    disk, paused, entries = server.disk, server.paused, database.world.entries
    row = database.last("row") if paused is None else paused.row
    canary = disk.latest("canary", entries) if paused is None else paused.canary
    databases = database.world.databases
    standbys = ",".join(
        _standby(databases[machine].node, server.flushed.get(machine, 0))
        for machine in server.senders
        if database.streams_to(machine, server)
    )
    others = (other.node for other in databases.values() if other.machine == other.node != database.node)
    slots = ",".join(_slot(name, len(disk.wal)) for name in others)
    return {
        "in_recovery": server.recovering,
        "row_term": row.payload[0] if row else None,
        "opened_here": row is not None and row.payload[1:3] == (database.node, server.boot),
        "opened_for": database.world.scheduler.now - server.opened_at,
        "remote_in_step": list(row.payload[3]) if row else [],
        "canary_seq": canary,
        "canary_written_at": None if canary is None else entries[canary].payload,
        "names": ",".join(f'"{name}"' for name in server.names),
        "lsn": len(disk.wal) if server.recovering else disk.flushed,
        "inserted": len(disk.wal) + database.unflushed,
        "replayed": len(disk.wal) if paused is None else paused.position,
        "timeline": disk.timeline,
        "control_timeline": disk.control_timeline,
        "upstream": server.upstream,
        "standbys": f"[{standbys}]",
        "slots": f"[{slots}]",
    }


def _standby(name: str, flushed: int) -> str:
    return f'{{"name":"{name}","streaming":true,"flush":{flushed},"replay":{flushed},"flush_lag":0.0,"replay_lag":0.0}}'


def _slot(name: str, lsn: int) -> str:
    return f'{{"name":"{slot_of(name)}","lsn":{lsn},"lost":false}}'


async def connect(database: Database) -> ModelSession:
    world = database.world
    await world.scheduler.wait(world.rng.uniform(0.001, 0.01))
    server = database.server
    if server is None:
        raise SessionLost("nobody listens")
    if world.scheduler.now < server.ready_at or server.closing:
        raise asyncpg.CannotConnectNowError("the database system is starting up")
    if database.hung:
        await world.scheduler.wait(1.0)
        raise SessionLost("no answer")
    return ModelSession(database, server)
