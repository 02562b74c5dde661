"""A node that returns with an older copy of its data."""

import shutil

from tests.agents import Pair


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


async def test_a_node_that_took_over_is_followed_by_one_that_lost_its_disk(pair: Pair):
    leader, standby, term = await pair.leads()
    number, _ = await pair.write_at(leader, term)
    await leader.end()
    leader.wipe()
    leader.start()
    await pair.until_leads(standby, above=term)
    await pair.until_two_site()
    assert await leader.has(number)
