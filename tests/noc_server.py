"""A whole health-check daemon for tests, with stand-ins for the agents and dispatchers that it looks at."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from healthcheck.daemon import Daemon
from healthcheck.web import application
from sitecontrol.clock import SystemClock
from sitecontrol.etcd.api import Etcd
from sitecontrol.records import HistoryEntry, Leader, Member, Sync, Term
from sitecontrol.settings import Secrets, Settings
from tests.unit.health_scenes import (
    HISTORY,
    SITES,
    report_of_agent,
    report_of_dispatcher,
    settings_of,
    snapshot_of,
)


def closed_port() -> int:
    """A port that refuses, as far as anybody can know."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


class Neighbours:
    """What the other processes say; a path in `broken` answers 500."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.reports: dict[str, Any] = {
            **{f"{site}-a": report_of_agent(f"{site}-a", leads=site == "columbus") for site in SITES},
            **{f"{site}-{n}": report_of_dispatcher(f"{site}-{n}") for site in SITES for n in (1, 2)},
        }
        self.asked = 0
        self._again = asyncio.Condition()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{name}/status", self.status)
        app.router.add_get("/{name}/health", self.health)
        return app

    async def status(self, request: web.Request) -> web.Response:
        async with self._again:
            self.asked += 1
            self._again.notify_all()
        name = request.match_info["name"]
        if name in self.broken:
            raise web.HTTPInternalServerError
        return web.json_response(self.reports[name])

    async def asked_again(self, than: int) -> None:
        """Wait for the next question after the `than`th: the daemon's own heartbeat."""
        async with self._again:
            await self._again.wait_for(lambda: self.asked > than)

    async def health(self, request: web.Request) -> web.Response:
        if request.match_info["name"] in self.broken:
            raise web.HTTPInternalServerError
        return web.json_response({"healthy": True})


def settings_at(
    url: str, folder: Path, *, here: str = "columbus", cluster: str = "test", **more: Any
) -> Settings:
    """Three places whose processes are all stood in for at `url`."""
    refused = f"127.0.0.1:{closed_port()}"
    places: list[dict[str, Any]] = [
        {
            "name": site,
            "nodes": [{"name": f"{site}-a", "postgres": refused, "agent": f"{url}/{site}-a"}],
            "dispatchers": [{"name": f"{site}-{n}", "url": f"{url}/{site}-{n}"} for n in (1, 2)],
            "healthcheck": f"{url}/{site}",
            "etcd_member": f"etcd-{site}",
        }
        for site in SITES
    ]
    places.append({"name": "witness", "kind": "witness", "healthcheck": f"{url}/witness"})
    site = {
        "name": here,
        "cluster": cluster,
        "environment": "lab",
        "state_dir": folder,
        "secrets_dir": folder,
    }
    health = {"listen": "127.0.0.1:0", "every": 0.05, "timeout": 1.0, "rise": 1, "fall": 2}
    (folder / "postgres-monitor").write_text("unused\n")
    return settings_of(here, **({"site": site, "place": places, "healthcheck": health} | more))


async def fill(etcd: Etcd, prefix: str) -> None:
    """The records of a healthy cluster that Columbus leads."""
    snapshot = snapshot_of("columbus")
    assert snapshot.leader is not None
    assert snapshot.sync is not None
    records: dict[str, Leader | Sync | Term | Member | HistoryEntry] = {
        "leader": snapshot.leader.record,
        "sync": snapshot.sync.record,
        "term": Term(term=4),
        **{f"members/{name}": m.record for name, m in snapshot.members.items()},
        **{f"history/{e.term}": e for e in HISTORY},
    }
    for name, record in records.items():
        await etcd.put(prefix + name, record.encode())


@asynccontextmanager
async def running_daemon(settings: Settings, etcd: Etcd) -> AsyncIterator[tuple[Daemon, str]]:
    """The daemon, and the address of its pages."""
    assert settings.healthcheck is not None
    clock = SystemClock()
    daemon = Daemon(settings, settings.healthcheck, etcd, Secrets(settings.site.secrets_dir, {}), clock)
    async with serving(application(daemon, clock)) as url:
        task = asyncio.create_task(daemon.run())
        try:
            yield daemon, url
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await daemon.aclose()
