"""`sitectl node reclone / rejoin / remove` against two real agents with real PostgreSQL and etcd."""

from pathlib import Path
from typing import Any

import pytest

from sitecontrol.cli.session import Exit
from tests.agents import Pair, Site
from tests.integration.test_agent_slots import slot_of, until_slots
from tests.integration.test_sitectl import sitectl


@pytest.fixture
def config(pair: Pair) -> Path:
    return pair.columbus.config


async def incarnation(site: Site) -> Any:
    return (await site.status())["postgres"]["incarnation"]


async def test_a_standby_is_recloned_by_its_typed_name_and_comes_back_into_step(pair: Pair, config: Path):
    leader, standby, term = await pair.leads()
    number, _ = await pair.write_at(leader, term)
    before = await incarnation(standby)
    dry = await sitectl("node", "reclone", standby.node, "--dry-run", "--json", config=config)
    assert dry.code == Exit.DONE, dry.err
    assert (dry.document["would"], dry.document["obstacles"]) == ("reclone", [])
    refused = await sitectl("node", "reclone", standby.node, config=config, typed="yes\n")
    assert refused.code == Exit.REFUSED
    assert "not confirmed" in refused.err
    assert await incarnation(standby) == before

    said = await sitectl(
        "node", "reclone", standby.node, "--reason", "bit rot", config=config, typed=f"{standby.node}\n"
    )
    assert said.code == Exit.DONE, said.err
    phases = [line.split("(")[0].strip() for line in said.out.splitlines() if line.startswith("  ")]
    assert phases == ["cloning", "cloned", "following", "in step"]
    assert await incarnation(standby) != before
    assert await standby.has(number)
    await pair.until_two_site()
    log = (await sitectl("audit", "--json", config=config)).document
    assert log["flaws"] == []
    assert [e["reason"] for e in log["audit"] if e["what"] == "reclone asked for"][-1] == "bit rot"


async def test_the_leader_is_not_recloned_nor_is_a_node_in_step_tried_again(pair: Pair, config: Path):
    leader, standby, _ = await pair.leads()
    before = await incarnation(leader)
    for words, why in (
        (("reclone", leader.node, "--yes"), "leads: move production away first"),
        (("rejoin", standby.node), "there is nothing to try again"),
        (("remove", standby.node, "--yes"), "its agent lives"),
    ):
        said = await sitectl("node", *words, "--json", config=config)
        assert said.code == Exit.REFUSED
        assert why in said.err
        assert why in said.document["detail"]
    assert await incarnation(leader) == before
    assert (await sitectl("node", "reclone", "boston-a", config=config)).code == Exit.USAGE


async def test_a_node_that_is_gone_for_good_is_removed_with_its_slot_and_counts_again_when_it_returns(
    pair: Pair, config: Path
):
    leader, standby, _ = await pair.leads()
    await until_slots(pair, leader, f"{slot_of(standby)} reserved")
    await standby.end()

    async def unheard() -> bool:
        members = (await leader.ask("/cluster"))[1]["members"]
        return standby.node not in {m["node"] for m in members}

    await pair.until(unheard, "the lease of the node that is gone has run out")
    said = await sitectl("node", "remove", standby.node, "--yes", "--json", config=config)
    assert said.code == Exit.DONE, said.err
    assert [p["phase"] for p in said.document["phases"]] == ["noted", "out of step", "slot dropped"]
    await until_slots(pair, leader, "")
    cluster = (await leader.ask("/cluster"))[1]
    assert (cluster["retired"], cluster["sync"]) == ([standby.node], [])

    standby.start()
    await pair.until_two_site()
    await until_slots(pair, leader, f"{slot_of(standby)} reserved")

    async def counts_again() -> bool:
        kept = (await pair.read_keys())["desired"]
        return not kept.get("retired")

    await pair.until(counts_again, "it is not gone for good any more")
