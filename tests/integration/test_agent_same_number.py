"""Two nodes that are promoted one after the other from the same position: both begin a timeline of the same number."""

import os
import re
import signal

import pytest

from replication import histories
from replication.postmaster import Postmaster
from replication.timelines import Stretch
from tests.agents import Site
from tests.several_agents import Four

TIMELINE = "select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"
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


def have_it_follow(standby: Site, leader: Site) -> None:
    """Whoever follows has no agent, so nobody else will turn it."""
    file = standby.data.with_name("data.conf") / "role.conf"
    found = re.compile(r"(port='+)\d+")
    text, count = found.subn(rf"\g<1>{leader.postgres_port}", file.read_text())
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
    first_history = first.data / "pg_wal"

    async def named() -> bool:
        return any(first.node in file.read_text() for file in first_history.glob("*.history"))

    await four.until(named, "the promotion has begun")
    first.hang()
    have_it_follow(follower, first)
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
