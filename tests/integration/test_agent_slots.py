"""WAL is kept for a node that is away, up to a cap; past that it is cloned when it returns, and kept for again."""

from typing import Any

import pytest

from tests.agents import Pair
from tests.sites import Site

pytestmark = pytest.mark.long

# Without slots a checkpoint throws away what is older than itself.
PARAMETERS = (
    ', wal_keep_size = 0, max_slot_wal_keep_size = "24MB", max_wal_size = "16MB", min_wal_size = "8MB"'
)
SLOTS = "select coalesce(string_agg(slot_name || ' ' || coalesce(wal_status, '-'), ','), '') from pg_replication_slots"


async def until_slots(pair: Pair, site: Site, expected: str) -> None:
    async def has() -> Any:
        return await site.select(SLOTS) == expected

    await pair.until(has, f"{site.node} has the slots {expected!r}")


def slot_of(site: Site) -> str:
    return "hotsite_" + site.node.replace("-", "_")


async def write_segments(leader: Site, count: int) -> None:
    """As much WAL as so many segments of 16 MB, and a checkpoint, which throws away what nobody needs."""
    async with leader.superuser() as session:
        for _ in range(count):
            await session.read("select pg_logical_emit_message(false, 'test', 'more')", timeout=20)
            await session.read("select pg_switch_wal()", timeout=20)
        await session.read("checkpoint", timeout=60)


async def lose(pair: Pair, standby: Site) -> None:
    leader = pair.other(standby)
    await standby.end()

    async def alone() -> bool:
        return (await leader.status())["durability"] == "one-site"

    await pair.until(alone, "the leader goes on alone")


async def test_the_leader_has_a_slot_for_the_other_node_and_a_standby_has_none(pair: Pair):
    leader, standby, term = await pair.leads()
    await until_slots(pair, leader, f"{slot_of(standby)} reserved")
    assert await standby.select(SLOTS) == ""
    await leader.end()
    await pair.until_leads(standby, above=term)
    leader.start()
    await pair.until_two_site()
    assert await leader.select(SLOTS) == ""
    await until_slots(pair, standby, f"{slot_of(leader)} reserved")


async def test_a_node_that_was_away_finds_the_wal_that_it_needs_and_is_not_cloned(pair: Pair):
    leader, standby, _ = await pair.leads()
    await until_slots(pair, leader, f"{slot_of(standby)} reserved")
    repairs = standby.repairs()
    await lose(pair, standby)
    await write_segments(leader, 4)
    standby.start()
    await pair.until_two_site()
    assert standby.repairs() == repairs


async def test_a_node_whose_slot_was_lost_is_cloned_and_its_slot_is_made_anew(pair: Pair):
    leader, standby, _ = await pair.leads()
    await until_slots(pair, leader, f"{slot_of(standby)} reserved")
    cloned, rewound = len(standby.events("cloned")), len(standby.events("rewound"))
    made = len(leader.events("slots"))
    await lose(pair, standby)
    await write_segments(leader, 12)

    async def made_anew() -> bool:
        return len(leader.events("slots")) > made

    await pair.until(made_anew, "the lost slot is made anew")
    assert leader.events("slots")[-1]["dropped"] == [slot_of(standby)]
    standby.start()
    await pair.until_two_site()
    assert len(standby.events("cloned")) == cloned + 1
    assert len(standby.events("rewound")) == rewound
