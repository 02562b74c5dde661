"""The lease and etcd: agents that are killed or hang, and all of etcd lost and returned."""

import asyncio
import os
import signal

import pytest

from replication.errors import CommitUnknown
from tests.agents import WRITE, Pair, steady_writing

LEASE_TTL = 8  # an agent must be able to start again within it, on a busy machine
STEPS = {"decided", "locked_out", "connections_ended", "postgres_ended"}  # of a fencing
AWAY = 5.0  # seconds that etcd is lost for


async def test_an_agent_that_is_restarted_within_its_lease_leads_on_in_the_same_term(pair: Pair):
    leader, _, term = await pair.leads()
    async with leader.dispatcher() as session:
        leader.kill()
        leader.start()
        assert await pair.until_leads(leader) == term
        await pair.write(session, term)  # over the connection from before: PostgreSQL was left alone
    assert (await pair.read_keys())["term"]["term"] == term


@pytest.mark.long
async def test_a_leader_that_hung_past_its_lease_fences_itself_and_follows(pair: Pair):
    leader, standby, term = await pair.leads()
    async with leader.dispatcher() as session:
        leader.hang()
        await pair.until_leads(standby, above=term)
        with pytest.raises(CommitUnknown):  # the old PostgreSQL still runs, and waits for ever
            await session.commit(WRITE, term, pair.number(), timeout=2)
    leader.resume()
    await pair.until_two_site()
    assert (await pair.leads())[0] is standby
    assert leader.events("fencing")


async def test_all_of_etcd_lost_and_returned_interrupts_nothing(pair: Pair):
    leader, _, term = await pair.leads()
    history = await pair.history()
    async with steady_writing(pair, leader, term):
        pair.etcd.stop()
        await asyncio.sleep(AWAY)  # that it lasts is the point: nothing happens that could be waited on
        assert (await leader.status())["live"]
        await asyncio.to_thread(pair.etcd.heal)

        async def leads_again() -> bool:
            keys = await pair.read_keys()
            return bool(
                keys.get("leader", {}).get("node") == leader.node and (await leader.status())["etcd_reached"]
            )

        await pair.until(leads_again, "the leader has its key in etcd again")
    assert (await pair.leads())[::2] == (leader, term)
    assert await pair.history() == history


@pytest.mark.long
async def test_a_standby_that_stands_still_while_etcd_is_away_closes_the_leader_and_ends_nothing(pair: Pair):
    leader, standby, term = await pair.leads()
    pair.etcd.stop()

    async def lease_has_run_out() -> bool:
        status = await leader.status()
        return float(status["lease_s"]) < 0 and bool(status["live"])

    await pair.until(lease_has_run_out, "the leader serves without a lease")
    server = min(leader.postgres_pids())
    async with leader.dispatcher() as session:
        receiver = await standby.pid_of("walreceiver")
        os.kill(receiver, signal.SIGSTOP)
        try:
            writing = asyncio.create_task(pair.write(session, term, timeout=60))
            await pair.until_rule(leader, "canary-late")
            assert not (await leader.status())["live"]
        finally:
            os.kill(receiver, signal.SIGCONT)
        await writing

    async def live() -> bool:
        return bool((await leader.status())["live"])

    await pair.until(live, "the leader serves again, still without etcd")
    assert min(leader.postgres_pids()) == server
    await asyncio.to_thread(pair.etcd.heal)
    assert await pair.until_leads(leader) == term


async def test_etcds_own_leadership_does_not_stay_in_the_live_site_and_goes_to_the_witness(pair: Pair):
    """A change of etcd's leader prolongs every lease: the loss of the live site must not be one."""
    leader, _, term = await pair.leads()

    def moves() -> int:
        return sum(event["rule"] == "move-etcd-leader" for event in leader.events("decided"))

    before = moves()
    async with pair.keys() as etcd:
        home = next(member for member in await etcd.members() if member.name == leader.name)
        await etcd.move_leader(home.member_id)

        async def at_the_witness() -> bool:
            return [m.name for m in await etcd.members() if m.member_id == m.leader_id] == ["witness"]

        await pair.until(at_the_witness, "etcd is led from the witness")
    assert moves() > before
    assert (await pair.leads())[::2] == (leader, term)


async def test_a_leader_that_loses_etcd_and_its_standby_acknowledges_nothing_and_is_fenced(pair: Pair):
    leader, standby, term = await pair.leads()
    pair.etcd.stop()
    await standby.end()
    async with leader.dispatcher() as session:
        with pytest.raises(CommitUnknown):
            await session.commit(
                WRITE, term, pair.number(), timeout=60
            )  # until the leader ends its PostgreSQL

    took: dict[str, float] = {}

    async def closed() -> bool:
        """Its PostgreSQL may run again by now, as a leader's does: with every dispatcher locked out."""
        status = await leader.status()
        took.update(status["fencing"]["last_ms"])
        return took.keys() >= STEPS and not status["is_open"]

    await pair.until(closed, "the leader has ended its PostgreSQL and lets nobody in")
    assert took["decided"] <= took["connections_ended"] <= took["postgres_ended"]
    await asyncio.to_thread(pair.etcd.heal)
    await pair.until_leads(leader)
