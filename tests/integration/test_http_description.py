"""`/v1/openapi.json` and `/docs` tell the truth about the code."""

import json
import re

import jsonschema
import pytest
from aiohttp import web

from dispatcher.http.problem import KINDS
from dispatcher.uuid7 import Ids
from dispatcher.webhooks.model import Attempt
from sitecontrol.clock import SystemClock
from tests.api_server import Api, serving, settings, text
from tests.webhook_scenes import letter_of, refused, settlement

CARRIER = {
    "name": "northline",
    "address": "127.0.0.1:1",
    "system_id": "hotsite",
    "price": {"per_segment": "0.0075", "currency": "USD"},
}


@pytest.fixture
async def api():
    async with serving(settings(carriers=[CARRIER])) as served:
        yield served


@pytest.fixture
async def document(api):
    async with api.client.get("/v1/openapi.json") as answer:
        assert answer.status == 200
        return await answer.json()


def served(app: web.Application) -> set[tuple[str, str]]:
    return {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    }


async def test_every_call_is_described_and_every_described_call_is_served(api, document):
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == served(api.app)


async def test_every_schema_is_a_sound_schema_and_every_reference_leads_somewhere(document):
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document)):
        assert reference in document["components"]["schemas"]


class Exchanges:
    """Sends requests, and checks every answer against what the document says of that very call."""

    def __init__(self, api: Api, document: dict[str, object]) -> None:
        self.api, self.document = api, document
        self.seen: set[tuple[str, str, int]] = set()

    async def __call__(self, method: str, path: str, template: str | None = None, **request: object) -> bytes:
        template = template or path
        async with self.api.client.request(method, path, **request) as answer:
            raw = await answer.read()
            described = self.document["paths"][template][method.lower()]["responses"][str(answer.status)]
            if answer.status == 204:
                assert (raw, described["content"]) == (b"", {})
                schema = None
            else:
                schema = described["content"][answer.content_type].get("schema")
            lines = answer.content_type == "application/x-ndjson"
            for part in raw.splitlines() if lines else [raw]:
                if schema is not None:
                    self.check(json.loads(part), schema)
            self.seen.add((method, template, answer.status))
        return raw

    def check(self, instance: object, schema: dict[str, object]) -> None:
        jsonschema.Draft202012Validator(
            {**schema, "components": self.document["components"]},
            format_checker=jsonschema.FormatChecker(),
        ).validate(instance)


async def test_real_answers_are_what_the_description_says(api, document):
    exchange = Exchanges(api, document)
    ndjson = {"Content-Type": "application/x-ndjson"}
    sent = json.loads(
        await exchange("POST", "/v1/messages", json=text(reference="o-1", send_at="2027-01-01T00:00:00Z"))
    )
    await exchange("POST", "/v1/messages", json=text(reference="o-1", send_at="2027-01-01T00:00:00Z"))
    await exchange("POST", "/v1/messages", json=text(reference="o-1"))
    await exchange("POST", "/v1/messages", json={})
    await exchange("POST", "/v1/messages", data=b"{", headers={"Content-Type": "application/json"})
    await exchange("POST", "/v1/messages", data=b"x" * 100_000, headers={"Content-Type": "application/json"})
    await exchange("POST", "/v1/messages", data=b"x")
    await exchange("POST", "/v1/messages", json=text(), headers={"Authorization": "Bearer wrong"})
    bulk = b"\n".join(json.dumps(line).encode() for line in (text(), text(reference="o-1"), {}))
    await exchange("POST", "/v1/messages/bulk", data=bulk, headers=ndjson)
    await exchange("GET", "/v1/messages")
    await exchange("GET", "/v1/messages", params={"limit": "x"})
    message = f"/v1/messages/{sent['id']}"
    await exchange("GET", message, "/v1/messages/{id}")
    await exchange("GET", "/v1/messages/none", "/v1/messages/{id}")
    await exchange("DELETE", message, "/v1/messages/{id}")
    left = json.loads(await exchange("POST", "/v1/messages", json=text()))
    [claim, *_] = await api.store.claim(7, "d1", 100, 5.0)
    await api.store.give_up_claims(7, [claim.claim_id])
    await exchange("GET", "/v1/doubts", params={"term": "7"})
    await exchange("GET", "/v1/doubts")
    await exchange("DELETE", f"/v1/messages/{left['id']}", "/v1/messages/{id}")
    await exchange("POST", "/v1/preview", json={"body": "“quoted” 🙂"})
    await exchange("GET", "/v1/openapi.json")
    await exchange("GET", "/docs")
    await exchange_on_campaigns(exchange)
    await exchange_on_webhooks(exchange)
    described = {
        (method.upper(), path, int(status))
        for path, methods in document["paths"].items()
        for method, call in methods.items()
        for status in call["responses"]
        if int(status) < 300
    }
    assert described <= exchange.seen


async def exchange_on_campaigns(exchange: Exchanges) -> None:
    variables = [{"name": "eta", "type": "time", "style": "24h"}]
    template = {"text": "Back by {eta}.", "variables": variables}
    one = "/v1/templates/{name}"
    await exchange("PUT", "/v1/templates/eta", one, json=template)
    await exchange("PUT", "/v1/templates/eta", one, json={"text": "{eta}"})
    await exchange("GET", "/v1/templates/eta", one)
    await exchange("GET", "/v1/templates/none", one)
    await exchange("GET", "/v1/templates")
    await exchange("POST", "/v1/templates/preview", json={"template": "eta", "vars": {"eta": "17:00"}})
    made = await exchange(
        "POST", "/v1/campaigns", json={"program": "outages", "name": "Storm", "template": "eta"}
    )
    await exchange("POST", "/v1/campaigns", json={})
    await exchange("DELETE", "/v1/templates/eta", one)
    one, campaign = "/v1/campaigns/{id}", f"/v1/campaigns/{json.loads(made)['id']}"
    await exchange("POST", f"{campaign}/start", f"{one}/start")
    for body in (b"to,eta\n+16145550123,17:00\n+16145550124,soon\n", b"to\n"):
        await exchange(
            "PUT", f"{campaign}/list", f"{one}/list", data=body, headers={"Content-Type": "text/csv"}
        )
    await exchange("POST", f"{campaign}/preview", f"{one}/preview", json={"vars": {"eta": "17:00"}})
    await exchange(
        "POST", f"{campaign}/test", f"{one}/test", json={"to": "+16145550123", "vars": {"eta": "17:00"}}
    )
    await exchange("GET", "/v1/campaigns")
    for act in ("start", "pause", "resume"):
        await exchange("POST", f"{campaign}/{act}", f"{one}/{act}")
    await exchange.api.store.feed_campaign(7, Ids(SystemClock()).new(), 1, 8)
    for part in ("", "/progress", "/report", "/report.csv", "/report.svg"):
        await exchange("GET", campaign + part, one + part)
    await exchange("POST", f"{campaign}/cancel", f"{one}/cancel")


async def exchange_on_webhooks(exchange: Exchanges) -> None:
    store = exchange.api.store
    begun = json.loads(await exchange("GET", "/v1/events"))
    await exchange("GET", "/v1/events", params={"cursor": "none"})
    made = json.loads(await exchange("POST", "/v1/webhooks", json={"url": "https://utility.example/hotsite"}))
    await exchange("POST", "/v1/webhooks", json={"url": "https://10.0.0.1/", "kinds": ["none"]})
    await exchange("GET", "/v1/webhooks")
    left = json.loads(await exchange("POST", "/v1/messages", json=text()))
    await exchange("DELETE", f"/v1/messages/{left['id']}", "/v1/messages/{id}")
    told = json.loads(await exchange("GET", "/v1/events", params={"cursor": begun["next_cursor"]}))
    assert [event["type"] for event in told["events"]] == ["message.canceled"]
    one, webhook = "/v1/webhooks/{id}", f"/v1/webhooks/{made['id']}"
    await exchange("GET", webhook, one)
    await exchange("GET", "/v1/webhooks/none", one)
    await exchange("PATCH", webhook, one, json={"kinds": ["message.canceled"], "description": "ours"})
    await exchange("POST", f"{webhook}/rotate", f"{one}/rotate", json={})
    await exchange("POST", f"{webhook}/test", f"{one}/test")
    [claim] = await store.claim_webhooks(7, "d1", 30.0, 1)
    batch = await store.webhook_batch(7, claim.claim_id, 1, 10, 5)
    assert batch is not None
    letters = [refused(letter, dead=True) for letter in batch.letters]
    letters += [refused(letter_of(one.event)) for one in batch.events]
    attempt = Attempt(
        event_id=letters[0].letter.id,
        kind="webhook.test",
        attempt=1,
        taken=False,
        status=500,
        ms=2,
        failure="It did.",
    )
    position = batch.events[-1].event.position
    await store.settle_webhook(settlement(claim, position=position, letters=letters, log=[attempt]))
    await exchange("GET", f"{webhook}/deliveries", f"{one}/deliveries")
    await exchange("GET", f"{webhook}/dead-letters", f"{one}/dead-letters")
    await exchange("POST", f"{webhook}/dead-letters/replay", f"{one}/dead-letters/replay", json={})
    await exchange("PATCH", webhook, one, json={"enabled": False})
    await exchange("POST", f"{webhook}/test", f"{one}/test")
    await exchange("DELETE", webhook, one)
    await exchange("DELETE", webhook, one)


async def test_the_page_shows_every_call_and_every_problem(api, document):
    async with api.client.get("/docs") as answer:
        html = await answer.text()
    for methods in document["paths"].values():
        for call in methods.values():
            assert f'id="{call["operationId"]}"' in html
    for kind in KINDS:
        assert f'id="{kind.slug}"' in html


async def test_the_page_loads_nothing_and_forbids_it(api):
    async with api.client.get("/docs") as answer:
        policy = answer.headers["Content-Security-Policy"]
        html = await answer.text()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script" not in html
    assert not re.findall(r'(?:src|href)="(?!#|/v1/openapi\.json")', html)
    assert not re.search(r"url\(|@import|style=", html)
