"""Two real nodes in each of two sites, on real PostgreSQL and a real etcd: as `tests.agents`, with four agents.

The fixture `four` (function): all in step before the test begins, with columbus-a as the leader; after it everything is
healed, and every row that was acknowledged must be on whoever leads then.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.agents import LEASE_TTL, SECRETS, SETTINGS, SITES, WITNESS, Pair
from tests.etcd import run_cluster
from tests.ports import free_ports
from tests.postgres import short_folder, tools, unprivileged_user
from tests.sites import TOKEN, Site

NODES = ("columbus-a", "columbus-b", "denver-a", "denver-b")
LOOPBACK = "127.0.0.1"
PLACE = """
[[place]]
name = "{site}"
preferred = {preferred}
etcd_member = "{site}"
nodes = [{nodes}]
"""


@dataclass
class NodeOfSite(Site):
    of: str = ""

    @property
    def node(self) -> str:
        return self.of


@dataclass
class Four(Pair):
    nodes: dict[str, Site] = field(default_factory=dict)

    @property
    def sites(self) -> tuple[Site, ...]:  # type: ignore[override] # all that `Pair` asks of it is to be gone through
        return tuple(self.nodes.values())

    def other(self, site: Site) -> Site:
        return next(one for one in self.sites if one.name != site.name)

    async def _whole(self) -> bool:
        told = [await site.status() for site in self.sites]
        if len({(status["leader"], status["term"]) for status in told}) != 1:
            return False
        if any(not status["ready"] or status["swap"] for status in told):
            return False
        leader = self.nodes.get(told[0]["leader"])
        keys = await self.read_keys()
        members = [value for key, value in keys.items() if key.startswith("members/")]
        if leader is None or len(members) != len(NODES) or not all(m["ready"] for m in members):
            return False
        if {s["node"] for s in keys["sync"].get("standbys", ())} != set(NODES) - {leader.node}:
            return False
        return bool(await leader.select("select durability = 'two-site' and is_open from control.state()"))

    async def in_step(self) -> set[str]:
        return {s["node"] for s in (await self.read_keys())["sync"].get("standbys", ())}


def render_four(folder: Path, cluster: str, endpoints: list[str]) -> dict[str, Site]:
    """The settings, secrets and folders of the four."""
    secrets = folder / "secrets"
    secrets.mkdir()
    for name in SECRETS:
        (secrets / f"postgres-{name}").write_text(name)
    (secrets / "operator-token").write_text(TOKEN)
    free = iter(free_ports(2 * len(NODES)))
    ports = {node: (next(free), next(free)) for node in NODES}
    places = "".join(
        PLACE.format(
            site=site,
            preferred=str(site == SITES[0]).lower(),
            nodes=", ".join(
                f'{{ name = "{node}", postgres = "{LOOPBACK}:{postgres}", agent = "http://{LOOPBACK}:{agent}" }}'
                for node, (agent, postgres) in ports.items()
                if node.startswith(site)
            ),
        )
        for site in SITES
    )
    return {node: _node(folder, node, ports[node], cluster, endpoints, places) for node in NODES}


def _node(
    folder: Path, node: str, ports: tuple[int, int], cluster: str, endpoints: list[str], places: str
) -> Site:
    home, site, user = folder / node, node.rpartition("-")[0], unprivileged_user()
    home.mkdir()
    config = folder / f"{node}.toml"
    values = {
        "site": site,
        "node": node,
        "cluster": cluster,
        "home": home,
        "data": home / "data",
        "folder": folder,
        "endpoints": json.dumps(endpoints),
        "address": LOOPBACK,
        "agent": ports[0],
        "postgres": ports[1],
        "bin_dir": tools().folder,
        "run_as": f'run_as = "{user}"' if user else "",
        "lease_ttl": LEASE_TTL,
        "failover": "",
        "parameters": "",
    }
    config.write_text(SETTINGS.format(**values) + places + WITNESS)
    return NodeOfSite(
        name=site,
        of=node,
        folder=home,
        data=home / "data",
        config=config,
        agent_port=ports[0],
        postgres_port=ports[1],
    )


@pytest.fixture(scope="module")
def four_agents() -> Iterator[Four]:
    cluster = f"f-{os.getpid()}"
    members = [*SITES, "witness"]
    with short_folder("hotsite-f-") as folder, run_cluster(members) as etcd:
        nodes = render_four(folder, cluster, list(etcd.urls))
        made = Four(
            etcd=etcd,
            prefix=f"/hotsite/{cluster}/",
            columbus=nodes["columbus-a"],
            denver=nodes["denver-a"],
            nodes=nodes,
        )
        try:
            yield made
        finally:
            asyncio.run(made.end())


@pytest.fixture
async def four(four_agents: Four) -> AsyncIterator[Four]:
    await four_agents.heal()
    await four_agents.prepare()
    yield four_agents
    await four_agents.heal()
    assert await four_agents.lost() == set()
