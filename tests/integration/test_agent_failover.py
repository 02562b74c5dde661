"""A leader that is lost: what was acknowledged is kept, nobody is let in too early, the old leader comes back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from replication.errors import CommitUnknown, ReplicationError
from replication.session import Session
from tests.agents import WRITE, Pair
from tests.sites import Site

NOT_THE_LEADER = "HS001"


async def test_an_acknowledged_row_survives_the_loss_of_the_leaders_node(pair: Pair):
    leader, standby, term = await pair.leads()
    number, durability = await pair.write_at(leader, term)
    assert durability == "two-site"
    await leader.end()
    await pair.until_leads(standby, above=term)
    assert await standby.has(number)


async def test_a_warm_session_on_the_new_leader_writes_nothing_before_the_row_is_its_own(pair: Pair):
    leader, standby, term = await pair.leads()
    async with standby.dispatcher() as warm:
        await leader.end()
        refused = await refusals_until_it_writes(pair, warm, (term, term + 1))
        assert await standby.select("select term from control.leadership") == term + 1
        # Read-only while in recovery, and refused by the row after it.
        assert refused <= {"25006", NOT_THE_LEADER}
        with pytest.raises(asyncpg.PostgresError) as error:
            await pair.write(warm, term)
        assert error.value.sqlstate == NOT_THE_LEADER


async def refusals_until_it_writes(pair: Pair, session: Session, terms: tuple[int, int]) -> set[str]:
    """Why neither the old nor the new term could write; ends with a write in the new one."""
    old, new = terms
    refused: set[str] = set()

    async def writes() -> bool:
        for term in (old, new):
            try:
                await pair.write(session, term)
            except asyncpg.PostgresError as error:
                refused.add(error.sqlstate or "")
            else:
                assert term == new, "the old term was let in"
                return True
        return False

    await pair.until(writes, "the new leader lets its dispatchers in")
    return refused


async def test_a_server_that_was_promoted_by_hand_lets_nobody_in_and_is_brought_back(pair: Pair):
    leader, standby, term = await pair.leads()
    standby.kill()
    async with standby.dispatcher() as warm, standby.superuser() as superuser:
        await superuser.read("select pg_promote()", timeout=30)
        for claimed in (term, term + 1):
            with pytest.raises(asyncpg.PostgresError) as error:
                await pair.write(warm, claimed)
            assert error.value.sqlstate == NOT_THE_LEADER
    standby.start()
    await pair.until_two_site()
    assert (await pair.leads())[::2] == (leader, term)


async def test_a_crashed_leader_is_closed_until_its_barrier_and_opens_in_the_same_term(pair: Pair):
    leader, standby, term = await pair.leads()
    standby.signal_postgres(signal.SIGSTOP)  # so that the barrier has somebody to wait for
    await leader.kill_postgres()
    refused = []

    async def writes() -> bool:
        async with leader.dispatcher() as session:
            try:
                await pair.write(session, term)
            except asyncpg.PostgresError as error:
                refused.append(error.sqlstate)
                return False
        return True

    await pair.until(writes, "the leader lets its dispatchers in again")
    assert NOT_THE_LEADER in refused
    assert (await pair.leads())[::2] == (leader, term)


async def test_an_old_leader_with_commits_of_its_own_is_rewound_and_follows(pair: Pair):
    leader, standby, term = await pair.leads()
    repairs = len(leader.events("rewound"))
    stray = await lose_with_a_stray_commit(pair, leader)
    await pair.until_leads(standby, above=term)
    leader.start()
    await pair.until_two_site()
    assert len(leader.events("rewound")) == repairs + 1
    assert not await leader.has(stray)
    assert not await standby.has(stray)


async def test_an_old_leader_that_comes_back_before_the_first_checkpoint_is_rewound_all_the_same(pair: Pair):
    leader, standby, term = await pair.leads()
    rewound, cloned = len(leader.events("rewound")), len(leader.events("cloned"))
    checkpointer = await standby.pid_of("checkpointer")
    os.kill(checkpointer, signal.SIGSTOP)
    stray = await lose_with_a_stray_commit(pair, leader)
    await pair.until_leads(standby, above=term)
    leader.start()

    async def was_told_to_wait() -> bool:
        return any("CHECKPOINT" in event["error"] for event in leader.events("effect_failed"))

    await pair.until(was_told_to_wait, "the rewind is put off until the new leader's checkpoint")
    os.kill(checkpointer, signal.SIGCONT)
    await pair.until_two_site()
    assert not await leader.has(stray)
    assert len(leader.events("rewound")) == rewound + 1
    assert len(leader.events("cloned")) == cloned


async def lose_with_a_stray_commit(pair: Pair, leader: Site) -> int:
    """End the leader's node with a commit on its disk that went nowhere else; the row's number."""
    leader.kill()
    os.kill(await leader.pid_of("walsender"), signal.SIGSTOP)
    async with waiting_commit(pair, leader) as number:

        async def on_disk() -> bool:
            return bool(
                await leader.select(
                    "select count(*) = 1 from pg_stat_activity where wait_event = 'SyncRep'"
                    " and query like '%acknowledged%'"
                )
            )

        await pair.until(on_disk, "the commit is on the leader's disk and waits")
        await leader.kill_postgres()
    return number


@asynccontextmanager
async def waiting_commit(pair: Pair, site: Site) -> AsyncIterator[int]:
    """A dispatcher's commit under way, which must not become known."""
    number, term = pair.number(), (await site.select("select term from control.leadership"))
    async with site.dispatcher() as session:
        commit = asyncio.create_task(session.commit(WRITE, term, number, timeout=60))
        try:
            yield number
        finally:
            session.terminate()
            with pytest.raises((CommitUnknown, ReplicationError)):
                await commit


async def test_the_label_says_one_site_without_the_standby_and_two_site_only_after_it_is_in_step(pair: Pair):
    leader, standby, term = await pair.leads()
    async with leader.dispatcher() as session:
        assert (await pair.write(session, term))[1] == "two-site"
        await standby.end()
        assert (await pair.write(session, term, timeout=60))[1] == "one-site"
        standby.start()

        async def two_site() -> bool:
            return (await pair.write(session, term, timeout=60))[1] == "two-site"

        await pair.until(two_site, "a commit is on both sites")
        in_step = (await pair.read_keys())["sync"]["standbys"]
    assert [s["node"] for s in in_step] == [standby.node]


async def test_a_node_out_of_step_never_leads_though_nobody_else_is_there(pair: Pair):
    leader, standby, term = await pair.leads()
    await standby.end()
    async with leader.dispatcher() as session:
        number, durability = await pair.write(session, term, timeout=60)
    assert durability == "one-site"
    await leader.end()
    standby.start()
    await pair.until_rule(standby, "barred")
    leader.start()
    await pair.until_leads(leader)
    assert await leader.has(number)


async def test_a_standby_that_replays_nothing_is_named_and_refused_and_takes_over_whole_when_it_must(
    pair: Pair,
):
    leader, standby, term = await pair.leads()
    await standby.select("select pg_wal_replay_pause()")
    number, durability = await pair.write_at(leader, term)
    assert durability == "two-site"  # received and flushed is what counts

    async def named() -> bool:
        return any("replays nothing" in reason for reason in (await standby.status())["reasons"])

    await pair.until(named, "the standby says that it replays nothing")
    assert (await pair.leads())[0] is leader

    async def refused() -> bool:
        status, answer = await leader.swap(standby, dry_run=True)
        return status == 409 and "replays nothing" in answer["detail"]

    await pair.until(refused, "a swap to it is refused")
    await leader.end()
    new_term = await pair.until_leads(standby, above=term)
    assert await standby.has(number)
    await pair.write_at(standby, new_term)
