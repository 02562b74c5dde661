"""Two real site agents on real PostgreSQL and a real etcd of three members, to be killed, hung and brought back.

Fixtures (known everywhere through tests/conftest.py):

* `agents` (module): columbus-a (preferred) and denver-a, `python -m sitecontrol agent`, in a folder of their own.
  Nothing is started yet. A module's LEASE_TTL, if it has one, takes the place of ours; its FAILOVER (lines of TOML) and
  its PARAMETERS (", name = value", PostgreSQL's) are added to the settings; its DATA is where a site's data directory
  is, below its folder; its ETCD_OPTIONS are etcd's, besides ours.
* `pair` (function): the same, both in step before the test begins. After each test everything is healed, and
  **every row that was acknowledged must be on whoever leads then**: `acked-survives`, checked again and again.

Tests do not care which of the two leads: they ask `leads()`, which returns the leader and the other one.

The settings are slower than a real site's, so that a busy machine does not move production by itself.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import asyncpg
import pytest

from replication.errors import ReplicationError
from replication.session import Session
from sitecontrol.etcd.api import EtcdError
from sitecontrol.etcd.client import GrpcEtcd
from tests.etcd import Cluster, run_cluster
from tests.hosts import ALL_HERE, HERE, Host
from tests.ports import free_ports
from tests.postgres import short_folder, tools, unprivileged_user
from tests.sites import TOKEN, Site

WITHIN = 60.0  # seconds, on a machine that does much else
LEASE_TTL = 3
SECRETS = ("replication", "rewind", "migrate", "dispatch", "monitor")
SITES = ("columbus", "denver")
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})

_serial = itertools.count(1)

SETTINGS = """
[site]
name = "{site}"
cluster = "{cluster}"
node = "{node}"
environment = "lab"
state_dir = "{home}/state"
secrets_dir = "{folder}/secrets"

[etcd]
endpoints = {endpoints}

[agent]
listen = "{address}:{agent}"

[replication]
data_dir = "{data}"
listen = "{address}:{postgres}"
socket_dir = "{home}/run"
bin_dir = "{bin_dir}"
{run_as}
wal_room_mb = 16        # some tests give a node a small disk
parameters = {{ shared_buffers = "16MB", max_connections = 50{parameters} }}

[failover]
lease_ttl = {lease_ttl}
canary_max_age = 2.0
restart_within = 20.0   # a PostgreSQL that is killed alone is always started again in place
swap_deadline = 8.0
drain_within = 1.5      # so long does a swap stay in `held`: these dispatchers never say that they are drained
{failover}
"""
PLACE = """
[[place]]
name = "{site}"
preferred = {preferred}
etcd_member = "{site}"
nodes = [{{ name = "{site}-a", postgres = "{address}:{postgres}", agent = "http://{address}:{agent}" }}]
"""

WITNESS = """
[[place]]
name = "witness"
kind = "witness"
etcd_member = "witness"
"""

TABLE = """
create table if not exists public.acknowledged (id bigint primary key, term bigint not null)
"""
# As a dispatcher's functions do it: the database is asked whether it leads in the same transaction as the write.
WRITE = """
with leader as materialized (select control.assert_leader($1))
insert into public.acknowledged (id, term) select $2, $1 from leader
returning pg_current_wal_insert_lsn()::text as before
"""
SILENT = (
    aiohttp.ClientError,
    ReplicationError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    EtcdError,
    OSError,
)


@dataclass
class Pair:
    etcd: Cluster
    prefix: str
    columbus: Site
    denver: Site
    acknowledged: set[int] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def sites(self) -> tuple[Site, Site]:
        return self.columbus, self.denver

    def site(self, name: str) -> Site:
        return next(site for site in self.sites if site.name == name)

    def other(self, site: Site) -> Site:
        return self.denver if site is self.columbus else self.columbus

    # -- waiting

    async def until(self, condition: Callable[[], Awaitable[Any]], what: str, within: float = WITHIN) -> Any:
        """What `condition` returns once it is true; somebody who does not answer is asked again."""
        deadline = time.monotonic() + within
        while True:
            with contextlib.suppress(*SILENT):
                if found := await condition():
                    return found
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within} s: {what}\n{await self._described()}")
            await asyncio.sleep(0.03)  # other processes: there is nothing to wait on

    async def until_rule(self, site: Site, *rules: str) -> None:
        async def holds() -> bool:
            return await site.rule() in rules

        await self.until(holds, f"{site.node} decides {' or '.join(rules)}")

    async def until_leads(self, site: Site, *, above: int = 0) -> int:
        """The term in which `site` is open and live; a later one than `above`."""

        async def leads() -> int:
            status = await site.status()
            return int(status["term"]) if status["live"] and status["term"] > above else 0

        return int(await self.until(leads, f"{site.node} serves in a term after {above}"))

    async def until_two_site(self) -> None:
        await self.until(self._whole, "both sites in step")

    async def _whole(self) -> bool:
        first, second = [await site.status() for site in self.sites]
        leader = next((site for site in self.sites if site.node == first["leader"]), None)
        if leader is None or not (first["ready"] and second["ready"]) or first["swap"] or second["swap"]:
            return False
        if {first["durability"], second["durability"]} != {"two-site"} or first["term"] != second["term"]:
            return False
        # What an agent says of itself stands in etcd a moment later, and a swap is judged by that.
        told = [value for key, value in (await self.read_keys()).items() if key.startswith("members/")]
        if len(told) != len(self.sites) or not all(member["ready"] for member in told):
            return False
        return await leader.select("select durability = 'two-site' and is_open from control.state()")

    async def _described(self) -> str:
        lines = []
        for site in self.sites:
            try:
                lines.append(f"{site.node}: {json.dumps(await site.status())}")
            except SILENT as error:
                lines.append(f"{site.node}: silent ({error!r})")
            log = site.folder / "agent.log"
            lines += log.read_text(errors="replace").splitlines()[-25:] if log.exists() else []
        return "\n".join(lines)

    # -- the whole

    async def heal(self) -> None:
        """Have everything run that does not, and wait until both sites are in step."""
        self.etcd.heal()
        for site in self.sites:
            site.signal_postgres(signal.SIGCONT)
            if site.runs:
                site.resume()
            else:
                site.kill()
                site.start()
        await self.until_two_site()

    async def end(self) -> None:
        for site in self.sites:
            await site.end()

    async def leads(self) -> tuple[Site, Site, int]:
        """The leader, the other site, and the term."""
        answers = await asyncio.gather(*(site.status() for site in self.sites), return_exceptions=True)
        status = next(answer for answer in answers if isinstance(answer, dict))
        leader = next(site for site in self.sites if site.node == status["leader"])
        return leader, self.other(leader), int(status["term"])

    async def prepare(self) -> None:
        """What dispatchers need: a table, and a word of theirs in etcd that each site has one which is ready."""
        leader, _, _ = await self.leads()
        async with leader.superuser() as session:
            await session.commit(TABLE, timeout=20)
            await session.commit(
                "grant select, insert on public.acknowledged to hotsite_dispatch", timeout=20
            )
        for site in SITES:
            record = {"name": f"{site}-1", "site": site, "ready": True, "links": 1, "links_up": 1}
            await self.until(partial(self._tell, f"dispatchers/{site}-1", record), f"{site}-1 is told of")

    async def _tell(self, name: str, record: dict[str, Any]) -> bool:
        """Without a lease it is not believed; this one outlives the test, and nobody prolongs it."""
        async with self.keys() as etcd:
            lease = await etcd.grant(3_600)
            await etcd.put(self.prefix + name, json.dumps(record).encode(), lease=lease)
        return True

    @asynccontextmanager
    async def keys(self) -> AsyncIterator[GrpcEtcd]:
        etcd = self.etcd.client(call_timeout=WITHIN)
        try:
            yield etcd
        finally:
            await etcd.aclose()

    async def read_keys(self) -> dict[str, dict[str, Any]]:
        """Everything in etcd, by the name below our prefix."""
        async with self.keys() as etcd:
            answer = await etcd.get_prefix(self.prefix)
        return {kv.key.removeprefix(self.prefix): json.loads(kv.value) for kv in answer.kvs}

    async def history(self) -> list[dict[str, Any]]:
        return [value for key, value in (await self.read_keys()).items() if key.startswith("history/")]

    # -- writing as a dispatcher

    def number(self) -> int:
        return next(self._numbers)

    async def write(self, session: Session, term: int, *, timeout: float = 20) -> tuple[int, str]:
        """Write a row in `term`, and remember it as acknowledged once it is known; its number and durability."""
        number = self.number()
        rows = await session.commit(WRITE, term, number, timeout=timeout)
        self.acknowledged.add(number)
        label = await session.read(
            "select control.durability($1::text::pg_lsn)", rows[0]["before"], timeout=timeout
        )
        return number, str(label[0][0])

    async def write_at(self, site: Site, term: int) -> tuple[int, str]:
        async with site.dispatcher() as session:
            return await self.write(session, term)

    async def lost(self) -> set[int]:
        """Acknowledged rows that the leader does not have."""
        leader, _, _ = await self.leads()
        async with leader.superuser() as session:
            rows = await session.read("select id from public.acknowledged", timeout=10)
        return self.acknowledged - {row["id"] for row in rows}


@asynccontextmanager
async def steady_writing(pair: Pair, site: Site, term: int) -> AsyncIterator[None]:
    """A dispatcher that writes all the while, over one connection; any failure of a write fails the test."""

    async def write_for_ever() -> None:
        async with site.dispatcher() as session:
            while True:
                await pair.write(session, term)
                await asyncio.sleep(0.05)  # a steady trickle, not a load

    writing = asyncio.create_task(write_for_ever())
    try:
        yield
        assert not writing.done(), writing.exception()
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


def render(
    folder: Path,
    cluster: str,
    endpoints: Sequence[str],
    *,
    lease_ttl: int,
    failover: str = "",
    data: str = "data",
    parameters: str = "",
    hosts: Mapping[str, Host] = ALL_HERE,
) -> tuple[Site, Site]:
    """The settings, secrets and folders of both sites."""
    secrets = folder / "secrets"
    secrets.mkdir()
    for name in SECRETS:
        (secrets / f"postgres-{name}").write_text(name)
    (secrets / "operator-token").write_text(TOKEN)
    ports = _ports()
    user = unprivileged_user()
    places = "".join(
        PLACE.format(
            site=site,
            preferred=str(site == SITES[0]).lower(),
            address=hosts.get(site, HERE).address,
            agent=ports[site][0],
            postgres=ports[site][1],
        )
        for site in SITES
    )
    made = []
    for site in SITES:
        home = folder / site
        home.mkdir()
        config = folder / f"{site}.toml"
        config.write_text(
            SETTINGS.format(
                site=site,
                node=f"{site}-a",
                cluster=cluster,
                home=home,
                data=home / data,
                folder=folder,
                endpoints=json.dumps(list(endpoints)),
                address=hosts.get(site, HERE).address,
                agent=ports[site][0],
                postgres=ports[site][1],
                bin_dir=tools().folder,
                run_as=f'run_as = "{user}"' if user else "",
                lease_ttl=lease_ttl,
                failover=failover,
                parameters=parameters,
            )
            + places
            + WITNESS
        )
        made.append(
            Site(
                name=site,
                folder=home,
                data=home / data,
                config=config,
                agent_port=ports[site][0],
                postgres_port=ports[site][1],
                host=hosts.get(site, HERE),
            )
        )
    return made[0], made[1]


def _ports() -> dict[str, tuple[int, int]]:
    """Each site's port of the agent and of PostgreSQL."""
    first, second, third, fourth = free_ports(4)
    return {SITES[0]: (first, second), SITES[1]: (third, fourth)}


@contextlib.contextmanager
def run_pair(
    hosts: Mapping[str, Host] = ALL_HERE, etcd_options: Mapping[str, str] = NO_OPTIONS, **options: Any
) -> Iterator[Pair]:
    """Both sites and etcd's three members, on these hosts; `options` as for `render`. Only etcd is started."""
    cluster = f"t-{os.getpid()}-{next(_serial)}"
    members = ["columbus", "denver", "witness"]
    with (
        short_folder("hotsite-a-") as folder,
        run_cluster(members, hosts=hosts, options=etcd_options) as etcd,
    ):
        columbus, denver = render(folder, cluster, etcd.urls, hosts=hosts, **options)
        pair = Pair(etcd=etcd, prefix=f"/hotsite/{cluster}/", columbus=columbus, denver=denver)
        try:
            yield pair
        finally:
            asyncio.run(pair.end())


@pytest.fixture(scope="module")
def agents(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with run_pair(
        lease_ttl=getattr(request.module, "LEASE_TTL", LEASE_TTL),
        failover=getattr(request.module, "FAILOVER", ""),
        data=getattr(request.module, "DATA", "data"),
        parameters=getattr(request.module, "PARAMETERS", ""),
        etcd_options=getattr(request.module, "ETCD_OPTIONS", NO_OPTIONS),
    ) as made:
        yield made


@pytest.fixture
async def pair(agents: Pair) -> AsyncIterator[Pair]:
    await agents.heal()
    await agents.prepare()
    yield agents
    await agents.heal()
    assert await agents.lost() == set()
