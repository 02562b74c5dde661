"""Asks around: how far the target of a swap has received, which of etcd's members answer, and which one leads them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import asyncpg
import structlog

from replication.errors import ReplicationError
from replication.session import Session
from sitecontrol.clock import Clock
from sitecontrol.etcd.api import FULL, Etcd, EtcdError
from sitecontrol.leadership.facts import Facts, Peer
from sitecontrol.settings import Node, Settings
from sitecontrol.tls import client_context

log = structlog.get_logger()

ASK_EVERY = 0.02  # seconds, while a swap leaves us
IDLE = 0.1
ETCD_EVERY = 2.0
STATUS_WITHIN = 2.0
RECEIVED = """
select greatest(coalesce(pg_last_wal_receive_lsn(), '0/0'), coalesce(pg_last_wal_replay_lsn(), '0/0'))
       - '0/0'::pg_lsn as lsn
"""


async def statuses(settings: Settings, own: str) -> dict[str, dict[str, Any] | None]:
    """`GET /status` of each other node's agent, asked at once; None: no answer that can be read."""
    others = [n for place in settings.place for n in place.nodes if n.name != own]
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=STATUS_WITHIN),
        connector=aiohttp.TCPConnector(ssl=client_context(settings.security)),
    ) as client:
        told = await asyncio.gather(*(_status(client, other) for other in others))
    return {other.name: status for other, status in zip(others, told, strict=True)}


async def _status(client: aiohttp.ClientSession, node: Node) -> dict[str, Any] | None:
    try:
        async with client.get(f"{node.agent.rstrip('/')}/status") as answer:
            told = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
    known = (
        isinstance(told, dict) and isinstance(told.get("postgres"), dict) and told.get("node") == node.name
    )
    return told if known else None


class Neighbours:
    """`connect` opens a monitoring session to another node's PostgreSQL."""

    def __init__(
        self, settings: Settings, etcd: Etcd, connect: Callable[[str], Awaitable[Session]], clock: Clock
    ) -> None:
        self._settings = settings
        self._etcd = etcd
        self._connect = connect
        self._clock = clock
        self.peers: dict[str, Peer] = {}
        self.etcd_leader_here = False
        self.etcd_leader_target: int | None = None
        self.etcd_members: dict[str, bool] = {}
        self.etcd_leader_place: str | None = None
        self.etcd_full = False

    async def run(self, facts: Callable[[], Facts]) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_target(facts), name="swap-target")
            tasks.create_task(self._watch_etcd(facts), name="etcd-members")

    async def _watch_target(self, facts: Callable[[], Facts]) -> None:
        session: Session | None = None
        asked: str | None = None
        while True:
            seen = facts()
            target = seen.swap.to_node if seen.swap is not None and seen.swap_leaves_us else None
            if target not in seen.site_of:  # anybody who reaches etcd can write a name there
                target = None
            if target is None or target != asked:
                if session is not None:
                    await session.aclose()
                session, asked = None, target
                self.peers = {}
            if target is None:
                await self._clock.sleep(IDLE)
                continue
            try:
                session = session or await self._connect(target)
                rows = await session.read(RECEIVED, timeout=1.0)
                self.peers = {target: Peer(received_lsn=int(rows[0]["lsn"]), asked_at=self._clock.now())}
            except (ReplicationError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                log.debug("swap_target_silent", node=target, error=str(error))
                if session is not None:
                    session.terminate()
                session = None
            await self._clock.sleep(ASK_EVERY)

    async def _watch_etcd(self, facts: Callable[[], Facts]) -> None:
        member_of = {p.etcd_member: p for p in self._settings.place if p.etcd_member}
        while True:
            await self._clock.sleep(ETCD_EVERY)
            if not facts().lead:
                # What was seen in an earlier term must not move anything at the beginning of the next.
                self.etcd_leader_here, self.etcd_leader_target = False, None
            try:
                members = await self._etcd.members()
            except EtcdError as error:
                log.debug("etcd_members_unknown", error=str(error))
                self.etcd_members, self.etcd_leader_place = {}, None
                continue
            leader = next((m for m in members if m.leader_id == m.member_id), None)
            self._tell_whether_full(any(m.full for m in members))
            answering = {m.name for m in members}
            self.etcd_members = {place.name: name in answering for name, place in member_of.items()}
            self.etcd_leader_place = (
                member_of[leader.name].name if leader is not None and leader.name in member_of else None
            )
            if not facts().lead:
                continue
            here = self._settings.here.etcd_member
            self.etcd_leader_here = leader is not None and leader.name == here
            elsewhere = [m for m in members if m.name in member_of and m.name != here]
            # A place without production comes first: the witness.
            elsewhere.sort(key=lambda m: bool(member_of[m.name].nodes))
            self.etcd_leader_target = elsewhere[0].member_id if elsewhere else None

    def _tell_whether_full(self, full: bool) -> None:  # noqa: FBT001 # a fact, not a switch
        if full != self.etcd_full:
            log.log(logging.ERROR if full else logging.INFO, "etcd_full", full=full, why=FULL if full else "")
        self.etcd_full = full
