"""A node that returns with an older copy of its data."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.agents import Pair
from tests.sites import TOKEN, Site


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
    await pair.until_rule(standby, "barred", "older-copy")
    leader.start()
    await pair.until_two_site()
    assert (await pair.leads())[0] is leader
    assert await standby.has(number)


@pytest.mark.long
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


async def image_of(site: Site, to: Path) -> Path:
    """As of the whole volume: the data, and the name that they go by."""
    await site.copy_data(to)
    shutil.copy2(site.data.with_name("data.conf") / "incarnation.json", to.with_suffix(".json"))
    return to


def put_back(site: Site, image: Path) -> None:
    """With the inodes by which an agent knows its data directory, as on a volume that was restored."""
    for there in site.data.iterdir():
        if there.name != "PG_VERSION":
            shutil.rmtree(there) if there.is_dir() else there.unlink()
    kept = [path for path in image.iterdir() if path.name != "PG_VERSION"]
    subprocess.run(["cp", "-a", *kept, site.data], check=True)
    name = site.data.with_name("data.conf") / "incarnation.json"
    name.write_bytes(image.with_suffix(".json").read_bytes())


async def until_recorded(pair: Pair, leader: Site) -> None:
    told = (await leader.status())["postgres"]["lsn"]

    async def recorded() -> bool:
        reached = (await pair.read_keys())["reached"]["nodes"]
        return any(p["node"] == leader.node and p["lsn"] >= told for p in reached)

    await pair.until(recorded, "how far the leader has come is recorded")


async def older_copy_of_the_leader(pair: Pair) -> tuple[Site, Site, int, int, Path]:
    """The leader went on alone, and returns with an older image. Gives it, the standby, the term, a message that the
    image lacks, and the newest image.
    """
    leader, standby, _ = await pair.leads()
    await standby.end()

    async def alone() -> bool:
        return (await leader.status())["durability"] == "one-site"

    await pair.until(alone, "the leader goes on alone")
    await leader.end()
    last_night = await image_of(leader, leader.folder / "last-night")
    leader.start()
    term = await pair.until_leads(leader)
    number, label = await pair.write_at(leader, term)
    assert label == "one-site"
    await until_recorded(pair, leader)
    await leader.end()
    newest = await image_of(leader, leader.folder / "newest")
    put_back(leader, last_night)
    leader.start()
    await pair.until_rule(leader, "older-copy")
    return leader, standby, term, number, newest


async def test_a_leader_that_was_alone_and_returns_from_an_older_image_opens_nothing_and_names_the_cure(
    pair: Pair,
):
    leader, standby, term, number, newest = await older_copy_of_the_leader(pair)
    opened = len(leader.events("opened"))
    status = await leader.status()
    assert "sitectl node trust" in status["decision"]["sentence"]
    assert "sitectl node trust" in " ".join(status["reasons"])
    assert leader.events("copy_disowned")
    ask = {"json": {"node": leader.node, "dry_run": True}, "headers": {"Authorization": f"Bearer {TOKEN}"}}
    offered, trust = await leader.ask("/node/trust", **ask)
    assert (offered, trust["obstacles"]) == (200, [])
    assert f"{leader.node} is recorded to have reached" in " ".join(trust["consequences"])
    assert len(leader.events("opened")) == opened

    await leader.end()
    put_back(leader, newest)
    leader.start()
    await pair.until_leads(leader, above=term)
    assert await leader.has(number)
    standby.start()
    await pair.until_two_site()


@pytest.mark.long
async def test_an_older_copy_that_a_person_trusts_begins_a_timeline_and_who_had_more_is_brought_back_into_line(
    pair: Pair,
):
    """On the old one its standby, which has more of it, would count as in step without what it lacks."""
    leader, standby, _ = await pair.leads()
    await leader.end()
    last_night = await image_of(leader, leader.folder / "before-trust")
    leader.start()
    leader, standby, term = await pair.leads()
    while leader.folder != last_night.parent:
        await leader.end()
        await pair.until_leads(standby, above=term)
        leader.start()
        await pair.until_two_site()
        leader, standby, term = await pair.leads()
    await pair.until_two_site()
    number, _ = await pair.write_at(leader, term)
    timeline = (await leader.status())["postgres"]["timeline"]
    await until_recorded(pair, leader)
    await standby.end()
    await leader.end()
    put_back(leader, last_night)
    leader.start()
    await pair.until_rule(leader, "older-copy")
    ask = {"json": {"node": leader.node, "reason": "gone"}, "headers": {"Authorization": f"Bearer {TOKEN}"}}
    assert (await leader.ask("/node/trust", **ask))[0] == 202
    await pair.until_leads(leader, above=term)
    assert (await leader.status())["postgres"]["timeline"] > timeline
    assert not await leader.has(number), "that loss was accepted"
    pair.acknowledged.discard(number)
    standby.start()
    await pair.until_two_site()
    assert not await standby.has(number)
    leader, standby, term = await pair.leads()
    found = await pair.write_at(leader, term)
    assert found[1] == "two-site"
    assert await standby.has(found[0])


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


@pytest.mark.long
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
