"""Wall clocks that are an hour wrong, at one site and at both: nobody who decides anything looks at them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.agents import Pair, steady_writing
from tests.sites import Site

LEASE_TTL = 8  # an agent must be able to start again within it, on a busy machine
HOUR = 3_600.0
NEAR = 60.0  # seconds
# Python imports this before an agent's first line. Its other clock, which counts seconds since the boot, stays right.
JUMPED = """
from datetime import timedelta
from sitecontrol.clock import SystemClock

right = SystemClock.wall
SystemClock.wall = lambda clock: right(clock) + timedelta(seconds={seconds})
"""

pytestmark = pytest.mark.long


async def jump(pair: Pair, site: Site, folder: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its agent is started again with a wall clock that is wrong, within its lease; wait until it tells so."""
    here = folder / f"{site.name}{seconds:+.0f}"
    here.mkdir()
    (here / "sitecustomize.py").write_text(JUMPED.format(seconds=seconds))
    monkeypatch.setenv("PYTHONPATH", f"{here}:{Path(__file__).parents[2]}")
    site.kill()
    site.start()

    async def tells_its_own_time() -> bool:
        told = (await pair.read_keys())[f"members/{site.node}"]["wall"]
        off = datetime.fromisoformat(told) - datetime.now(UTC)
        return abs(off.total_seconds() - seconds) < NEAR

    await pair.until(tells_its_own_time, f"{site.node} is {seconds:+.0f} s off")
    await pair.until_two_site()


async def test_a_wall_clock_an_hour_wrong_moves_nothing_and_stands_in_no_ones_way(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    leader, standby, term = await pair.leads()
    try:
        async with steady_writing(pair, leader, term):
            await jump(pair, leader, tmp_path, HOUR, monkeypatch)
            assert (await pair.leads())[::2] == (leader, term)
            await jump(pair, standby, tmp_path, -HOUR, monkeypatch)
        assert (await pair.leads())[::2] == (leader, term)
        assert (await leader.swap(standby))[0] == 202
        swapped = await pair.until_leads(standby, above=term)
        await pair.until_two_site()  # led by the one that is behind
        await standby.end()
        await pair.until_leads(leader, above=swapped)
    finally:
        monkeypatch.undo()
        for site in pair.sites:
            site.kill()
