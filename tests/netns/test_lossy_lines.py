"""Lines on which packets are lost by chance, all the while: TCP sends them again, and everything is late."""

import asyncio

import pytest

from tests.agents import Pair, steady_writing
from tests.netns.network import Network, both_ways

pytestmark = [pytest.mark.root, pytest.mark.long]

SHARE = 0.1  # far beyond what a line that is called bad loses
LASTS = 10.0  # seconds: more than three leases
WRITES = 20  # at least, of two hundred that a good line takes


async def test_a_tenth_of_all_packets_lost_moves_nothing_and_writes_go_on(pair: Pair, network: Network):
    leader, standby, term = await pair.leads()
    lines = [*both_ways("witness", leader.name, standby.name), *both_ways(leader.name, standby.name)]
    before = len(pair.acknowledged)
    async with steady_writing(pair, leader, term):
        with network.lossy(SHARE, *lines):
            await asyncio.sleep(LASTS)  # that it lasts is the point: nothing happens that could be waited on
            assert len(pair.acknowledged) > before + WRITES
        await pair.until_two_site()
    assert (await pair.leads())[::2] == (leader, term)
