"""A node that returns with an older copy of its data."""

import shutil

from tests.agents import Pair
from tests.sites import Site


async def test_a_node_with_an_older_copy_of_its_data_never_leads_and_is_brought_back_into_line(pair: Pair):
    leader, standby, term = await pair.leads()
    await standby.end()
    snapshot = standby.folder / "snapshot"
    await standby.copy_data(snapshot)
    standby.start()
    await pair.until_two_site()
    number, durability = await pair.write_at(leader, term)
    assert durability == "two-site"

    standby.kill()  # its PostgreSQL stays in step: by the records it is the one that may take over
    await leader.end()
    await standby.kill_postgres()
    shutil.rmtree(standby.data)
    snapshot.rename(standby.data)
    standby.start()
    await pair.until_rule(standby, "barred")
    leader.start()
    await pair.until_two_site()
    assert (await pair.leads())[0] is leader
    assert await standby.has(number)


async def test_a_leader_that_is_back_within_its_lease_with_an_older_copy_does_not_lead(pair: Pair):
    leader, other, term = await pair.leads()
    await leader.end()
    await leader.copy_data(leader.folder / "snapshot")
    leader.start()
    await pair.until_two_site()
    if (await pair.leads())[0] is not leader:
        term = (await pair.leads())[2]
        await other.end()
        await pair.until_leads(leader, above=term)
        other.start()
        await pair.until_two_site()
    term = (await pair.leads())[2]
    number, durability = await pair.write_at(leader, term)
    assert durability == "two-site"

    await leader.end()
    leader.data.rename(leader.folder / "newer")
    (leader.folder / "snapshot").rename(leader.data)
    leader.start()
    await pair.until_leads(other, above=term)
    assert await other.has(number)
    await pair.until_two_site()
    assert await leader.has(number)


async def test_a_node_that_took_over_is_followed_by_one_that_lost_its_disk(pair: Pair):
    leader, standby, term = await pair.leads()
    number, _ = await pair.write_at(leader, term)
    await leader.end()
    leader.wipe()
    leader.start()
    await pair.until_leads(standby, above=term)
    await pair.until_two_site()
    assert await leader.has(number)


async def lose_older_wal(leader: Site) -> None:
    """What a standby that is away would need next."""
    async with leader.superuser() as session:
        await session.read("select pg_switch_wal()", timeout=20)
        await session.commit("create table if not exists public.more (x int)", timeout=20)
        [row] = await session.read("select pg_walfile_name(pg_current_wal_lsn()) as segment", timeout=20)
        await session.read("checkpoint", timeout=20)
    for segment in (leader.data / "pg_wal").glob("0" * 7 + "?" * 17):
        if segment.name < row["segment"]:
            segment.unlink()


async def test_a_standby_whose_wal_is_gone_is_cloned_without_a_rewind(pair: Pair):
    """A walreceiver says that it streams before it is refused: that is no following."""
    leader, standby, _ = await pair.leads()
    cloned, rewound = len(standby.events("cloned")), len(standby.events("rewound"))
    await standby.end()

    async def left_step() -> bool:
        return (await leader.status())["durability"] == "one-site"

    await pair.until(left_step, "the leader goes on alone")
    await lose_older_wal(leader)
    standby.start()
    await pair.until_two_site()
    assert len(standby.events("cloned")) == cloned + 1
    assert len(standby.events("rewound")) == rewound
