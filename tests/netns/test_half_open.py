"""Connections that stand at both ends and lead nowhere: each client and server notices within its own time-out.

What the tests send to a place vanishes. So its answers to what was sent before arrive, and nothing that we acknowledge
or ask does.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

import pytest

from replication.errors import CommitUnknown, SessionLost
from replication.session import Session, Target
from tests.agents import SILENT, WRITE, Pair
from tests.netns.network import TESTS, Network
from tests.sites import Site

pytestmark = [pytest.mark.root, pytest.mark.long]

BUSY = 3.0  # seconds that a busy machine may add to a time-out
CALL_TIMEOUT = 1.0  # of etcd's client
SILENCE = 1.5  # seconds after which a watch that hears nothing has moved on


async def test_a_commit_over_a_dead_line_is_unknown_at_its_deadline(pair: Pair, network: Network):
    leader, _, term = await pair.leads()
    async with leader.dispatcher() as session:
        with network.lost((TESTS, leader.name)):
            async with asyncio.timeout(2 + BUSY):
                with pytest.raises(CommitUnknown):
                    await session.commit(WRITE, term, pair.number(), timeout=2)
            assert session.closed


async def test_a_read_over_a_dead_line_ends_at_its_deadline_and_cuts_the_session(
    pair: Pair, network: Network
):
    leader, _, _ = await pair.leads()
    async with leader.dispatcher() as session:
        with network.lost((TESTS, leader.name)):
            async with asyncio.timeout(2 + BUSY):
                with pytest.raises(TimeoutError):
                    await session.read("select 1", timeout=2)
            assert session.closed


async def test_connecting_to_a_place_whose_packets_vanish_ends_at_its_deadline(pair: Pair, network: Network):
    leader, _, _ = await pair.leads()
    target = Target(
        host=leader.host.address, port=leader.postgres_port, user="hotsite_dispatch", password="dispatch"
    )
    with network.lost((TESTS, leader.name)):
        async with asyncio.timeout(2 + BUSY):
            with pytest.raises(SessionLost):
                await Session.connect(target, timeout=2)


@pytest.mark.parametrize("doing", ["idle", "sending"])
async def test_postgresql_ends_the_session_of_a_client_that_vanished(
    pair: Pair, network: Network, doing: str
):
    """Idle, by its keepalives (2 s, and three of 1 s each); while it sends, by tcp_user_timeout (5 s)."""
    leader, _, _ = await pair.leads()
    async with leader.dispatcher() as session, leader.superuser() as door:
        pid = (await session.read("select pg_backend_pid()", timeout=5))[0][0]

        async def gone() -> bool:
            return not await leader.select("select exists (select from pg_stat_activity where pid = $1)", pid)

        async def waits() -> bool:
            asked = "select wait_event = 'advisory' from pg_stat_activity where pid = $1"
            return bool(await leader.select(asked, pid))

        if doing == "sending":  # the question has arrived; the answer comes when the line is dead
            await door.read("select pg_advisory_lock(1)", timeout=5)
            reading = asyncio.create_task(
                session.read("select pg_advisory_lock(1), repeat('x', 50000000) as much", timeout=60)
            )
            await pair.until(waits, "PostgreSQL has the question")
        with network.lost((TESTS, leader.name)):
            assert not session.closed
            if doing == "sending":
                await door.read("select pg_advisory_unlock(1)", timeout=5)
            await pair.until(gone, "PostgreSQL has ended the session", within=5 + 2 + BUSY)
        session.terminate()
        if doing == "sending":
            await asyncio.gather(reading, return_exceptions=True)


@contextmanager
def lasts_at_most(seconds: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun <= seconds + BUSY


async def test_etcds_client_reads_from_another_member_when_the_line_to_its_own_is_dead(
    pair: Pair, network: Network, etcd_prefix: str
):
    first = pair.etcd.members[0]
    async with aclosing(pair.etcd.client(first, call_timeout=CALL_TIMEOUT)) as client:
        await client.put(f"{etcd_prefix}key", b"1")
        with network.lost((TESTS, first.name)), lasts_at_most(CALL_TIMEOUT):
            assert (await client.get(f"{etcd_prefix}key")).kvs[0].value == b"1"


async def test_no_call_to_etcd_outlives_its_deadline_when_every_line_is_dead(
    pair: Pair, network: Network, etcd_prefix: str
):
    async with aclosing(pair.etcd.client(call_timeout=CALL_TIMEOUT)) as client:
        await client.get(etcd_prefix)
        with network.lost(*((TESTS, member.name) for member in pair.etcd.members)):
            for call in (client.get(etcd_prefix), client.put(f"{etcd_prefix}key", b"2")):
                with lasts_at_most(CALL_TIMEOUT), pytest.raises(SILENT):
                    await call

        async def answers() -> bool:
            return (await client.get(f"{etcd_prefix}key")).revision > 0

        await pair.until(answers, "etcd answers again over the same channels", within=3 + BUSY)


async def test_a_watch_moves_when_the_line_to_its_member_is_dead_and_misses_nothing(
    pair: Pair, network: Network, etcd_prefix: str
):
    first, second, _ = pair.etcd.members
    key = f"{etcd_prefix}key"
    async with (
        aclosing(pair.etcd.client(first)) as watcher,
        aclosing(pair.etcd.client(second)) as writer,
    ):
        start = await writer.put(key, b"before")
        async with aclosing(watcher.watch(key, start)) as batches:
            assert [event.kv.value for event in (await anext(batches)).events] == [b"before"]
            next_batch = asyncio.ensure_future(anext(batches))
            with network.lost((TESTS, first.name)):
                await asyncio.sleep(
                    BUSY + SILENCE
                )  # noticed by now: what is written now comes by another member
                with lasts_at_most(CALL_TIMEOUT):
                    await writer.put(key, b"meanwhile")
                    batch = await next_batch
                assert [event.kv.value for event in batch.events] == [b"meanwhile"]


async def test_an_agent_that_cannot_be_heard_keeps_no_other_from_answering(pair: Pair, network: Network):
    """`GET /cluster` asks the other agent for its word, and answers without it within its own time-out."""
    leader, standby, _ = await pair.leads()
    with network.lost((standby.name, leader.name)), lasts_at_most(4):  # Site.ask gives up after 5
        assert await asked(leader)


async def asked(site: Site) -> bool:
    return (await site.ask("/cluster"))[0] == 200
