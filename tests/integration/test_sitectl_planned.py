"""`sitectl swap --at` against two real agents: the leader's agent moves production at that time."""

from pathlib import Path

import pytest

from sitecontrol.cli.session import Exit
from tests.agents import Pair
from tests.integration.test_sitectl import sitectl

pytestmark = pytest.mark.long


@pytest.fixture
def config(pair: Pair) -> Path:
    return pair.columbus.config


async def test_a_planned_swap_is_cancelled_refused_and_made_at_its_time(pair: Pair, config: Path):
    leader, standby, term = await pair.leads()
    number, _ = await pair.write_at(leader, term)
    far = await sitectl("swap", "--to", standby.name, "--at", "+1h", "--yes", config=config)
    assert far.code == Exit.DONE, far.err
    assert "is planned for" in (await sitectl("status", config=config)).out
    assert (await sitectl("swap", "--cancel", config=config)).code == Exit.DONE
    assert "is planned for" not in (await sitectl("status", config=config)).out

    words = ("swap", "--at", "+2s", "--yes", "--json")
    back = await sitectl(*words, "--to", leader.name, config=config)
    refused = back.document["planned"]["id"]

    async def ended() -> bool:
        told = (await sitectl("history", "--json", config=config)).document
        return any(e["evidence"].get("id") == refused and "leads already" in e["reason"] for e in told)

    await pair.until(ended, "the history tells that nothing moved")
    assert (await pair.leads())[2] == term

    away = await sitectl(*words, "--to", standby.name, "--reason", "new UPS", config=config)
    assert away.code == Exit.DONE, away.err
    await pair.until_leads(standby, above=term)
    await pair.until_two_site()
    assert await standby.has(number)
    log = (await sitectl("audit", "--json", config=config)).document
    assert log["flaws"] == []
    assert {"swap planned", "planned swap cancelled", "swap rolled back", "swap done"} <= {
        e["what"] for e in log["audit"]
    }
    [moved] = [
        e
        for e in (await sitectl("history", "--json", config=config)).document
        if e["evidence"].get("id") == away.document["planned"]["id"]
    ]
    assert (moved["kind"], moved["node"], moved["reason"]) == ("swap", standby.node, "new UPS")
