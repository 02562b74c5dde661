"""Two agents whose [failover] is not the same: both tell it, no swap is begun across it, and production stays."""

import pytest

from tests.agents import LEASE_TTL, Pair
from tests.sites import Site

pytestmark = pytest.mark.long


def start_with(site: Site, config: str) -> None:
    site.config.write_text(config)
    site.kill()
    site.start()


async def test_a_swap_across_leases_of_different_length_is_refused_with_both_and_nothing_moves(pair: Pair):
    leader, standby, term = await pair.leads()
    alike = standby.config.read_text()
    longer = LEASE_TTL + 1
    ours, theirs = f"lease_ttl = {LEASE_TTL}\n", f"lease_ttl = {longer}\n"
    assert ours in alike
    said = f"failover.lease_ttl is {LEASE_TTL} at {leader.node} and {longer} at {standby.node}"
    reverse = f"failover.lease_ttl is {longer} at {standby.node} and {LEASE_TTL} at {leader.node}"

    async def told() -> bool:
        return (await leader.status())["settings_differ"] == [said] and (await standby.status())[
            "settings_differ"
        ] == [reverse]

    async def told_no_more() -> bool:
        return all([(await site.status())["settings_differ"] == [] for site in pair.sites])

    try:
        start_with(standby, alike.replace(ours, theirs))
        await pair.until(told, "both agents tell that their settings differ")
        await pair.until_two_site()
        for dry_run in (True, False):
            status, answer = await leader.swap(standby, dry_run=dry_run)
            assert status == 409
            assert answer["obstacles"] == [f"{said}: make it alike and start the agent again"]
        assert (await leader.ask("/cluster"))[1]["settings_differ"] == [said]
        assert "swap" not in await pair.read_keys()
        assert (await pair.leads())[::2] == (leader, term)
        assert (await pair.write_at(leader, term))[1] == "two-site"
    finally:
        start_with(standby, alike)
    await pair.until(told_no_more, "they are alike again")
    await pair.until_two_site()
    assert (await leader.swap(standby, dry_run=True))[0] == 200
