"""A drill that is ended, breaks off, or meets a lab that is slow to answer; and how long it says that it takes."""

import asyncio
import inspect
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner

from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Globals
from sitecontrol.drills import cli, run
from sitecontrol.drills.drill import Drill
from sitecontrol.drills.outcome import Outcome
from sitecontrol.drills.stage import Stage
from sitecontrol.drills.stories import DRILLS
from sitecontrol.drills.watch import Watch
from sitecontrol.lab import control as lab_control
from sitecontrol.lab import faults
from sitecontrol.lab.control import LabControl
from sitecontrol.lab.errors import LabUnreachableError
from sitecontrol.lab.faults import Fault


class Lab:
    """What is broken in it; it may refuse to be mended."""

    def __init__(self, *, mendable: bool = True) -> None:
        self.struck: list[str] = []
        self.broken = False
        self.mendable = mendable

    async def is_two_site(self) -> bool:
        return not self.broken


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    there = Lab()

    async def strike(_: Any, __: str) -> None:
        there.broken = True

    async def heal(_: Any) -> None:
        if not there.mendable:
            raise LabUnreachableError("the supervisor does not answer")
        there.broken = False

    blow = Fault(name="blow", summary="a blow", strikes="live", strike=strike)
    monkeypatch.setitem(faults.FAULTS, "blow", blow)
    monkeypatch.setattr(faults, "heal", heal)
    monkeypatch.setattr(run, "CONVERGE_WITHIN", 0.1)
    return there


def stage_in(lab: Lab) -> Stage:
    control = cast("LabControl", lab)
    return Stage(control=control, watch=Watch(control), live_before="columbus", term_before=3)


def drill_of(story: Any) -> Drill:
    return Drill(name="one", summary="", story=story, strikes="live", pause_limit=1.0)


async def test_a_drill_that_is_ended_mends_what_it_broke_also_after_it_had_mended_something_before(lab: Lab):
    struck = asyncio.Event()

    async def story(stage: Stage, site: str) -> None:
        await stage.strike("blow", site)
        await stage.heal()
        await stage.strike("blow", site)
        struck.set()
        await asyncio.Event().wait()

    playing = asyncio.create_task(run._play(stage_in(lab), drill_of(story), "columbus"))
    await struck.wait()
    assert lab.broken
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert not lab.broken


async def test_what_was_measured_is_kept_when_the_lab_refuses_something_after_the_blow(lab: Lab):
    async def story(stage: Stage, site: str) -> None:
        await stage.strike("blow", site)
        raise LabUnreachableError("the supervisor does not answer")

    stage = stage_in(lab)
    assert await run._play(stage, drill_of(story), "columbus")
    assert stage.missed == ["the story broke off: the supervisor does not answer"]


async def test_what_was_measured_is_kept_when_nothing_can_be_mended(lab: Lab):
    async def story(stage: Stage, site: str) -> None:
        await stage.strike("blow", site)

    lab.mendable = False
    stage = stage_in(lab)
    assert not await run._play(stage, drill_of(story), "columbus")
    assert any("`sitectl lab heal`" in missed for missed in stage.missed)


async def test_a_story_that_never_struck_has_measured_nothing(lab: Lab):
    async def story(_: Stage, __: str) -> None:
        raise LabUnreachableError("the supervisor does not answer")

    with pytest.raises(LabUnreachableError):
        await run._play(stage_in(lab), drill_of(story), "columbus")


# -- the command


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_in_order_and_tells_of_the_runs_before_it(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
):
    mended: list[str] = []

    async def run_all(
        _options: Any, _orders: Any, _report: Any, outcomes: list[Outcome], *, lenient: bool
    ) -> None:
        told = SimpleNamespace(drill="swap", as_json=lambda: {"drill": "swap"}, ok=True)
        outcomes.append(cast("Outcome", told))
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            mended.append("all")

    series = SimpleNamespace(drill="swap", as_json=dict, ok=True)
    monkeypatch.setattr(cli, "run_all", run_all)
    monkeypatch.setattr(cli, "series_of", lambda _: [series])
    told = CliRunner().invoke(sitectl, ["drill", "run", "swap", "--repeat", "2", "--json"], obj=Globals())
    assert (told.exit_code, mended) == (130, ["all"])
    assert json.loads(told.stdout)["drill"] == "swap"
    assert "run 2 of 2 was ended" in told.stderr
    assert "`sitectl lab heal`" in told.stderr


@pytest.mark.parametrize("drill", DRILLS.values(), ids=list(DRILLS))
def test_a_drill_that_is_shorter_with_quick_says_how_long_it_takes_then(drill: Drill):
    shorter = "quick=" in inspect.getsource(drill.story)
    assert (drill.takes_quick is not None) == shorter
    assert drill.lasts(quick=True) == (drill.takes_quick or drill.takes)
    assert drill.lasts(quick=False) == drill.takes


# -- a supervisor on a busy machine


class Supervisor:
    """Breaks off its first answers."""

    def __init__(self, busy: int) -> None:
        self.busy, self.asked = busy, 0

    async def state(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.asked <= self.busy:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"processes": []})


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[tuple[Supervisor, Any]]:
    supervisor = Supervisor(busy=3)
    app = web.Application()
    app.router.add_get("/state", supervisor.state)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    token, pidfile = tmp_path / "token", tmp_path / "pid"
    token.write_text("secret")
    directory = SimpleNamespace(token_file=token, supervisor_pidfile=pidfile, root=tmp_path)
    yield supervisor, SimpleNamespace(directory=directory, ports=SimpleNamespace(supervisor=port, wan=1))
    await runner.cleanup()


@pytest.mark.parametrize(("patience", "heard"), [(10.0, True), (0.0, False)])
async def test_a_supervisor_that_is_slow_to_answer_is_asked_again(
    patience: float, heard: object, slow: tuple[Supervisor, Any], monkeypatch: pytest.MonkeyPatch
):
    supervisor, plan = slow
    monkeypatch.setattr(lab_control, "read_pid", lambda _: os.getpid())
    async with aiohttp.ClientSession() as session:
        control = LabControl(plan, session, patience=patience)
        if heard:
            assert await control.state() == {"processes": []}
            assert supervisor.asked > supervisor.busy
        else:
            with pytest.raises(LabUnreachableError, match="does not answer"):
                await control.state()
