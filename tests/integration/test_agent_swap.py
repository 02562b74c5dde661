"""The planned swap on real nodes: there and back, refused, and rolled back."""

import asyncio
import signal

from sitecontrol.agent.asking import MEANWHILE
from sitecontrol.records import Phase
from tests.agents import Pair
from tests.sites import Site

DONE = (
    Phase.CHECKED,
    Phase.HELD,
    Phase.FLUSHED,
    Phase.HANDED,
    Phase.PROMOTED,
    Phase.OPENED,
    Phase.FOLLOWING,
    Phase.IN_STEP,
)
MUCH = "create table public.much as select n, repeat('x', 500) as x from generate_series(1, 16000) as n"
CHECKPOINTED = """
    select timeline_id = ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int as checkpointed
    from pg_control_checkpoint()
"""


async def test_a_swap_there_and_back_moves_the_lead_without_a_rewind_or_a_clone(pair: Pair):
    home, away, term = await pair.leads()
    number, _ = await pair.write_at(home, term)
    before = home.repairs(), away.repairs()
    incarnations = [(await site.status())["postgres"]["incarnation"] for site in (home, away)]

    await swap(pair, home, away)
    assert await pair.until_leads(away, above=term) == term + 1
    await pair.write_at(away, term + 1)
    await swap(pair, away, home)
    assert await pair.until_leads(home, above=term + 1) == term + 2

    assert await home.has(number)
    assert (home.repairs(), away.repairs()) == before
    assert [(await site.status())["postgres"]["incarnation"] for site in (home, away)] == incarnations


async def test_after_a_swap_there_and_back_the_standby_still_leads_when_the_leaders_node_dies(pair: Pair):
    """Its control file is still on an older timeline then, and the walreceiver that knew better is gone."""
    home, away, term = await pair.leads()
    await swap(pair, home, away)
    await swap(pair, away, home)
    number, _ = await pair.write_at(home, term + 2)
    await home.end()
    await pair.until_leads(away, above=term + 2)
    assert await away.has(number)


async def test_a_promoted_leader_takes_a_checkpoint_at_once_though_postgresql_would_take_its_time(pair: Pair):
    """By its checkpoint alone, not by the end of recovery, is a leader known on its timeline to one that is rewound."""
    home, away, _ = await pair.leads()
    async with home.superuser() as session:  # enough to write that PostgreSQL spreads it over minutes
        await session.commit(MUCH, timeout=20.0)
    await swap(pair, home, away)

    async def told() -> bool:
        async with away.superuser() as session:
            [row] = await session.read(CHECKPOINTED, timeout=5.0)
        return bool(row["checkpointed"])

    await pair.until(told, "its control file tells the new timeline")


async def test_a_swap_leaves_one_record_with_every_phase_and_how_long_it_took(pair: Pair):
    home, away, term = await pair.leads()
    await swap(pair, home, away)
    _, told = await away.ask("/history")
    (entry,) = [e for e in told["history"] if e["term"] == term + 1]
    assert (entry["kind"], entry["node"], entry["by"], entry["reason"]) == (
        "swap",
        away.node,
        "tester",
        "a test",
    )
    assert [step["phase"] for step in entry["steps"]] == list(DONE)
    assert list(entry["durations_ms"]) == list(DONE)
    assert "swap" not in await pair.read_keys()


async def swap(pair: Pair, leader: Site, to: Site) -> None:
    """Ask for it, and wait until it is done and both sites are in step."""
    asked, answer = await leader.swap(to)
    assert asked == 202, answer
    await until_ended(pair, answer["id"])


async def until_ended(pair: Pair, swap_id: str) -> None:
    async def ended() -> bool:
        return any(e.get("evidence", {}).get("id") == swap_id for e in await pair.history())

    await pair.until(ended, "the swap has ended")
    await pair.until_two_site()


async def test_a_swap_to_a_node_out_of_step_is_refused_with_the_reason_and_nothing_moves(pair: Pair):
    leader, standby, term = await pair.leads()
    await standby.end()

    async def one_site() -> bool:
        return (await leader.status())["durability"] == "one-site"

    await pair.until(one_site, "the standby has left step")
    for dry_run in (True, False):
        status, answer = await leader.swap(standby, dry_run=dry_run)
        assert status == 409
        assert f"{standby.node} is not in step: it might lack acknowledged messages" in answer["obstacles"]
    assert "swap" not in await pair.read_keys()
    assert (await pair.leads())[::2] == (leader, term)
    await pair.write_at(leader, term)


async def test_of_two_swaps_asked_for_at_once_at_both_sites_one_is_made_and_the_other_refused(pair: Pair):
    home, away, term = await pair.leads()
    answers = await asyncio.gather(home.swap(away), away.swap(away))
    begun, refused = ([told for status, told in answers if status == wanted] for wanted in (202, 409))
    assert (len(begun), len(refused)) == (1, 1), answers
    [made] = [told["id"] for told in begun]
    assert (
        f"swap {made} to {away.node} is in progress" in refused[0]["detail"]
        or refused[0]["detail"] == MEANWHILE
    )
    status, third = await home.swap(home)  # back again, before it has gone
    assert status == 409
    assert any(f"swap {made} to {away.node} is in progress" in one for one in third["obstacles"])
    await until_ended(pair, made)
    assert await pair.until_leads(away, above=term) == term + 1
    assert [(e["kind"], e["term"]) for e in await pair.history() if e["term"] > term] == [("swap", term + 1)]


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(pair: Pair):
    leader, standby, term = await pair.leads()
    status, answer = await leader.swap(standby, dry_run=True)
    assert (status, answer["would"], answer["obstacles"]) == (200, "swap", [])
    assert "swap" not in await pair.read_keys()
    assert (await pair.leads())[2] == term


async def test_a_swap_whose_target_hangs_is_rolled_back_and_the_old_leader_serves_again(pair: Pair):
    leader, standby, term = await pair.leads()
    status, answer = await leader.swap(standby)
    assert status == 202, answer

    async def held() -> bool:
        return (await pair.read_keys())["swap"]["phase"] == Phase.HELD

    await pair.until(held, "requests are held")
    standby.signal_postgres(signal.SIGSTOP)

    async def ended() -> bool:
        return "swap" not in await pair.read_keys()

    await pair.until(ended, "the swap has ended")
    assert await pair.until_leads(leader) == term
    await pair.write_at(leader, term)
    (entry,) = [e for e in await pair.history() if e.get("evidence", {}).get("id") == answer["id"]]
    assert entry["kind"] == "swap rolled back"
    assert entry["steps"][-1]["phase"] == Phase.ROLLED_BACK
