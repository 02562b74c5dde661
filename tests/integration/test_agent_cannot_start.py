"""A PostgreSQL that crashes and cannot be started again where it is."""

import pytest

from tests.agents import Pair

pytestmark = pytest.mark.long


async def test_its_agent_gives_the_lead_up_and_its_disk_is_exchanged_for_a_copy(pair: Pair):
    """At once: for a start in place, which ends as soon as it was tried, there would be twenty seconds here."""
    leader, standby, term = await pair.leads()
    number, durability = await pair.write_at(leader, term)
    assert durability == "two-site"
    cloned, given_up = len(leader.events("cloned")), len(leader.events("giving_up"))

    wal = leader.data / "pg_wal"
    wal.rename(wal.with_name("gone"))
    await leader.kill_postgres()
    new_term = await pair.until_leads(standby, above=term)
    reasons = [event["reason"] for event in leader.events("giving_up")[given_up:]]
    assert reasons == ["PostgreSQL cannot be started"]
    await pair.write_at(standby, new_term)
    assert await standby.has(number)

    await pair.until_two_site()
    assert len(leader.events("cloned")) == cloned + 1
    assert await leader.has(number)
    assert (await pair.leads())[0] is standby
