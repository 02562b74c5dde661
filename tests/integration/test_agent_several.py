"""Two nodes in each site: who leads after a loss, who follows after a swap, and writes all the while."""

import asyncio
import signal

import pytest

from tests.agents import steady_writing
from tests.several_agents import Four
from tests.sites import Site

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def neighbour(four: Four, site: Site) -> Site:
    return next(one for one in four.sites if one.name == site.name and one is not site)


async def followed_without_a_repair(four: Four, before: dict[str, int], lost: set[str]) -> bool:
    return all(site.repairs() == before[site.node] for site in four.sites if site.node not in lost)


async def test_a_node_is_lost_a_swap_is_made_and_a_site_is_lost(four: Four):
    """One story, as each beginning of four nodes takes its time."""
    leader, _, term = await four.leads()
    near = neighbour(four, leader)
    rows = {(await four.write_at(leader, term))[0] for _ in range(5)}
    assert await four.in_step() == {site.node for site in four.sites} - {leader.node}

    # The leader's node is lost: production stays in its site, and the other site follows.
    before = {site.node: site.repairs() for site in four.sites}
    await leader.end()
    term = await four.until_leads(near, above=term)
    for row in rows:
        assert await near.has(row)
    far = [site for site in four.sites if site.name != near.name]

    async def far_in_step() -> bool:
        return {site.node for site in far} <= await four.in_step()

    await four.until(far_in_step, "the other site follows the neighbour, and is in step")
    assert (await four.write_at(near, term))[1] == "two-site"
    assert await followed_without_a_repair(four, before, {leader.node})
    leader.start()
    await four.until_two_site()

    # A swap to the other site: everybody follows, and nobody has to be rewound or cloned.
    before = {site.node: site.repairs() for site in four.sites}
    status, answer = await near.swap(far[0])
    assert status == 202, answer
    target = four.nodes[answer["to"]]
    assert target.name == far[0].name
    term = await four.until_leads(target, above=term)
    await four.until_two_site()
    assert await followed_without_a_repair(four, before, set())
    row, durability = await four.write_at(target, term)
    assert durability == "two-site"

    # The whole site is lost: the other one leads.
    await asyncio.gather(*(site.end() for site in far))
    home = [site for site in four.sites if site not in far]

    async def one_leads() -> Site | None:
        for site in home:
            told = await site.status()
            if told["live"] and told["term"] > term:
                return site
        return None

    leads = await four.until(one_leads, "a node of the other site leads")
    assert await leads.has(row)
    assert (await four.write_at(leads, (await leads.status())["term"]))[1] == "one-site"


async def test_a_standby_that_hangs_leaves_step_and_comes_back_while_messages_are_written(four: Four):
    leader, _, term = await four.leads()
    hung = four.other(leader)
    async with steady_writing(four, leader, term):
        hung.signal_postgres(signal.SIGSTOP)

        async def left() -> bool:
            return hung.node not in await four.in_step()

        await four.until(left, "the hung standby leaves step")
        written, durability = await four.write_at(leader, term)
        assert durability == "two-site"  # its neighbour is still waited for
        hung.signal_postgres(signal.SIGCONT)
        await four.until_two_site()
    assert (await four.leads())[2] == term
    assert await hung.has(written)
