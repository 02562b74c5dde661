"""`python -m healthcheck`: starts, stops on SIGTERM, and explains what it cannot work with in one line."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.noc_server import closed_port

CONFIG = """
[site]
name = "columbus"
environment = "lab"
state_dir = "{folder}"
secrets_dir = "{folder}"
[etcd]
endpoints = ["http://127.0.0.1:{nobody}"]
[healthcheck]
listen = "127.0.0.1:{port}"
[[place]]
name = "columbus"
[[place.nodes]]
name = "columbus-a"
postgres = "127.0.0.1:{nobody}"
agent = "http://127.0.0.1:{nobody}"
"""


def write(folder: Path, port: int, text: str = CONFIG) -> Path:
    path = folder / "columbus.toml"
    path.write_text(text.format(folder=folder, port=port, nobody=closed_port()))
    return path


@asynccontextmanager
async def process(config: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """It is killed at the end if it still runs. Await an end that has a status before: `kill` polls first, which takes
    the status of one that has just ended away from asyncio ("Unknown child process pid", 255).
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HOTSITE_")}
    found = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "healthcheck", "--config", str(config)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        yield found
    finally:
        if found.returncode is None:
            found.kill()
            await found.wait()


async def started(found: asyncio.subprocess.Process) -> None:
    assert found.stderr is not None
    while line := await asyncio.wait_for(found.stderr.readline(), 30):
        if b"healthcheck_started" in line:
            return
    pytest.fail("it ended by itself")


async def test_it_serves_without_etcd_and_stops_cleanly_on_sigterm(tmp_path: Path) -> None:
    port = closed_port()
    async with process(write(tmp_path, port)) as found:
        await started(found)
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{port}/health") as answer:
                assert answer.status == 200
            async with http.get(f"http://127.0.0.1:{port}/ready") as answer:
                assert answer.status == 503
            async with http.get(f"http://127.0.0.1:{port}/events") as events:  # a watcher delays nothing
                await events.content.readline()
                found.send_signal(signal.SIGTERM)
                assert found.stderr is not None
                rest = await asyncio.wait_for(found.stderr.read(), 10)
        assert await asyncio.wait_for(found.wait(), 10) == 0
    assert b"Traceback" not in rest
    assert b"healthcheck_stopped" in rest


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CONFIG.replace('[healthcheck]\nlisten = "127.0.0.1:{port}"\n', ""), "[healthcheck] is missing"),
        (CONFIG + "\n[nonsense]\n", "nonsense"),
        ("[site\n", "not TOML"),
    ],
)
async def test_settings_that_cannot_work_are_one_line_and_status_2(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text.replace("{folder}", str(tmp_path)).replace("{port}", "1").replace("{nobody}", "1"))
    async with process(path) as found:
        _, stderr = await asyncio.wait_for(found.communicate(), 30)
    assert found.returncode == 2
    assert told in stderr.decode()
    assert len(stderr.decode().strip().splitlines()) == 1


async def test_a_port_in_use_is_told_with_the_setting_that_names_it(tmp_path: Path) -> None:
    async with process(write(tmp_path, port := closed_port())) as first:
        await started(first)
        async with process(write(tmp_path, port)) as second:
            _, stderr = await asyncio.wait_for(second.communicate(), 30)
    assert second.returncode == 2
    assert "healthcheck.listen" in stderr.decode()
    assert "Traceback" not in stderr.decode()
