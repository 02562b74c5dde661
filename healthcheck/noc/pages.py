"""The handlers of the NOC: the page, its events, each panel as JSON, badges, and what the page is made of.

Strict by policy: nothing is loaded from outside, no script or style stands in the page, nobody may frame it,
and there is nothing to submit.
"""

import asyncio
import hashlib
from importlib import resources
from pathlib import Path

import orjson
from aiohttp import web

from healthcheck.noc.badge import badge_of
from healthcheck.noc.feed import Feed
from healthcheck.noc.panels import PANELS
from healthcheck.noc.plain import iso
from healthcheck.noc.render import Renderer
from healthcheck.noc.scene import place_name
from sitecontrol.clock import Clock
from sitecontrol.settings import Settings

MAX_WATCHERS = 100
WRITE_WITHIN = 10.0  # seconds; a watcher that takes nothing for so long is let go

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


async def harden(request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler `on_response_prepare`: every answer carries the policy."""
    response.headers.update(HEADERS)
    if not request.path.startswith("/static/"):
        response.headers.setdefault("Cache-Control", "no-store")


class Pages:
    def __init__(self, feed: Feed, renderer: Renderer, settings: Settings, clock: Clock) -> None:
        self._feed = feed
        self._renderer = renderer
        self._settings = settings
        self._clock = clock
        self._static = Path(str(resources.files("healthcheck.noc") / "static"))
        content = b"".join(file.read_bytes() for file in sorted(self._static.iterdir()))
        self._version = hashlib.sha256(content).hexdigest()[:12]

    def register(self, app: web.Application) -> None:
        app.router.add_get("/", self.page)
        app.router.add_get("/events", self.events)
        app.router.add_get("/api/{panel}", self.panel)
        app.router.add_get("/badge/{what}.svg", self.badge)
        app.router.add_static("/static/", self._static)

    async def page(self, request: web.Request) -> web.Response:
        live = self._feed.data("overview")["live"]
        durability = self._feed.data("overview")["durability"]["value"]
        theme = request.query.get("theme")
        html = self._renderer.page(
            self._feed.bodies(),
            kiosk="kiosk" in request.query,
            theme=theme if theme in {"dark", "light"} else None,
            headline=f"{place_name(live['site'])} {live['state']}, term {live['term']}, {durability}",
            cluster=self._settings.site.cluster,
            here=self._settings.site.name,
            at=iso(self._clock.wall()),
            version=self._version,
        )
        return web.Response(text=html, content_type="text/html")

    async def panel(self, request: web.Request) -> web.Response:
        name = request.match_info["panel"]
        if name not in PANELS:
            body = {
                "type": "about:blank",
                "title": "No such panel",
                "status": 404,
                "detail": f"There are: {', '.join(PANELS)}",
            }
            return web.Response(body=orjson.dumps(body), status=404, content_type="application/problem+json")
        data = {"at": self._clock.wall(), **self._feed.data(name)}
        return web.Response(body=orjson.dumps(data), content_type="application/json")

    async def badge(self, request: web.Request) -> web.Response:
        picture = badge_of(request.match_info["what"], self._feed.data("overview"), self._feed.data("places"))
        if picture is None:
            raise web.HTTPNotFound(text="There are: live, term, durability, and each place's name\n")
        return web.Response(text=picture, content_type="image/svg+xml")

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: `panel` with an id when one changed, and `tick` at every beat."""
        if self._feed.watchers >= MAX_WATCHERS:
            raise web.HTTPServiceUnavailable(text="too many watchers\n", headers={"Retry-After": "10"})
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        following = self._feed.follow(request.headers.get("Last-Event-ID", ""))
        try:
            await response.write(b"retry: 1000\n\n")
            async for changes in following:
                text = b"".join(event("panel", {"panel": c.panel, "html": c.html}, id_=c.id) for c in changes)
                text += event("tick", {"at": self._clock.wall()})
                async with asyncio.timeout(WRITE_WITHIN):
                    await response.write(text)
        except (ConnectionError, TimeoutError):
            pass  # the watcher has gone, or takes nothing any more
        finally:
            await following.aclose()
        return response


def event(kind: str, data: object, *, id_: str | None = None) -> bytes:
    """One event in the form of the HTML standard; the data is JSON, so it has no line breaks."""
    head = f"id: {id_}\nevent: {kind}\n" if id_ else f"event: {kind}\n"
    return head.encode() + b"data: " + orjson.dumps(data) + b"\n\n"
