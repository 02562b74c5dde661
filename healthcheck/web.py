"""The daemon's HTTP: the health endpoints that every process has, and the NOC."""

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from healthcheck.daemon import Daemon
from healthcheck.metrics import registry
from healthcheck.noc.pages import Pages, harden
from healthcheck.noc.panels import PANELS
from sitecontrol.clock import Clock

MAX_REQUEST = 16 * 1024  # nothing here takes a body


class Health:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._registry = registry(daemon.scene, lambda: daemon.board.looks_taken)

    def register(self, app: web.Application) -> None:
        app.router.add_get("/health", self.health)
        app.router.add_get("/ready", self.ready)
        app.router.add_get("/live", self.live)
        app.router.add_get("/standby", self.standby)
        app.router.add_get("/status", self.status)
        app.router.add_get("/metrics", self.metrics)

    async def health(self, _: web.Request) -> web.Response:
        return _json({"healthy": True})

    async def ready(self, _: web.Request) -> web.Response:
        reasons = self._daemon.reasons()
        return _json({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def live(self, _: web.Request) -> web.Response:
        live = self._daemon.site_is_live
        return _json({"live": live, "term": self._daemon.live().term}, status=200 if live else 503)

    async def standby(self, _: web.Request) -> web.Response:
        standby = self._daemon.site_stands_by
        return _json({"standby": standby}, status=200 if standby else 503)

    async def status(self, _: web.Request) -> web.Response:
        scene = self._daemon.scene()
        return _json(
            {
                "place": scene.settings.site.name,
                "at": scene.at,
                "reasons": self._daemon.reasons(),
                "observation": scene.own.model_dump(mode="json"),
                **{name: make(scene) for name, make in PANELS.items()},
            }
        )

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


def application(daemon: Daemon, clock: Clock) -> web.Application:
    app = web.Application(client_max_size=MAX_REQUEST)
    app.on_response_prepare.append(harden)
    Health(daemon).register(app)
    Pages(daemon.feed, daemon.renderer, daemon.settings, clock).register(app)
    return app


def _json(data: object, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json")
