"""`sitectl node reclone / rejoin / trust / remove`, `failover --force` and `cluster adopt` against two real agents with
real PostgreSQL and etcd.
"""

import os
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sitecontrol.cli.session import Exit
from sitecontrol.leadership.steps import pause_before_join
from tests.agents import Pair
from tests.integration.test_agent_slots import slot_of, until_slots
from tests.integration.test_sitectl import sitectl
from tests.sites import Site

FAILURES = 4  # after which the leader has a node wait for eight seconds


@pytest.fixture
def config(pair: Pair) -> Path:
    return pair.columbus.config


async def incarnation(site: Site) -> Any:
    return (await site.status())["postgres"]["incarnation"]


def failed_joins(leader: Site) -> list[dict[str, Any]]:
    return [event for event in leader.events("effect_failed") if event["effect"] == "Join"]


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
        (
            ("trust", standby.node, "--yes"),
            "`sync` is believed, and tells who holds every acknowledged message",
        ),
        (("remove", standby.node, "--yes"), "its agent lives"),
    ):
        said = await sitectl("node", *words, "--json", config=config)
        assert said.code == Exit.REFUSED
        assert why in said.err
        assert why in said.document["detail"]
    assert await incarnation(leader) == before
    assert (await sitectl("node", "reclone", "boston-a", config=config)).code == Exit.USAGE


@pytest.mark.long
async def test_a_node_that_the_leader_has_wait_is_brought_into_step_at_once(pair: Pair, config: Path):
    """The leader's checkpointer hangs, so its commits would never wait for the node: each try fails, and the next one
    is later.
    """
    leader, standby, _ = await pair.leads()
    await standby.end()

    async def waited_for_no_more() -> bool:
        return (await leader.status())["postgres"]["names"] == []

    await pair.until(waited_for_no_more, f"{standby.node} left step")
    async with leader.superuser() as session:
        await session.read("checkpoint", timeout=20)  # so the checkpointer has switched waiting off
    checkpointer = await leader.pid_of("checkpointer")
    os.kill(checkpointer, signal.SIGSTOP)
    try:
        before = len(failed_joins(leader))
        standby.start()

        async def waits() -> bool:
            return len(failed_joins(leader)) >= before + FAILURES

        await pair.until(waits, f"{standby.node} failed to come into step {FAILURES} times")
    finally:
        os.kill(checkpointer, signal.SIGCONT)

    async def has_it_wait() -> bool:
        return (await leader.status())["decisions"]["step"]["rule"] == "join-later"

    await pair.until(has_it_wait, f"{leader.node} has {standby.node} wait")
    said = await sitectl("node", "rejoin", standby.node, "--reason", "mended", "--json", config=config)
    assert said.code == Exit.DONE, said.err
    assert [p["phase"] for p in said.document["phases"]] == ["trying", "following", "in step"]
    came, failed = leader.events("came_into_step")[-1], failed_joins(leader)[before + FAILURES - 1]
    waited = datetime.fromisoformat(came["timestamp"]) - datetime.fromisoformat(failed["timestamp"])
    assert waited.total_seconds() < pause_before_join(FAILURES)
    log = (await sitectl("audit", "--json", config=config)).document["audit"]
    assert [e["reason"] for e in log if e["what"] == "rejoin asked for"] == ["mended"]


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


@pytest.mark.long
async def test_a_node_that_is_trusted_takes_the_lead_when_nobody_knows_any_more_who_holds_everything(
    pair: Pair, config: Path
):
    leader, standby, term = await pair.leads()
    number, label = await pair.write_at(leader, term)
    assert label == "two-site"
    await leader.end()
    async with pair.keys() as etcd:
        await etcd.put(f"{pair.prefix}sync", b"\x00garbage")
    await pair.until_rule(standby, "in-step-unknown")
    why = await sitectl("why", "--json", config=config)
    assert "sitectl node trust" in " ".join(why.document["site_lost"]["in_the_way"])
    dry = await sitectl("node", "trust", standby.node, "--dry-run", config=config)
    assert dry.code == Exit.DONE, dry.err
    assert f"{leader.node} is not heard: acknowledged messages that it alone has are lost" in dry.out
    refused = await sitectl("node", "trust", standby.node, config=config, typed="yes\n")
    assert (refused.code, await standby.rule()) == (Exit.REFUSED, "in-step-unknown")

    words = ("node", "trust", standby.node, "--reason", "it burnt down")
    said = await sitectl(*words, config=config, typed=f"{standby.node}\n")
    assert said.code == Exit.DONE, said.err
    assert [line.split("(")[0].strip() for line in said.out.splitlines() if line.startswith("  ")] == [
        "trusted",
        "leads",
    ]
    await pair.until_leads(standby, above=term)
    assert await standby.has(number)
    history = (await sitectl("history", "--json", config=config)).document
    assert [(e["node"], e["reason"]) for e in history if e["kind"] == "forced"] == [
        (standby.node, "it burnt down")
    ]
    leader.start()
    await pair.until_two_site()
    log = (await sitectl("audit", "--json", config=config)).document
    assert log["flaws"] == []
    assert "node trusted" in [e["what"] for e in log["audit"]]


@pytest.mark.long
async def test_the_lead_is_forced_on_a_node_that_lacks_a_message_when_the_only_complete_one_is_gone(
    pair: Pair, config: Path
):
    leader, standby, term = await pair.leads()
    number, _ = await pair.write_at(leader, term)
    await standby.end()

    async def waited_for_no_more() -> bool:
        return (await leader.status())["postgres"]["names"] == []

    await pair.until(waited_for_no_more, f"{standby.node} left step")
    lacked, label = await pair.write_at(leader, term)
    assert label == "one-site"
    words = ("failover", "--force", "--to", standby.node, "--reason", "a fire")
    await leader.end()
    standby.start()
    await pair.until_rule(standby, "barred")
    dry = await sitectl(*words, "--dry-run", "--json", config=config)
    assert dry.code == Exit.DONE, dry.err
    assert dry.document["unproved"] == [leader.node]
    assert f"{leader.node} held everything: what they acknowledged" in " ".join(dry.document["consequences"])
    unsaid = await sitectl(*words, "--yes", config=config)
    assert (unsaid.code, await standby.rule()) == (Exit.REFUSED, "barred")

    pair.acknowledged.discard(lacked)  # a person gives it up
    said = await sitectl(
        *words, config=config, typed=f"{leader.node} is stopped\n{pair.prefix.split('/')[2]}\n"
    )
    assert said.code == Exit.DONE, said.err
    await pair.until_leads(standby, above=term)
    assert await standby.has(number)
    assert not await standby.has(lacked)
    history = (await sitectl("history", "--json", config=config)).document
    [forced] = [e for e in history if e["kind"] == "forced" and e["reason"] == "a fire"]
    assert forced["evidence"][f"stopped {leader.node}"].startswith("it is stopped, by the word of")
    leader.start()
    await pair.until_two_site()
    log = (await sitectl("audit", "--json", config=config)).document
    assert log["flaws"] == []
    assert "lead forced" in [e["what"] for e in log["audit"]]


async def test_records_that_etcd_has_lost_are_made_anew_from_what_the_nodes_know(pair: Pair, config: Path):
    leader, _, term = await pair.leads()
    number, _ = await pair.write_at(leader, term)
    again = await sitectl("cluster", "adopt", "--reason", "x", "--yes", config=config)
    assert (again.code, "there is nothing to adopt" in again.err) == (Exit.REFUSED, True)
    async with pair.keys() as etcd:
        for key in ("initialize", "term", "sync", "leader"):
            await etcd.delete(f"{pair.prefix}{key}")
    await pair.until_rule(leader, "data-without-records")
    words = ("cluster", "adopt", "--reason", "etcd was made anew")
    dry = await sitectl(*words, "--dry-run", config=config)
    assert dry.code == Exit.DONE, dry.err
    assert f"{leader.node} serves, and goes on in term {term}" in dry.out
    refused = await sitectl(*words, config=config, typed="yes\n")
    assert (refused.code, await leader.rule()) == (Exit.REFUSED, "data-without-records")
    said = await sitectl(*words, config=config, typed=f"{pair.prefix.split('/')[2]}\n")
    assert said.code == Exit.DONE, said.err
    assert said.out.splitlines()[-1] == f"{leader.node} leads."
    assert await leader.has(number)
    await pair.until_two_site()
    log = (await sitectl("audit", "--json", config=config)).document
    assert "cluster adopted" in [e["what"] for e in log["audit"]]


async def test_an_empty_node_makes_nothing_beside_one_with_data_when_etcd_was_made_anew(
    pair: Pair, config: Path
):
    """Whichever is preferred or comes first: who has nothing asks the others before it makes a first data directory."""
    leader, standby, term = await pair.leads()
    await standby.end()
    standby.wipe()

    async def alone() -> bool:
        return not (await pair.read_keys())["sync"]["standbys"]

    await pair.until(alone, "the lost node has left step")
    number, _ = await pair.write_at(leader, term)
    async with pair.keys() as etcd:

        async def nothing_is_left() -> bool:
            """A leader that still leads makes anew what is gone beside its own key."""
            left = [key for key in await pair.read_keys() if not key.startswith(("members/", "dispatchers/"))]
            for key in left:
                await etcd.delete(f"{pair.prefix}{key}")
            return not left

        await pair.until(nothing_is_left, "etcd has lost its records")
        await pair.until_rule(leader, "data-without-records")
        await pair.until(nothing_is_left, "nobody has made one anew meanwhile")
    standby.start()

    async def refused() -> bool:
        why = f"{leader.node} has data already"
        return any(why in event["error"] for event in standby.events("effect_failed"))

    await pair.until(refused, "the empty node tells why it begins nothing")
    assert not standby.data.exists()
    assert "term" not in await pair.read_keys()
    assert any("cluster adopt" in reason for reason in (await leader.status())["reasons"])
    said = await sitectl(
        "cluster", "adopt", "--reason", "anew", config=config, typed=f"{pair.prefix.split('/')[2]}\n"
    )
    assert said.code == Exit.DONE, said.err
    await pair.until_two_site()
    assert (await pair.leads())[0] is leader
    assert await standby.has(number)
    assert not standby.events("bootstrapped")
