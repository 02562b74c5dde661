"""Real agents and their `[traffic]`: the live site's alone tells it, in every term; one that hangs holds up no swap."""

from typing import Any

from tests.agents import Pair
from tests.integration.test_agent_swap import swap
from tests.sites import Site

# It tells of itself, and then hangs until it is killed.
SCRIPT = "env | sort | grep HOTSITE >&2; sleep 600"
FAILOVER = f"""
[traffic.command]
argv = ["/bin/sh", "-c", "{SCRIPT}"]
deadline = 0.5
"""


async def told(site: Site) -> dict[str, Any]:
    [adapter] = (await site.status())["traffic"]
    return dict(adapter)


async def until_told(pair: Pair, site: Site, reason: str) -> None:
    async def failed() -> bool:
        adapter = await told(site)
        return adapter["state"] == "failed" and reason in adapter["reason"]

    await pair.until(failed, f"{site.node} tells: {reason}")


async def test_an_adapter_that_hangs_is_an_alarm_of_the_live_site_and_holds_up_no_swap(pair: Pair):
    home, away, term = await pair.leads()
    await until_told(pair, home, "/bin/sh did not end within 0.5 s and was killed: HOTSITE_TRAFFIC_REASON=")
    await until_told(pair, home, f" HOTSITE_TRAFFIC_SITE={home.name} HOTSITE_TRAFFIC_TERM={term}")
    assert (await told(away))["state"] == "idle"
    assert (await home.status())["ready"]  # else it would stand in the way of the swap

    await swap(pair, home, away)
    assert await pair.until_leads(away, above=term) == term + 1
    await pair.write_at(away, term + 1)
    reason = f"HOTSITE_TRAFFIC_REASON=swap: a test HOTSITE_TRAFFIC_SITE={away.name} HOTSITE_TRAFFIC_TERM={term + 1}"
    await until_told(pair, away, reason)
    assert (await told(home))["state"] == "idle"
    [event, *_] = away.events("traffic_failed")
    assert (event["adapter"], event["site"], event["term"]) == ("command", away.name, term + 1)
