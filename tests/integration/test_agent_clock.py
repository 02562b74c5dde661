"""Wall clocks that jump by an hour, forward at one site and back at the other: nobody who decides looks at them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.agents import Pair, steady_writing
from tests.sites import Site

LEASE_TTL = 8  # an agent must be able to start again within it, on a busy machine
HOUR = 3_600.0
NEAR = 60.0  # seconds
# Python imports this before an agent's first line. Its other clock, which counts seconds since the boot, stays right.
JUMPS = """
from datetime import timedelta
from pathlib import Path
from sitecontrol.clock import SystemClock

jumped = Path({jumped!r})
right = SystemClock.wall
SystemClock.wall = lambda clock: right(clock) + timedelta(seconds={seconds} if jumped.exists() else 0)
"""

pytestmark = pytest.mark.long


def start_again(site: Site, folder: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its agent, within its lease, with a wall clock that jumps as soon as there is a file of the path returned."""
    here = folder / site.name
    here.mkdir()
    jumped = here / "jumped"
    (here / "sitecustomize.py").write_text(JUMPS.format(jumped=str(jumped), seconds=seconds))
    monkeypatch.setenv("PYTHONPATH", f"{here}:{Path(__file__).parents[2]}")
    site.kill()
    site.start()
    return jumped


async def off(pair: Pair, site: Site) -> float:
    """Seconds, by what its agent writes of itself."""
    told = (await pair.read_keys())[f"members/{site.node}"]["wall"]
    return (datetime.fromisoformat(told) - datetime.now(UTC)).total_seconds()


async def test_a_wall_clock_that_jumps_by_an_hour_moves_nothing_and_stands_in_no_ones_way(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    leader, standby, term = await pair.leads()
    try:
        jumps = [
            (site, start_again(site, tmp_path, seconds, monkeypatch), seconds)
            for site, seconds in ((leader, HOUR), (standby, -HOUR))
        ]
        await pair.until_two_site()
        async with steady_writing(pair, leader, term):
            for site, jumped, seconds in jumps:
                assert abs(await off(pair, site)) < NEAR
                jumped.touch()

                async def tells(site: Site = site, seconds: float = seconds) -> bool:
                    return abs(await off(pair, site) - seconds) < NEAR

                await pair.until(tells, f"{site.node} is {seconds:+.0f} s off")
                await pair.until_two_site()
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
