"""What `lab status` tells when parts of the lab do not answer, and what a heal then still does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Exit
from sitecontrol.lab import faults, render
from sitecontrol.lab.control import LabControl
from sitecontrol.lab.errors import LabUnreachableError
from sitecontrol.lab.plan import Plan
from sitecontrol.lab.status import is_whole, status_of, status_table
from tests.drills.test_configs import plan_in
from tests.labs import free_base

LINE = {
    "source": "columbus",
    "destination": "denver",
    "delay_ms": 17.5,
    "cut": True,
    "connections": 1,
    "bytes": 9,
}


def process_of(plan: Plan) -> list[dict[str, object]]:
    return [
        {"name": p.name, "place": p.place, "kind": p.kind.value, "pid": 4711, "state": "running", "restarts": 0,
         "last_exit": None, "url": p.url}
        for p in plan.processes
    ]  # fmt: skip


@dataclass
class Lab:
    """Stand-ins for a lab's own processes; what they were asked, in order."""

    plan: Plan
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, await request.json() if request.can_read_body else None))
        return web.json_response(
            {"id": "test", "pid": 42, "restart": True, "processes": process_of(self.plan), "lines": [LINE]}
        )

    @property
    def acts(self) -> list[tuple[str, Any]]:
        return [(path, body) for path, body in self.asked if path != "/state"]

    async def sitectl(self, *words: str) -> Result:
        command = [*words, "--dir", str(self.plan.directory.root)]
        return await asyncio.to_thread(CliRunner().invoke, sitectl, command)


@asynccontextmanager
async def standing_in(folder: Path, *, wan: bool) -> AsyncIterator[Lab]:
    """A lab of which nobody answers but its supervisor and, if so wanted, the WAN emulator."""
    plan = plan_in(folder, base_port=free_base())
    render.write_all(plan, {})
    lab = Lab(plan)
    app = web.Application()
    app.router.add_route("*", "/{path}", lab.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        for port in (plan.ports.supervisor, *([plan.ports.wan] if wan else [])):
            await web.TCPSite(runner, "127.0.0.1", port).start()
        yield lab
    finally:
        await runner.cleanup()


@asynccontextmanager
async def supervisor_only(folder: Path) -> AsyncIterator[tuple[LabControl, Lab]]:
    async with standing_in(folder, wan=False) as lab, aiohttp.ClientSession() as session:
        yield LabControl(lab.plan, session), lab


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
    async with supervisor_only(tmp_path / "lab") as (control, lab):
        with pytest.raises(LabUnreachableError, match="WAN emulator does not answer"):
            await faults.heal(control)
    assert [path for path, _ in lab.acts] == ["/release"]


# -- the commands


async def test_status_is_one_document_or_a_table_and_the_exit_code_says_degraded(tmp_path: Path) -> None:
    async with standing_in(tmp_path / "lab", wan=True) as lab:
        as_json = await lab.sitectl("lab", "status", "--json")
        table = await lab.sitectl("lab", "status")
    assert (as_json.exit_code, table.exit_code) == (Exit.DEGRADED, Exit.DEGRADED)
    document = json.loads(as_json.stdout)
    assert document["lines"] == [LINE]
    assert "cut: columbus → denver" in " ".join(table.stdout.split())
    for process in document["processes"]:
        assert process["name"] in table.stdout


async def test_status_without_the_emulator_is_told_all_the_same(tmp_path: Path) -> None:
    async with standing_in(tmp_path / "lab", wan=False) as lab:
        told = await lab.sitectl("lab", "status", "--json")
    assert told.exit_code == Exit.DEGRADED
    assert json.loads(told.stdout)["lines"] is None


async def test_a_fault_strikes_what_it_names_and_says_where(tmp_path: Path) -> None:
    async with standing_in(tmp_path / "lab", wan=True) as lab:
        cut = await lab.sitectl("lab", "fault", "wan-cut", "--site", "columbus", "--json")
        killed = await lab.sitectl("lab", "fault", "dispatcher-crash", "--site", "denver")
    assert json.loads(cut.stdout) == {"fault": "wan-cut", "site": "columbus", "healed": False}
    assert killed.exit_code == Exit.DONE
    assert "dispatcher-crash at denver" in killed.stdout
    assert lab.acts == [
        ("/cut", {"source": "columbus", "destination": "denver", "both": True}),
        (
            "/kill",
            {"processes": ["denver-dispatcher-1"], "postgres": [], "hold": False, "postmaster_only": False},
        ),
    ]


async def test_a_fault_for_a_time_is_healed_afterwards(tmp_path: Path) -> None:
    async with standing_in(tmp_path / "lab", wan=True) as lab:
        told = await lab.sitectl("lab", "fault", "one-way", "--site", "denver", "--for", "0", "--json")
    assert json.loads(told.stdout) == {"fault": "one-way", "site": "denver", "healed": True}
    assert [path for path, _ in lab.acts] == ["/cut", "/heal", "/release"]


async def test_without_a_leader_a_fault_wants_its_site_named(tmp_path: Path) -> None:
    async with standing_in(tmp_path / "lab", wan=True) as lab:
        told = await lab.sitectl("lab", "fault", "site-loss")
    assert told.exit_code == Exit.REFUSED
    assert "--site" in told.stderr
    assert lab.acts == []


async def test_heal_mends_the_lines_and_lets_everything_run(tmp_path: Path) -> None:
    async with standing_in(tmp_path / "lab", wan=True) as lab:
        told = await lab.sitectl("lab", "heal", "--json")
    assert (told.exit_code, json.loads(told.stdout)) == (Exit.DONE, {"healed": True})
    assert [path for path, _ in lab.acts] == ["/heal", "/release"]
