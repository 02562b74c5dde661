"""Nodes whose history is another one than the leader's, though none of them was opened: they end with its content."""

import os
import re
import signal

import pytest

from replication import histories
from replication.errors import CommitUnknown
from replication.postmaster import Postmaster
from replication.timelines import Stretch
from tests.agents import WRITE
from tests.ports import free_port
from tests.several_agents import Four
from tests.sites import Site

pytestmark = pytest.mark.long

TIMELINE = "select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"
RECEIVED = "select pg_last_wal_receive_lsn() - '0/0'::pg_lsn"
STRANGE = -1  # a row that was never acknowledged


def newest(site: Site, timeline: int) -> Stretch:
    return histories.own(site.data, timeline)[-1]


async def lose_the_leader_whose_last_record_all_have(four: Four, leader: Site) -> None:
    leader.kill()
    postmaster = Postmaster.find(leader.data)
    assert postmaster is not None
    os.kill(postmaster.pid, signal.SIGINT)  # it waits until its standbys have the record of its shutdown

    async def ended() -> bool:
        return not leader.postgres_pids()

    await four.until(ended, "the leader is shut down clean")


def have_it_follow(standby: Site, port: int) -> None:
    """As long as no agent of it turns it elsewhere."""
    file = standby.data.with_name("data.conf") / "role.conf"
    found = re.compile(r"(port='+)\d+")
    text, count = found.subn(rf"\g<1>{port}", file.read_text())
    assert count == 1
    file.write_text(text)
    postmaster = Postmaster.find(standby.data)
    assert postmaster is not None
    os.kill(postmaster.pid, signal.SIGHUP)


@pytest.mark.timeout(300)
async def test_who_led_by_a_timeline_of_the_same_number_and_who_followed_it_end_with_the_leaders_content(
    four: Four,
):
    """One story: `first` is promoted and lost before it has told that it alone is complete, then `second` leads."""
    leader, _, term = await four.leads()
    first = next(site for site in four.sites if site.name == leader.name and site is not leader)
    second, follower = [site for site in four.sites if site.name != leader.name]
    rows = {(await four.write_at(leader, term))[0] for _ in range(5)}
    follower.kill()  # its PostgreSQL goes on, in step
    await lose_the_leader_whose_last_record_all_have(four, leader)
    startup = await first.pid_of("startup")
    os.kill(startup, signal.SIGSTOP)  # a promotion ends only when recovery has
    await four.until_rule(first, "promote")
    second.hang()  # whose turn would be next

    async def asked_to_promote() -> bool:
        return (first.data / "promote").exists()  # by then the promotion has its name

    await four.until(asked_to_promote, "the promotion has begun")
    first.hang()
    have_it_follow(follower, first.postgres_port)
    os.kill(startup, signal.SIGCONT)

    async def promoted() -> bool:
        return bool(await first.select("select not pg_is_in_recovery()"))

    await four.until(promoted, "the first is promoted, and its agent knows nothing of it")
    timeline = await first.select(TIMELINE)
    async with first.superuser() as session:
        await session.commit("insert into public.acknowledged values ($1, 0)", STRANGE, timeout=20)
    await four.until(lambda: follower.has(STRANGE), "the follower has what only the first wrote")
    await first.end()
    second.resume()
    term = await four.until_leads(second, above=term)
    assert await second.select(TIMELINE) == timeline
    theirs, ours = newest(first, timeline), newest(second, timeline)
    assert (theirs.timeline, theirs.begin) == (ours.timeline, ours.begin)
    assert theirs.begun_by != ours.begun_by

    # The follower's PostgreSQL takes them for the same; its agent does not.
    follower.start()
    first.start()
    leader.start()
    rows.add((await four.write_at(second, term))[0])
    await four.until_two_site()
    assert "clone-apart" in {event["rule"] for event in follower.events("decided")}
    for site in four.sites:
        assert not await site.has(STRANGE)
        for row in rows:
            assert await site.has(row)


@pytest.mark.timeout(300)
async def test_standbys_that_received_more_than_the_next_leader_come_back_and_end_equal(four: Four):
    """The next leader is of the lost one's site, though those elsewhere have a commit that it never had."""
    leader, _, term = await four.leads()
    near = next(site for site in four.sites if site.name == leader.name and site is not leader)
    far = [site for site in four.sites if site.name != leader.name]
    rows = {(await four.write_at(leader, term))[0] for _ in range(5)}
    before = {site.node: site.repairs() for site in far}
    leader.kill()  # else it would take its neighbour out of step
    have_it_follow(near, free_port())

    async def receives_nothing() -> bool:
        return not await near.select(
            "select exists (select from pg_stat_wal_receiver where status = 'streaming')"
        )

    await four.until(receives_nothing, "the neighbour is cut off")
    number = four.number()
    async with leader.dispatcher() as session:
        with pytest.raises(CommitUnknown):
            await session.commit(WRITE, term, number, timeout=0.5)
    for site in far:
        assert await site.has(number)
    ahead = {site.node: await site.select(RECEIVED) for site in far}
    await leader.end()

    term = await four.until_leads(near, above=term)
    assert not await near.has(number)
    fork = newest(near, await near.select(TIMELINE)).begin
    assert min(ahead.values()) > fork
    rows.add((await four.write_at(near, term))[0])
    leader.start()
    await four.until_two_site()
    for site in far:
        assert site.repairs() > before[site.node]
    for site in four.sites:
        assert not await site.has(number)
        for row in rows:
            assert await site.has(row)
