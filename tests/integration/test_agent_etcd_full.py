"""An etcd whose store is full: it raises its alarm, refuses whatever needs room, and answers everything else.

Reads and renewals go on, so whoever leads goes on. What would change who leads, or who is in step, waits for room. Both
sites say so, with the cure; nothing is acknowledged that one of them lacks; and with room all goes on by itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from replication.errors import CommitUnknown
from sitecontrol.etcd.api import FULL, EtcdRefused
from tests.agents import WRITE, Pair, steady_writing

LEASE_TTL = 4
ETCD_OPTIONS = {"quota-backend-bytes": str(6 * 1024 * 1024)}
LASTS = 2 * LEASE_TTL  # seconds: far longer than a lease that nobody renews

pytestmark = pytest.mark.long


@asynccontextmanager
async def full(pair: Pair) -> AsyncIterator[None]:
    """Until the block ends; both agents have noticed by its beginning, and by its end."""

    async def both_say(alarm: str | None) -> bool:
        told = [(await site.status())["etcd_alarm"] for site in pair.sites if site.runs]
        return all(one == alarm for one in told)

    await asyncio.to_thread(pair.etcd.fill)
    try:
        async with pair.keys() as etcd:
            with pytest.raises(EtcdRefused):
                await etcd.put(pair.prefix + "observations/nobody", b"{}")
        await pair.until(lambda: both_say(FULL), "both agents name it, with the cure")
        yield
    finally:
        await asyncio.to_thread(pair.etcd.make_room)
    await pair.until(lambda: both_say(None), "nobody says it any more")


async def test_the_live_site_serves_through_it_on_its_lease_and_a_swap_is_refused_with_the_cure(pair: Pair):
    leader, standby, term = await pair.leads()
    async with steady_writing(pair, leader, term), full(pair):
        for dry_run in (True, False):
            status, answer = await leader.swap(standby, dry_run=dry_run)
            assert (status, answer["obstacles"]) == (409, [FULL])
        _, why = await leader.ask("/why")
        assert why["site_lost"]["in_the_way"] == [FULL]
        await asyncio.sleep(LASTS)  # that it lasts is the point: nothing happens that could be waited on
        status = await leader.status()
        assert status["live"]
        assert status["lease_s"] > 0
        assert status["ready"]
    assert (await pair.leads())[::2] == (leader, term)


async def test_an_act_that_etcd_refuses_is_told_as_refused_and_not_as_unknown(pair: Pair):
    leader, standby, _ = await pair.leads()
    await asyncio.to_thread(pair.etcd.fill)
    try:  # at once: before the agents have looked at etcd's members
        status, answer = await leader.swap(standby)
    finally:
        await asyncio.to_thread(pair.etcd.make_room)
    if status != 409:  # they had looked
        assert (status, answer["title"]) == (503, "etcd refuses it")
        assert answer["detail"].startswith("nothing was written: ")


async def test_a_leader_without_a_lease_serves_by_its_canary_and_takes_its_lead_up_or_hands_it_on_with_room(
    pair: Pair,
):
    leader, _, term = await pair.leads()

    async def unnamed() -> bool:
        return "leader" not in await pair.read_keys()

    async def live() -> bool:
        status = await leader.status()
        return bool(status["live"] and status["lease_s"] is None)

    async with full(pair), steady_writing(pair, leader, term):
        leader.kill()
        await pair.until(unnamed, "its lease has run out")
        leader.start()
        await pair.until(live, "it serves by its canary")
    await pair.until_two_site()


async def test_a_lost_live_site_is_followed_by_nobody_until_there_is_room_and_then_at_once(pair: Pair):
    leader, standby, term = await pair.leads()
    await pair.write_at(leader, term)
    async with full(pair):
        await leader.end()
        await pair.until_rule(standby, "claim")
        await asyncio.sleep(LEASE_TTL)  # nothing changes
        status = await standby.status()
        assert (status["live"], status["term"], status["etcd_alarm"]) == (False, term, FULL)
        assert [event["error"] for event in standby.events("effect_failed")][-1].endswith("space exceeded")
    await pair.until_leads(standby, above=term)


async def test_without_its_standby_nothing_is_acknowledged_until_there_is_room(pair: Pair):
    leader, standby, term = await pair.leads()

    async def one_site() -> bool:
        return bool((await leader.status())["durability"] == "one-site")

    async with leader.dispatcher() as session, full(pair):
        await standby.end()
        with pytest.raises(CommitUnknown):
            await session.commit(WRITE, term, pair.number(), timeout=LEASE_TTL)
        assert (await leader.status())["durability"] == "two-site"  # as the records still have it
    await pair.until(one_site, "it goes on alone")
    await pair.write_at(leader, term)
    assert (await pair.leads())[2] == term
