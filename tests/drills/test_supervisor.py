"""Processes under the supervisor: started again, held down, ended; and nothing of anybody else's touched."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from aiohttp.test_utils import TestClient, TestServer

from sitecontrol.lab import ownership
from sitecontrol.lab.child import Child, ChildState
from sitecontrol.lab.errors import LabRefusedError
from sitecontrol.lab.layout import LabDir
from sitecontrol.lab.pidfiles import read_pid, write_pid
from sitecontrol.lab.plan import Kind, Process
from sitecontrol.lab.supervisor import Supervisor, Targets, control_app
from tests.drills.test_configs import plan_in

SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)",
)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 # the kernel sets no event of ours
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    folder: Path, argv=SLEEPER, *, restart: bool = True, kind: Kind = Kind.AGENT
) -> AsyncIterator[tuple[Child, str]]:
    lab_id = uuid.uuid4().hex
    child = Child(
        Process(name="sleeper", place="columbus", kind=kind, argv=argv),
        log_file=folder / "log",
        pidfile=folder / "pid.json",
        environment={**os.environ, ownership.MARK: lab_id},
        restart=restart,
    )
    child.start()
    await until(lambda: child.pid is not None)
    try:
        yield child, lab_id
    finally:
        await child.stop(5)


async def test_what_dies_is_started_again(tmp_path: Path) -> None:
    async with running(tmp_path) as (child, _):
        first = child.pid
        child.kill_group()
        await until(lambda: child.pid not in (first, None))
        assert child.restarts == 1
        assert child.last_exit == -signal.SIGKILL


async def test_what_is_held_stays_down_until_released(tmp_path: Path) -> None:
    async with running(tmp_path) as (child, _):
        child.expect_death(hold=True)
        child.kill_group()
        await until(lambda: child.state is ChildState.HELD)
        assert child.pid is None
        child.release()
        await until(lambda: child.pid is not None)


async def test_a_kill_takes_back_a_release_that_had_yet_to_come(tmp_path: Path) -> None:
    async with running(tmp_path) as (child, _):
        child.expect_death(hold=True)
        child.kill_group()
        await until(lambda: child.state is ChildState.HELD)
        child.release(after=0.2)
        child.expect_death(hold=True)
        await asyncio.sleep(0.4)  # nothing is to happen: there is no signal to wait on
        assert child.state is ChildState.HELD


async def test_a_kill_that_does_not_hold_leaves_a_coming_release_of_the_dead_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as (child, _):
        child.expect_death(hold=True)
        child.kill_group()
        await until(lambda: child.state is ChildState.HELD)
        child.release(after=0.1)
        child.expect_death(hold=False)
        await until(lambda: child.pid is not None)


async def test_what_waits_to_be_started_again_stays_down_when_a_fault_then_holds_it(tmp_path: Path) -> None:
    async with running(tmp_path) as (child, _):
        child.kill_group()
        await until(lambda: child.state is ChildState.WAITING)
        child.expect_death(hold=True)
        await until(lambda: child.state is ChildState.HELD)
        assert child.pid is None


async def test_the_next_fault_stands_though_the_lab_was_healed_a_moment_before(tmp_path: Path) -> None:
    """The second wave of a heal comes a second later: by then another fault may have struck."""
    async with running(tmp_path, kind=Kind.DISPATCHER) as (child, _):
        supervisor = Supervisor(plan_in(tmp_path / "lab"), head_start=0.2)
        supervisor.children = {"sleeper": child}
        await supervisor.kill(Targets(processes=("sleeper",), hold=True))
        await until(lambda: child.state is ChildState.HELD)
        supervisor.release()
        await supervisor.kill(Targets(processes=("sleeper",), hold=True))
        await asyncio.sleep(0.4)  # nothing is to happen
        assert child.state is ChildState.HELD


async def test_without_restart_the_dead_stay_dead(tmp_path: Path) -> None:
    async with running(tmp_path, restart=False) as (child, _):
        child.kill_group()
        await until(lambda: child.state is ChildState.DEAD)


async def test_a_process_that_ignores_sigterm_is_killed_at_the_end(tmp_path: Path) -> None:
    async with running(tmp_path, STUBBORN) as (child, _):
        await until(lambda: b"on" in (tmp_path / "log").read_bytes())
        pid = child.pid
        assert pid is not None
        await child.stop(0.1)
        assert not psutil.pid_exists(pid)


async def test_a_program_that_is_missing_does_not_end_the_supervisor(tmp_path: Path) -> None:
    child = Child(
        Process(name="none", place="columbus", kind=Kind.AGENT, argv=("/nonexistent",)),
        log_file=tmp_path / "log",
        pidfile=tmp_path / "pid.json",
        environment={},
        restart=True,
    )
    child.start()
    await until(lambda: child.restarts >= 2)
    await child.stop(5)


async def test_the_mark_finds_grandchildren_and_nothing_else(tmp_path: Path) -> None:
    script = f"import subprocess; subprocess.run({SLEEPER!r}, start_new_session=True)"
    parent = (sys.executable, "-c", script)
    with subprocess.Popen(SLEEPER) as stranger:  # noqa: ASYNC220 # it only has to be there
        async with running(tmp_path, parent, restart=False) as (child, lab_id):
            await until(lambda: len(ownership.processes_of([lab_id], [])) == 2)
            assert await asyncio.to_thread(ownership.end, [lab_id], [], within=2) == 2
            assert ownership.processes_of([lab_id], []) == []
            await until(lambda: child.state is ChildState.DEAD)
        assert stranger.poll() is None
        stranger.kill()


def test_a_pid_file_does_not_name_a_process_that_took_over_the_number(tmp_path: Path) -> None:
    file = tmp_path / "pid.json"
    write_pid(file, os.getpid())
    assert read_pid(file) == os.getpid()
    file.write_text(file.read_text().replace('"started":', '"started":1'))
    assert read_pid(file) is None


@pytest.mark.parametrize("content", ["", "{}", "17", '{"pid": "x"}'])
def test_a_broken_pid_file_names_nobody(tmp_path: Path, content: str) -> None:
    file = tmp_path / "pid.json"
    file.write_text(content)
    assert read_pid(file) is None


def test_a_second_supervisor_of_one_lab_is_refused(tmp_path: Path) -> None:
    lab_dir = LabDir.at(tmp_path / "lab")
    lab_dir.create()
    with lab_dir.running():
        assert lab_dir.is_running
        with pytest.raises(LabRefusedError, match="is running"), lab_dir.running():
            pass
    assert not lab_dir.is_running


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(LabRefusedError, match="not a lab"):
        LabDir.at(tmp_path).create()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"processes": ["nobody"]}',
        b'{"postgres": ["../witness"]}',
        b'{"signal": "USR1"}',
        b'{"why": 1}',
    ],
)
async def test_a_fault_that_is_not_understood_is_refused_and_strikes_nobody(
    tmp_path: Path, body: bytes
) -> None:
    supervisor = Supervisor(plan_in(tmp_path / "lab"))
    async with TestClient(TestServer(control_app(supervisor, "token"))) as client:
        for path in ("/kill", "/signal"):
            answer = await client.post(path, data=body, headers={"Authorization": "Bearer token"})
            assert answer.status == 400
            assert await answer.text()
