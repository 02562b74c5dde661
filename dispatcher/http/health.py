"""`/health /ready /live /standby /status /metrics`: what load balancers, pages and Prometheus ask a dispatcher.

No key is needed and nothing of a customer is told. No answer waits for the database: the queue's counts are
refreshed beside the answers, and the last known ones are told with their age.
"""

from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import CollectorRegistry

from dispatcher.condition import Condition


class Health:
    """`condition` is read for each answer; `status` is everything that this process knows, as JSON."""

    def __init__(
        self,
        *,
        condition: Callable[[], Condition],
        status: Callable[[], dict[str, Any]],
        registry: CollectorRegistry,
    ) -> None:
        self._condition = condition
        self._status = status
        self._registry = registry

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/health", self.health),
            web.get("/ready", self.ready),
            web.get("/live", self.live),
            web.get("/standby", self.standby),
            web.get("/status", self.status),
            web.get("/metrics", self.metrics),
        ]

    async def health(self, _: web.Request) -> web.Response:
        return _json(200, {"status": "ok"})

    async def ready(self, _: web.Request) -> web.Response:
        return _verdict(self._condition().reasons)

    async def live(self, _: web.Request) -> web.Response:
        condition = self._condition()
        if condition.live:
            return _verdict(())
        if condition.state.open:
            return _verdict((f"{condition.state.leader_site} is the live site.",))
        return _verdict((condition.state.sentence,))

    async def standby(self, _: web.Request) -> web.Response:
        return _verdict(self._condition().standby_reasons)

    async def status(self, _: web.Request) -> web.Response:
        return _json(200, self._status())

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


def _verdict(reasons: tuple[str, ...]) -> web.Response:
    return _json(503 if reasons else 200, {"ok": not reasons, "reasons": list(reasons)})


def _json(code: int, body: dict[str, Any]) -> web.Response:
    return web.Response(
        status=code, body=orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS), content_type="application/json"
    )
