"""The operator's own program: what it is told, and what becomes of one that fails, hangs or talks without end."""

import asyncio
import os
import time
from pathlib import Path

import psutil
import pytest

from sitecontrol.settings import CommandTraffic
from sitecontrol.traffic.api import AdapterFailed, Move
from sitecontrol.traffic.command import CommandAdapter
from tests.waiting import eventually

HERE = Move(site="columbus", term=7, reason='failover: "$(rm -rf /)"; the other site is gone')
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "HOTSITE_SECRET_OPERATOR_TOKEN": "sesame"}


def adapter(script: str, *arguments: str, deadline: float = 20.0, check: str | None = None) -> CommandAdapter:
    settings = CommandTraffic(
        argv=("/bin/sh", "-c", script, *arguments),
        check_argv=("/bin/sh", "-c", check) if check else (),
        deadline=deadline,
    )
    return CommandAdapter(settings, ENVIRONMENT)


async def refusal(tried: CommandAdapter) -> str:
    with pytest.raises(AdapterFailed) as failed:
        await tried.point_to(HERE)
    return str(failed.value)


async def test_it_learns_site_term_and_reason_and_none_of_our_secrets(tmp_path: Path) -> None:
    told = tmp_path / "told"
    await adapter('env > "$0"', str(told)).point_to(HERE)
    lines = told.read_text().splitlines()
    assert sorted(line for line in lines if line.startswith("HOTSITE_")) == [
        f"HOTSITE_TRAFFIC_REASON={HERE.reason}",
        "HOTSITE_TRAFFIC_SITE=columbus",
        "HOTSITE_TRAFFIC_TERM=7",
    ]
    assert "HOME=/nowhere" in lines


async def test_its_arguments_are_read_by_no_shell(tmp_path: Path) -> None:
    target = tmp_path / "$(touch broken); a name"
    settings = CommandTraffic(argv=("/usr/bin/touch", str(target)))
    await CommandAdapter(settings, ENVIRONMENT).point_to(HERE)
    assert target.exists()


async def test_a_failure_is_told_with_its_status_and_the_end_of_its_stderr() -> None:
    told = await refusal(adapter("echo 'no route' >&2; echo '  to the router' >&2; exit 3"))
    assert told == "/bin/sh ended with status 3: no route to the router"
    assert await refusal(adapter("kill -TERM $$")) == "/bin/sh was ended by SIGTERM"


async def test_noise_without_end_neither_blocks_it_nor_is_kept() -> None:
    noise = "head -c 5000000 /dev/zero | tr '\\0' x >&2; head -c 5000000 /dev/zero; echo the end >&2; exit 1"
    told = await refusal(adapter(noise))
    assert told.endswith("xxxthe end")
    assert len(told) < 400


async def test_a_program_that_hangs_is_killed_at_its_deadline_with_all_that_it_started(
    tmp_path: Path,
) -> None:
    pids = tmp_path / "pids"
    script = 'trap "" TERM; sleep 600 & echo $! > "$0"; echo $$ >> "$0"; echo waiting >&2; wait; sleep 600'
    began = time.monotonic()
    told = await refusal(adapter(script, str(pids), deadline=1.0))
    assert told == "/bin/sh did not end within 1 s and was killed: waiting"
    assert time.monotonic() - began < 10
    started = [int(line) for line in pids.read_text().split()]
    await eventually(lambda: not any(_runs(pid) for pid in started))


async def test_a_program_is_killed_when_production_moves_on_meanwhile(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    running = asyncio.create_task(adapter('echo $$ > "$0"; sleep 600', str(pids)).point_to(HERE))
    await eventually(lambda: pids.exists() and pids.read_text().strip())
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    await eventually(lambda: not _runs(int(pids.read_text())))


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_one_that_leaves_something_running_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    began = time.monotonic()
    await adapter('sleep 600 & echo $! > "$0"', str(pids)).point_to(HERE)
    assert time.monotonic() - began < 10
    os.kill(int(pids.read_text()), 9)


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    missing = CommandAdapter(CommandTraffic(argv=(f"{tmp_path}/move",)), ENVIRONMENT)
    assert await refusal(missing) == f"{tmp_path}/move cannot be run: No such file or directory"


async def test_its_check_says_whether_clients_are_sent_here() -> None:
    assert await adapter("exit 1").check(HERE) is None  # none given: nothing is known to be wrong
    assert await adapter("exit 1", check="exit 0").check(HERE) is None
    wrong = adapter("exit 0", check='echo "the route goes to denver" >&2; exit 1')
    assert await wrong.check(HERE) == "/bin/sh ended with status 1: the route goes to denver"


def test_the_plan_shows_the_environment_and_each_argument() -> None:
    settings = CommandTraffic(argv=("/usr/local/bin/move", "--to", "a b"))
    assert CommandAdapter(settings, {}).plan(Move(site="denver", term=8)) == [
        "HOTSITE_TRAFFIC_SITE=denver",
        "HOTSITE_TRAFFIC_TERM=8",
        "HOTSITE_TRAFFIC_REASON=",
        "  /usr/local/bin/move",
        "  --to",
        "  a b",
    ]
