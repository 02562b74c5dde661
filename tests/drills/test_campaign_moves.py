"""A campaign is under way when its site is lost: the other one feeds and sends the rest, and nobody is told twice.

The carriers take less than the list has, so that rows still wait beside the queue when the blow falls.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sitecontrol.drills import carriers
from sitecontrol.drills.traffic import Access, access_to
from sitecontrol.lab.control import read_lab
from sitecontrol.lab.numbers import fictional_number
from tests.drills.conftest import FOR_A_BUSY_MACHINE
from tests.drills.rehearsal import everything_holds
from tests.labs import running_lab
from tests.waiting import eventually

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900), pytest.mark.long]

ROWS = 10_000
TAKES = "\n[simulator]\nrate = 200.0\n"  # texts a second, of each of two carriers
TEXT = "Campaign row {row}: power will be back at 18:30."
WITHIN = 150.0  # seconds until the last row is delivered


@pytest.fixture
def slow_carriers(tmp_path: Path) -> Iterator[Path]:
    settings = tmp_path / "lab.toml"
    settings.write_text(FOR_A_BUSY_MACHINE + TAKES)
    with running_lab(tmp_path / "lab", "--config", str(settings)) as folder:
        yield folder


async def begun(http: aiohttp.ClientSession, program: str) -> str:
    """Make it, give it its list, start it; its path."""
    asked = {
        "program": program,
        "name": "outage",
        "text": TEXT,
        "variables": [{"name": "row"}],
        "on_doubt": "resend",
    }
    async with http.post("/v1/campaigns", json=asked) as answer:
        path = f"/v1/campaigns/{(await answer.json())['id']}"
    rows = "".join(f"{fictional_number(row)},{row}\n" for row in range(ROWS))
    async with http.put(
        f"{path}/list", data=f"to,row\n{rows}", headers={"Content-Type": "text/csv"}
    ) as answer:
        assert (await answer.json())["texts"] == ROWS
    async with http.post(f"{path}/start") as answer:
        assert answer.ok
    return path


async def get(http: aiohttp.ClientSession, path: str, **query: Any) -> dict[str, Any]:
    async with http.get(path, params=query) as answer:
        assert answer.ok, await answer.text()
        return dict(await answer.json())


async def in_doubt(http: aiohttp.ClientSession, campaign: str, terms: range) -> set[str]:
    """The rows that came into doubt, by their texts."""
    found: set[str] = set()
    for term in terms:
        cursor: dict[str, str] = {}
        while True:
            page = await get(http, "/v1/doubts", term=term, limit=100, **cursor)
            for doubt in page["doubts"]:
                of, _, line = (doubt["reference"] or "").rpartition("/")
                if of == f"campaign/{campaign}":
                    found.add(TEXT.format(row=int(line) - 2))  # the header is line 1
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
    return found


def of_denver(access: Access) -> aiohttp.ClientSession:
    """A client at the site that is not live at first."""
    return aiohttp.ClientSession(
        access.doors["denver"][0][0].url,
        headers={"Authorization": f"Bearer {access.key}"},
        timeout=aiohttp.ClientTimeout(total=30),
    )


async def test_a_campaign_goes_on_at_the_other_site_and_every_row_arrives_once(
    slow_carriers: Path, tmp_path: Path
) -> None:
    plan = read_lab(slow_carriers)
    access = access_to(plan)
    mark = carriers.mark(plan)
    async with of_denver(access) as http:
        path = await begun(http, access.program)
        outcome = await asyncio.to_thread(everything_holds, "site-loss", slow_carriers, tmp_path / "reports")
        fault_at = datetime.fromisoformat(outcome["fault_at"])

        async def delivered() -> bool:
            return bool((await get(http, f"{path}/progress"))["by_state"] == {"delivered": ROWS})

        await eventually(delivered, WITHIN)
        campaign = path.rpartition("/")[2]
        [last] = (await get(http, "/v1/messages", reference=f"campaign/{campaign}/{ROWS + 1}"))["messages"]
        doubtful = await in_doubt(http, campaign, range(outcome["term_before"], outcome["term_after"] + 1))
    received = [r for r in carriers.received_since(plan, mark) if r.text.startswith("Campaign row ")]
    times = [datetime.fromtimestamp(r.wall, UTC) for r in received]
    assert min(times) < fault_at < max(times)
    assert datetime.fromisoformat(last["accepted_at"]) > fault_at  # fed by who leads now
    copies = Counter(r.text for r in received)
    assert copies.keys() == {TEXT.format(row=row) for row in range(ROWS)}
    assert {text for text, times_taken in copies.items() if times_taken > 1} <= doubtful
