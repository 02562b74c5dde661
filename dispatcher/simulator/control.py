"""The simulator's HTTP endpoint, on loopback: look at it, and make it misbehave.

| call | |
|---|---|
| `GET /health` | 200 |
| `GET /status` | binds, counts, receipts waiting, faults |
| `GET /metrics` | Prometheus |
| `POST /faults` | change behaviour: any fields of `faults.Faults`; `"disconnect": "all"` (or a system_id) cuts links |
| `DELETE /faults` | be healthy again, as started |
| `POST /inbound` | `{"from","to","text","system_id"?,"parts_as"?,"only"?}`: a customer's reply |
| `POST /alert` | `{"from","to"}`: an alert_notification to every receiver |

The parts of a long reply are told by `parts_as`, `udh` or `sar`; with `only`, parts of other numbers never arrive.
A mistake is answered 400 with `{"error": sentence}`.
"""

from collections.abc import Iterable
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dispatcher.simulator.faults import PartsAs
from dispatcher.simulator.smsc import Smsc
from dispatcher.smpp.pdu import AlertNotification


class Inbound(BaseModel):
    model_config = ConfigDict(extra="forbid")

    source: str = Field(alias="from", min_length=1, max_length=20)
    destination: str = Field(alias="to", min_length=1, max_length=20)
    text: str = Field(max_length=10_000)
    parts_as: PartsAs = PartsAs.UDH
    only: list[int] | None = None
    system_id: str | None = None


def create_app(smsc: Smsc) -> web.Application:
    started_with = smsc.faults
    registry = CollectorRegistry()
    registry.register(SmscCollector(smsc))

    async def health(_request: web.Request) -> web.Response:
        return _json({"healthy": True})

    async def status(_request: web.Request) -> web.Response:
        return _json(smsc.status())

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    async def change(request: web.Request) -> web.Response:
        given = await _object(request)
        disconnect = given.pop("disconnect", None)
        smsc.behave(smsc.faults.changed(given))
        cut = smsc.disconnect(None if disconnect == "all" else str(disconnect)) if disconnect else 0
        return _json({"faults": smsc.faults.model_dump(mode="json"), "disconnected": cut})

    async def heal(_request: web.Request) -> web.Response:
        smsc.behave(started_with)
        return _json({"faults": smsc.faults.model_dump(mode="json")})

    async def inbound(request: web.Request) -> web.Response:
        reply = Inbound.model_validate(await _object(request))
        try:
            parts = smsc.reply(
                source=reply.source,
                destination=reply.destination,
                text=reply.text,
                system_id=reply.system_id,
                parts_as=reply.parts_as,
                only=reply.only,
            )
        except KeyError as error:
            raise ValueError(f"no such system_id: {reply.system_id}") from error
        return _json({"parts": parts})

    async def alert(request: web.Request) -> web.Response:
        told = Inbound.model_validate({"text": "", **await _object(request)})
        receivers = smsc.alert(AlertNotification(source=told.source, esme=told.destination))
        return _json({"receivers": receivers})

    app = web.Application(middlewares=[_explain_mistakes])
    app.add_routes([
        web.get("/health", health),
        web.get("/status", status),
        web.get("/metrics", metrics),
        web.get("/faults", status),
        web.post("/faults", change),
        web.delete("/faults", heal),
        web.post("/inbound", inbound),
        web.post("/alert", alert),
    ])  # fmt: skip
    return app


class SmscCollector(Collector):
    """Reads the carrier's own counters when Prometheus asks."""

    def __init__(self, smsc: Smsc) -> None:
        self._smsc = smsc

    def collect(self) -> Iterable[Metric]:
        submits = CounterMetricFamily("smsc_submits", "Submits received, by answer.", labels=["status"])
        for status, number in self._smsc.answers.items():
            submits.add_metric([status], number)
        yield submits
        counts = self._smsc.deliveries
        deliveries = CounterMetricFamily("smsc_deliveries", "Receipts and replies, by fate.", labels=["fate"])
        for fate in ("brought", "acknowledged", "put_off", "unanswered", "refused"):
            deliveries.add_metric([fate], getattr(counts, fate))
        yield deliveries
        yield GaugeMetricFamily("smsc_binds", "Bound connections.", len(self._smsc.links))
        yield GaugeMetricFamily(
            "smsc_waiting", "Receipts and replies not yet acknowledged.", self._smsc.waiting
        )
        yield CounterMetricFamily("smsc_malformed", "PDUs that could not be read.", self._smsc.malformed)


async def _object(request: web.Request) -> dict[str, Any]:
    try:
        given = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the body is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ValueError("send a JSON object")  # noqa: TRY004 # a caller's mistake like the others here
    return given


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


@web.middleware
async def _explain_mistakes(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return _json({"error": mistakes}, status=400)
    except ValueError as error:
        return _json({"error": str(error)}, status=400)
    return response
