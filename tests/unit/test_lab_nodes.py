"""A lab with two nodes in each site: their ports, doors, folders and settings; with one, all is as it was."""

import tomllib
from pathlib import Path

import pytest

from sitecontrol.lab.installation import HOMES, Installation
from sitecontrol.lab.layout import LabDir
from sitecontrol.lab.plan import Kind, Lab, LabOptions, Plan
from sitecontrol.lab.ports import MAX_CARRIERS, MAX_DISPATCHERS, SITES, SPAN
from sitecontrol.lab.render import place_settings
from sitecontrol.settings import Settings


def plan(folder: Path, **options: int) -> Plan:
    installation = Installation(
        etcd=Path("/usr/bin/etcd"),
        etcd_from_wheel=False,
        postgres_bin=Path("/usr/bin"),
        run_as=None,
        postgres_root=folder / "postgres",
    )
    lab = Lab(id="one", options=LabOptions.model_validate(options), installation=installation)
    return Plan(lab, LabDir.at(folder))


def test_with_one_node_every_port_is_where_it_was(tmp_path: Path) -> None:
    one, two = plan(tmp_path), plan(tmp_path, nodes_per_site=2)
    assert [(n.name, n.key, n.agent, n.postgres) for n in one.all_nodes] == [
        ("columbus-a", "columbus", 7100, 7102),
        ("denver-a", "denver", 7110, 7112),
    ]
    assert [(n.name, n.key, n.agent, n.postgres) for n in two.all_nodes if n not in one.all_nodes] == [
        ("columbus-b", "columbus-b", 7196, 7197),
        ("denver-b", "denver-b", 7198, 7199),
    ]
    assert max(one.listening) < 7196
    assert {n.key for n in two.all_nodes} == set(HOMES)


def test_the_largest_lab_fits_into_its_hundred_ports(tmp_path: Path) -> None:
    largest = plan(tmp_path, nodes_per_site=2, dispatchers=MAX_DISPATCHERS, simulators=MAX_CARRIERS)
    listening = list(largest.listening)
    assert len(listening) == len(set(listening))
    assert set(listening) <= set(range(7100, 7100 + SPAN))
    doors = {route.door for route in largest.routes}
    assert len(doors) == len(largest.routes)
    assert not doors & {port for n in largest.all_nodes for port in (n.agent, n.postgres)}


@pytest.mark.parametrize("key", HOMES)
def test_each_nodes_settings_name_it_and_reach_every_node(key: str, tmp_path: Path) -> None:
    both = plan(tmp_path, nodes_per_site=2)
    (node,) = [n for n in both.all_nodes if n.key == key]
    settings = Settings.model_validate(tomllib.loads(place_settings(both, node.site, node)))
    assert (settings.site.name, settings.site.node) == (node.site, node.name)
    assert settings.replication is not None
    assert settings.replication.listen == f"127.0.0.1:{node.postgres}"
    assert settings.replication.data_dir == tmp_path / "postgres" / key / "data"
    known = {n.name: n.postgres for p in settings.place for n in p.nodes}
    assert set(known) == {n.name for n in both.all_nodes}
    ways = {n.name: int(known[n.name].rpartition(":")[2]) for n in both.all_nodes}
    behind = {route.door: route.target_port for route in both.routes}
    assert {name: behind.get(port, port) for name, port in ways.items()} == {
        n.name: n.postgres for n in both.all_nodes
    }
    assert all((ways[n.name] in behind) is (n.site != node.site) for n in both.all_nodes)


def test_all_nodes_of_a_lost_place_are_among_its_processes(tmp_path: Path) -> None:
    both = plan(tmp_path, nodes_per_site=2)
    for site in SITES:
        agents = [p.name for p in both.of_place(site) if p.kind is Kind.AGENT]
        assert agents == [f"{site}-agent", f"{site}-b-agent"]
