"""The rows of the fault matrix that need real loss: packets vanish between places, and sockets stay open.

Between the tests everything is in step again by itself, and every acknowledged row is on whoever leads: `pair` sees to
both, and nobody but the rules' removal helps.
"""

import asyncio

import pytest

from replication.errors import CommitUnknown
from tests.agents import SILENT, WRITE, Pair, steady_writing
from tests.netns.network import Network, both_ways
from tests.sites import Site

pytestmark = [pytest.mark.root, pytest.mark.long]

LAST = 4.0  # seconds that a cut lasts at least where nothing may come of it: longer than a lease


async def test_wan_cut_leaves_production_where_it_is_on_one_site(pair: Pair, network: Network):
    leader, standby, term = await pair.leads()
    async with steady_writing(pair, leader, term):
        with network.lost(*both_ways(leader.name, standby.name)):
            await until_durability(pair, leader, "one-site")
            await asyncio.sleep(LAST)  # that it lasts is the point: nothing happens that could be waited on
        await pair.until_two_site()
    assert (await pair.leads())[::2] == (leader, term)


async def test_live_isolated_moves_production_and_the_isolated_leader_acknowledges_nothing_and_fences(
    pair: Pair, network: Network
):
    leader, standby, term = await pair.leads()
    before = len(leader.events("fencing"))
    async with leader.dispatcher() as session:
        with network.lost(*both_ways(leader.name, standby.name, "witness")):
            with pytest.raises(CommitUnknown):
                await session.commit(WRITE, term, pair.number(), timeout=30)  # until its PostgreSQL is ended
            new_term = await pair.until_leads(standby, above=term)
            await pair.write_at(standby, new_term)
            await pair.until(lambda: closed(leader), "the isolated leader lets nobody in")
            assert len(leader.events("fencing")) > before
    await pair.until_two_site()
    assert (await pair.leads())[0] is standby


async def test_standby_isolated_leaves_production_where_it_is(pair: Pair, network: Network):
    leader, standby, term = await pair.leads()
    async with steady_writing(pair, leader, term):
        with network.lost(*both_ways(standby.name, leader.name, "witness")):
            await until_durability(pair, leader, "one-site")
            await asyncio.sleep(LAST)
        await pair.until_two_site()
    assert (await pair.leads())[::2] == (leader, term)


async def test_witness_cut_from_the_live_site_changes_nothing(pair: Pair, network: Network):
    leader, _, term = await pair.leads()
    async with steady_writing(pair, leader, term):
        with network.lost(*both_ways(leader.name, "witness")):
            await asyncio.sleep(LAST)
            assert (await leader.status())["durability"] == "two-site"
    assert (await pair.leads())[::2] == (leader, term)


@pytest.mark.parametrize("lost", ["what it sends", "what it is sent"])
async def test_one_way_loss_between_the_sites_leaves_production_where_it_is(
    pair: Pair, network: Network, lost: str
):
    leader, standby, term = await pair.leads()
    async with steady_writing(pair, leader, term):
        with network.lost(*one_way(lost, leader, standby.name)):
            await until_durability(pair, leader, "one-site")
            await asyncio.sleep(LAST)
        await pair.until_two_site()
    assert (await pair.leads())[::2] == (leader, term)


@pytest.mark.parametrize("lost", ["what it sends", "what it is sent"])
async def test_a_live_site_that_is_cut_off_one_way_loses_the_lead_and_acknowledges_nothing(
    pair: Pair, network: Network, lost: str
):
    leader, standby, term = await pair.leads()
    async with leader.dispatcher() as session:
        with network.lost(*one_way(lost, leader, standby.name, "witness")):
            new_term = await pair.until_leads(standby, above=term)
            with pytest.raises(SILENT):
                await session.commit(WRITE, term, pair.number(), timeout=5)
            await pair.write_at(standby, new_term)
            await pair.until(lambda: closed(leader), "the leader that was cut off lets nobody in")
    await pair.until_two_site()
    assert (await pair.leads())[0] is standby


async def test_wan_flap_moves_nothing(pair: Pair, network: Network):
    leader, standby, term = await pair.leads()
    async with steady_writing(pair, leader, term):
        for down, up in ((0.5, 1.0), (1.5, 0.5), (3.0, 1.0), (5.0, 0.2)):
            with network.lost(*both_ways(leader.name, standby.name)):
                await asyncio.sleep(down)
            await asyncio.sleep(up)
        await pair.until_two_site()
    assert (await pair.leads())[::2] == (leader, term)


async def test_postgresql_lets_go_of_a_receiver_whose_line_went_dead_and_the_receiver_of_it(
    pair: Pair, network: Network
):
    """Both ends of a connection that is open on both sides and leads nowhere, within their time-outs."""
    leader, standby, _ = await pair.leads()

    async def nobody_is_sent_to() -> bool:
        return not await leader.select("select count(*) from pg_stat_replication")

    async def nothing_is_received() -> bool:
        return not await standby.select(
            "select count(*) from pg_stat_wal_receiver where status = 'streaming'"
        )

    with network.lost(*both_ways(leader.name, standby.name)):
        # wal_sender_timeout 2 s, wal_receiver_timeout 3 s; the rest is for a machine that does much else.
        await asyncio.gather(
            pair.until(nobody_is_sent_to, "the leader has no WAL sender", within=12),
            pair.until(nothing_is_received, "the standby receives nothing", within=12),
        )


def one_way(lost: str, site: Site, *others: str) -> list[tuple[str, str]]:
    sent = [(site.name, other) for other in others]
    return sent if lost == "what it sends" else [(other, place) for place, other in sent]


async def until_durability(pair: Pair, leader: Site, label: str) -> None:
    async def is_so() -> bool:
        return bool((await leader.status())["durability"] == label)

    await pair.until(is_so, f"{leader.node} is {label}")


async def closed(site: Site) -> bool:
    return not (await site.status())["is_open"]
