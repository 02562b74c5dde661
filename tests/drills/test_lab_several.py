"""A lab with two nodes in each site: it comes up, tells of all of them, and the drills that are made for it hold."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sitecontrol.drills.stories import DRILLS
from tests.drills.conftest import FOR_A_BUSY_MACHINE
from tests.drills.rehearsal import everything_holds
from tests.labs import running_lab, sitectl

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900), pytest.mark.long]
NODES = {"columbus-a", "columbus-b", "denver-a", "denver-b"}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("lab") / "lab"
    settings = folder.with_name("lab.toml")
    settings.write_text(FOR_A_BUSY_MACHINE.replace("[lab]", "[lab]\nnodes_per_site = 2"))
    with running_lab(folder, "--config", str(settings)):
        yield folder


def test_every_node_is_told_of_and_those_that_would_lead_are_named_in_order(several: Path) -> None:
    lab = json.loads(sitectl("lab", "status", "--json", folder=several).stdout)
    told = [node for site in ("columbus", "denver") for node in lab["sites"][site]["nodes"]]
    assert {node["name"] for node in told} == NODES
    assert all(node["postgres"]["pid"] and node["agent"]["pid"] for node in told)
    cluster = json.loads(sitectl("status", "--json", folder=several).stdout)
    assert {member["node"] for member in cluster["members"]} == NODES
    why = json.loads(sitectl("why", "--json", folder=several).stdout)
    assert why["leader_lost"]["would_lead"][0].startswith(cluster["live_site"])
    assert why["leader_lost"]["would_lead"][0] != cluster["leader"]


@pytest.mark.parametrize("name", ["swap", "site-loss"])
def test_everything_holds_in_a_drill_with_two_nodes_in_each_site(
    name: str, several: Path, tmp_path: Path
) -> None:
    everything_holds(name, several, tmp_path)


def test_a_drill_whose_story_is_that_of_single_nodes_is_refused_with_those_that_are_not(
    several: Path,
) -> None:
    done = sitectl("drill", "run", "agent-hang", folder=several)
    assert done.returncode == 3
    able = [name for name, drill in DRILLS.items() if drill.several_nodes]
    assert ", ".join(able) in done.stderr
