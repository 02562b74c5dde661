"""A whole `swap` record that decodes, and that no swap can have written, in each phase: beside two real agents."""

from datetime import UTC, datetime

import pytest

from sitecontrol.records import Phase, Swap
from tests.agents import Pair, steady_writing

pytestmark = pytest.mark.long

FAILOVER = "swap_follow_within = 10"


FORGED = (
    "to-an-unknown-node",
    "from-an-unknown-node",
    "from-the-other",
    "of-a-term-to-come",
    "arrived-from-nowhere",
)


def forge(kind: str, phase: Phase, *, leader: str, standby: str, term: int) -> Swap:
    changed: dict[str, dict[str, str | int]] = {
        "to-an-unknown-node": {"to_node": "nobody-a"},
        "from-an-unknown-node": {"from_node": "nobody-a"},
        "from-the-other": {"from_node": standby, "to_node": leader},
        "of-a-term-to-come": {"term": term + 7},
        "arrived-from-nowhere": {"from_node": "nobody-a", "to_node": leader, "term": term - 1},
    }
    parties = {"from_node": leader, "to_node": standby, "term": term}
    told = {
        "id": f"forged-{phase.name.lower()}",
        "by": "nobody",
        "phase": phase,
        "requested_at": datetime.now(UTC),
    }
    return Swap.model_validate(told | parties | changed[kind])


@pytest.mark.parametrize("kind", FORGED)
async def test_a_forged_swap_moves_nothing_in_any_phase_and_ends_by_itself(pair: Pair, kind: str):
    """Nobody is fenced or dies of it, what is written meanwhile is acknowledged, and the history tells of its end."""
    leader, standby, term = await pair.leads()
    if term == 1:  # there is a term before, in which such a swap could have been asked for
        assert (await leader.swap(standby))[0] == 202
        await pair.until_leads(standby, above=term)
        await pair.until_two_site()
        leader, standby, term = await pair.leads()
    fenced = len(leader.events("fencing"))
    async with steady_writing(pair, leader, term), pair.keys() as etcd:
        for phase in Phase:
            forged = forge(kind, phase, leader=leader.node, standby=standby.node, term=term)
            await etcd.put(pair.prefix + "swap", forged.encode())

            async def ended() -> bool:
                return (await etcd.get(pair.prefix + "swap")).one is None

            await pair.until(ended, f"the record in phase {phase.value} is ended")
    assert (await pair.leads())[::2] == (leader, term)
    assert leader.runs
    assert standby.runs
    assert len(leader.events("fencing")) == fenced
    told = [
        entry
        for entry in await pair.history()
        if (entry.get("evidence") or {}).get("id", "").startswith("forged")
    ]
    assert told, "that it was there, and how it ended"
