"""The death of who was just given the lead, before it opens: it bars nobody who is complete (failover rule 4)."""

import os
import signal

import pytest

from sitecontrol.records import Phase
from tests.agents import Pair
from tests.sites import Site

pytestmark = pytest.mark.long

LEASE_TTL = 6  # the target's lease has to live on through a swap in which its agent hangs


async def written(pair: Pair, site: Site, term: int) -> set[int]:
    """Rows that were acknowledged by `site`, each by both sites."""
    async with site.dispatcher() as session:
        told = [await pair.write(session, term) for _ in range(20)]
    assert {durability for _, durability in told} == {"two-site"}
    return {number for number, _ in told}


async def has_all(site: Site, rows: set[int]) -> bool:
    found = await site.select("select array_agg(id) from public.acknowledged")
    return rows <= set(found)


@pytest.mark.parametrize("promoted", [False, True], ids=["in recovery", "promoted"])
async def test_the_old_leader_leads_again_when_the_target_of_a_swap_dies_between_hand_over_and_opening(
    pair: Pair, *, promoted: bool
):
    home, away, term = await pair.leads()
    rows = await written(pair, home, term)
    status, answer = await home.swap(away)
    assert status == 202, answer

    async def reached(phase: Phase) -> bool:
        return (await pair.read_keys())["swap"]["phase"] == phase

    await pair.until(lambda: reached(Phase.HELD), "requests are held")
    away.hang()  # so that it cannot open before it dies
    await pair.until(lambda: reached(Phase.HANDED), "the lead is handed over")
    handed = await pair.read_keys()
    assert (handed["leader"]["node"], handed["term"]["term"]) == (away.node, term + 1)
    if promoted:
        await away.select("select pg_promote()")
    await away.end()

    assert await pair.until_leads(home, above=term + 1) == term + 2
    assert await has_all(home, rows)
    await pair.write_at(home, term + 2)


async def test_the_old_leader_leads_again_when_who_was_elected_dies_before_it_wrote_that_it_alone_is_complete(
    pair: Pair,
):
    home, away, term = await pair.leads()
    rows = await written(pair, home, term)
    os.kill(await away.pid_of("startup"), signal.SIGSTOP)  # a promotion ends only when recovery has
    await home.end()

    async def elected() -> bool:
        keys = await pair.read_keys()
        return bool(keys.get("leader", {}).get("node") == away.node and keys["term"]["term"] == term + 1)

    await pair.until(elected, "the other node has taken the lead")
    await pair.until_rule(away, "promote")
    await away.end()
    recorded = (await pair.read_keys())["sync"]
    assert (recorded["leader"], recorded["term"]) == (home.node, term)

    home.start()
    assert await pair.until_leads(home, above=term + 1) == term + 2
    assert await has_all(home, rows)
    async with home.dispatcher() as session:
        await pair.write(session, term + 2)
