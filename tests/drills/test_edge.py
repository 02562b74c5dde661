"""A whole lab behind HAProxy with the file that we ship: a planned swap, and no client hears anything but 202."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.haproxy import needs_haproxy, run_haproxy
from tests.labs import running_lab, sitectl
from tests.waiting import eventually

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900), pytest.mark.long, needs_haproxy]

CLIENTS = 6
EVERY = 0.05  # seconds, between a client's requests


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Path]:
    with running_lab(tmp_path / "lab") as folder:
        yield folder


@dataclass
class Clients:
    """Send one text after the other through the edge, and keep what each was told."""

    url: str
    key: str
    program: str
    answers: list[dict[str, Any]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def run(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        async with (
            aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=30)) as http,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(CLIENTS):
                tasks.create_task(self._client(http))

    async def _client(self, http: aiohttp.ClientSession) -> None:
        while True:
            text = {"program": self.program, "to": "+12025550123", "body": f"Number {next(self._numbers)}"}
            sent = time.monotonic()
            try:
                async with http.post(f"{self.url}/v1/messages", json=text) as answer:
                    body = await answer.json(content_type=None)
                    self.answers.append({"status": answer.status, "took": time.monotonic() - sent, **body})
            except (aiohttp.ClientError, ValueError) as error:
                self.answers.append({"status": 0, "error": repr(error)})
            await asyncio.sleep(EVERY)

    def sites(self, last: int) -> set[str]:
        return {str(answer.get("site")) for answer in self.answers[-last:]}


@asynccontextmanager
async def clients_of(lab: Path, folder: Path) -> AsyncIterator[Clients]:
    status = json.loads((await asyncio.to_thread(sitectl, "lab", "status", "--json", folder=lab)).stdout)
    ports = {
        dispatcher["name"]: urlsplit(dispatcher["url"]).port
        for site in ("columbus", "denver")
        for dispatcher in status["sites"][site]["dispatchers"]
    }
    [account, *_] = status["accounts"]
    async with run_haproxy(ports, folder) as (url, _):
        found = Clients(url, account["key"], account["program"])
        running = asyncio.create_task(found.run())
        try:
            yield found
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_planned_swap_behind_the_edge_refuses_nothing_and_moves_every_client(
    lab: Path, tmp_path: Path
) -> None:
    async with clients_of(lab, tmp_path) as clients:
        await eventually(lambda: len(clients.answers) > 50 and clients.sites(20) == {"columbus"})
        swapped = await asyncio.to_thread(sitectl, "swap", "--to", "denver", "--yes", folder=lab)
        assert swapped.returncode == 0, swapped.stderr
        count = len(clients.answers)
        await eventually(lambda: len(clients.answers) > count + 50 and clients.sites(20) == {"denver"})
    assert [answer for answer in clients.answers if answer["status"] != 202] == []
