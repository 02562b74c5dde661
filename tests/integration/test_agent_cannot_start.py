"""A PostgreSQL that crashes and cannot be started again where it is."""

from collections.abc import Iterator

import pytest

from tests.agents import Pair, run_pair

IN_PLACE = "restart_within = 20.0"
BRIEFLY = "restart_within = 1.0"

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def agents() -> Iterator[Pair]:
    """As of `tests.agents`, but a start in place is tried for as long as at a real site."""
    with run_pair(lease_ttl=3) as made:
        for site in made.sites:
            text = site.config.read_text()
            assert IN_PLACE in text
            site.config.write_text(text.replace(IN_PLACE, BRIEFLY))
        yield made


async def test_its_agent_gives_the_lead_up_and_its_disk_is_exchanged_for_a_copy(pair: Pair):
    leader, standby, term = await pair.leads()
    number, durability = await pair.write_at(leader, term)
    assert durability == "two-site"
    cloned, given_up = len(leader.events("cloned")), len(leader.events("giving_up"))

    wal = leader.data / "pg_wal"
    wal.rename(wal.with_name("gone"))
    await leader.kill_postgres()
    new_term = await pair.until_leads(standby, above=term)
    assert len(leader.events("giving_up")) == given_up + 1
    await pair.write_at(standby, new_term)
    assert await standby.has(number)

    await pair.until_two_site()
    assert len(leader.events("cloned")) == cloned + 1
    assert await leader.has(number)
    assert (await pair.leads())[0] is standby
