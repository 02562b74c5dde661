"""A real HAProxy with the file that we ship, in front of dispatchers that a test holds in its hand.

`edge` (fixture): four dispatchers of two sites, of which columbus is live, and an HAProxy that has seen so.
"""

import asyncio
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from sitecontrol.settings import HaproxyTraffic
from sitecontrol.traffic.api import Move
from sitecontrol.traffic.haproxy import HaproxyAdapter
from tests.ports import free_port
from tests.waiting import eventually

PROGRAM = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
CONFIG = Path(__file__).parents[1] / "configs" / "haproxy.cfg"
SERVERS = {site: (f"{site}-dispatcher-1", f"{site}-dispatcher-2") for site in ("columbus", "denver")}

needs_haproxy = pytest.mark.skipif(PROGRAM is None, reason="needs HAProxy: apt install haproxy")


@dataclass
class Production:
    """What all dispatchers know: who is live (None: nobody, and they hold what they are given)."""

    live: str | None = "columbus"
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def move(self, site: str | None) -> None:
        async with self.changed:
            self.live = site
            self.changed.notify_all()

    async def led(self) -> str:
        async with self.changed:
            await self.changed.wait_for(lambda: self.live is not None)
            return str(self.live)


class Dispatcher:
    """Answers as one of ours does, as far as a load balancer can tell."""

    def __init__(self, name: str, production: Production) -> None:
        self.name = name
        self.site = name.partition("-")[0]
        self.port = free_port()
        self.heard: list[str] = []  # references
        self.breaks = False  # the connection, after it heard a request
        self._production = production
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/live", self._live)
        app.router.add_post("/v1/messages", self._accept)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self._production.live == self.site else 503)

    async def _accept(self, request: web.Request) -> web.Response:
        self.heard.append((await request.json())["reference"])
        if self.breaks:
            assert request.transport is not None
            request.transport.abort()
        await self._production.led()
        return web.json_response({"by": self.name}, status=202)


@dataclass
class Edge:
    production: Production
    dispatchers: dict[str, Dispatcher]
    url: str
    socket: str
    client: aiohttp.ClientSession

    def of(self, site: str) -> list[Dispatcher]:
        return [d for d in self.dispatchers.values() if d.site == site]

    def adapter(self, **changed: object) -> HaproxyAdapter:
        settings = {"sockets": [self.socket], "deadline": 5.0, **changed}
        return HaproxyAdapter(HaproxyTraffic.model_validate(settings), SERVERS)

    async def send(self, reference: str) -> tuple[int, str]:
        """The status, and which dispatcher answered (empty: none did)."""
        async with self.client.post(f"{self.url}/v1/messages", json={"reference": reference}) as answer:
            return answer.status, (await answer.json())["by"] if answer.status == 202 else ""

    async def seen_live(self, site: str) -> bool:
        return await self.adapter().check(Move(site=site, term=1)) is None

    async def where(self, count: int = 8) -> Counter[str]:
        """Which sites answer so many requests."""
        answers = [await self.send(f"where-{number}") for number in range(count)]
        return Counter(by.partition("-")[0] for _, by in answers)


@asynccontextmanager
async def run_haproxy(ports: Mapping[str, int], folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Its address for clients, and the socket of its runtime API. `ports`: dispatcher -> where it listens."""
    port, socket = free_port(), folder / "admin.sock"
    given = {name.upper().replace("-", "_"): f"127.0.0.1:{at}" for name, at in ports.items()}
    environment = {**os.environ, **given, "EDGE_LISTEN": f"127.0.0.1:{port}", "EDGE_SOCKET": str(socket)}
    log = folder / "haproxy.log"
    process = _start(environment, log)
    try:
        await eventually(lambda: socket.exists() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}", str(socket)
    finally:
        process.kill()
        process.wait()


def _start(environment: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    assert PROGRAM is not None
    with log.open("wb") as said:
        return subprocess.Popen([PROGRAM, "-db", "-f", CONFIG], stdout=said, stderr=said, env=environment)


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    production = Production()
    dispatchers = {name: Dispatcher(name, production) for names in SERVERS.values() for name in names}
    try:
        for dispatcher in dispatchers.values():
            await dispatcher.start()
        async with (
            run_haproxy({name: d.port for name, d in dispatchers.items()}, tmp_path) as (url, socket),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as client,
        ):
            found = Edge(
                production=production, dispatchers=dispatchers, url=url, socket=socket, client=client
            )
            await eventually(lambda: found.seen_live("columbus"))
            yield found
    finally:
        for dispatcher in dispatchers.values():
            await dispatcher.stop()
