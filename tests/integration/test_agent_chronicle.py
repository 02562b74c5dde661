"""What agents tell of changes of leader: how long each phase took, and afterwards what nobody could wait for."""

import signal
from typing import Any

import pytest

from tests.agents import Pair
from tests.sites import Site

pytestmark = pytest.mark.long

PHASES = ["detection", "election", "promotion", "reopening"]


async def told(pair: Pair, site: Site, what: str, *, after: int) -> dict[str, Any]:
    """The entry of the audit log, once it is there; the log must be whole then."""

    async def found() -> dict[str, Any] | None:
        _, log = await site.ask("/audit")
        assert log["flaws"] == []
        return next((e for e in log["audit"] if e["what"] == what and e["number"] > after), None)

    return dict(await pair.until(found, f"the audit log tells: {what}"))


async def newest(site: Site) -> int:
    _, log = await site.ask("/audit")
    return int(log["newest"]["number"])


async def test_a_failover_has_the_duration_of_each_phase_and_the_old_leaders_fence_is_told(pair: Pair):
    leader, standby, term = await pair.leads()
    before = await newest(standby)
    leader.hang()
    await pair.until_leads(standby, above=term)
    done = await told(pair, standby, "failover done", after=before)
    assert done["by"] == f"agent {standby.node}"
    _, history = await standby.ask("/history")
    entry = next(e for e in history["history"] if e["term"] == done["term"])
    assert entry["kind"] == "failover"
    assert list(entry["durations_ms"]) == PHASES
    assert all(ms < 60_000 for ms in entry["durations_ms"].values())

    leader.resume()
    await pair.until_two_site()
    fenced = await told(pair, standby, "fenced", after=before)
    assert (fenced["by"], fenced["through"]) == (f"agent {leader.node}", leader.node)
    assert fenced["evidence"]["rule"] in {"superseded", "lost-proof"}


async def test_a_lead_that_was_given_up_is_told_with_its_reason_once_another_leads(pair: Pair):
    leader, standby, term = await pair.leads()
    before = await newest(standby)

    async def mute_until_given_up() -> bool:
        """While the other agent is not heard, as on a busy machine, PostgreSQL is started again in its place."""
        if (await leader.status())["live"]:
            leader.signal_postgres(signal.SIGSTOP)
        status = await standby.status()
        return bool(status["live"] and status["term"] > term)

    await pair.until(mute_until_given_up, f"{standby.node} leads")
    gave_up = await told(pair, standby, "lead given up", after=before)
    assert gave_up["by"] == f"agent {leader.node}"
    assert gave_up["evidence"]["rule"] == "give-up-mute"
    assert gave_up["reason"] == "PostgreSQL does not answer"
    await pair.until_two_site()
