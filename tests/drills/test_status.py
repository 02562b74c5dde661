"""What `lab status` tells when parts of the lab do not answer, and what a heal then still does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from sitecontrol.lab import faults, render
from sitecontrol.lab.control import LabControl
from sitecontrol.lab.errors import LabUnreachableError
from sitecontrol.lab.plan import Plan
from sitecontrol.lab.status import is_whole, status_of, status_table
from tests.drills.test_configs import plan_in
from tests.etcd import free_ports


def process_of(plan: Plan) -> list[dict[str, object]]:
    return [
        {"name": p.name, "place": p.place, "kind": p.kind.value, "pid": 4711, "state": "running", "restarts": 0,
         "last_exit": None, "url": p.url}
        for p in plan.processes
    ]  # fmt: skip


@asynccontextmanager
async def supervisor_only(folder: Path) -> AsyncIterator[tuple[LabControl, list[str]]]:
    """A lab of which nobody answers but its supervisor."""
    plan = plan_in(folder, base_port=free_base())
    render.write_all(plan, {})
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"id": "test", "pid": 42, "restart": True, "processes": process_of(plan)})

    app = web.Application()
    app.add_routes([web.get("/state", answer), web.post("/release", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", plan.ports.supervisor).start()
    try:
        async with aiohttp.ClientSession() as session:
            yield LabControl(plan, session), asked
    finally:
        await runner.cleanup()


def free_base() -> int:
    """Only the supervisor's port has to be free, and the emulator's and the agents' without a listener."""
    return free_ports(1)[0] - 29


async def test_without_the_emulator_its_lines_are_unknown_and_the_rest_is_told(tmp_path: Path) -> None:
    async with supervisor_only(tmp_path / "lab") as (control, _):
        status = await status_of(control)
    assert status["lines"] is None
    assert status["supervisor"] == {"pid": 42}
    assert {p["name"] for p in status["processes"]} == {p.name for p in control.plan.processes}
    assert status["live_site"] is None
    assert not is_whole(status)
    assert "lines unknown" in str(status_table(status).title)


async def test_a_lab_is_not_whole_while_its_lines_are_unknown(tmp_path: Path) -> None:
    async with supervisor_only(tmp_path / "lab") as (control, _):
        status = await status_of(control) | {"durability": "two-site"}
    assert not is_whole(status)
    assert is_whole(status | {"lines": []})


async def test_a_heal_without_the_emulator_says_so_and_still_lets_everything_run(tmp_path: Path) -> None:
    async with supervisor_only(tmp_path / "lab") as (control, asked):
        with pytest.raises(LabUnreachableError, match="WAN emulator does not answer"):
            await faults.heal(control)
    assert asked == ["/release"]
