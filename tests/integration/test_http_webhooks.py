"""Webhooks and the feed of events over HTTP."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from dispatcher.http.webhook_calls import MOST
from tests.api_server import OTHER_KEY, TERM, Api, serving, settings, text

OTHERS = {"Authorization": f"Bearer {OTHER_KEY}"}
URL = "https://utility.example/hotsite"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with serving(settings(environment="production")) as served:
        yield served


async def ask(api: Api, method: str, path: str, status: int = 200, **request: Any) -> Any:
    async with api.client.request(method, path, **request) as answer:
        raw = await answer.read()
        assert answer.status == status, raw
        return json.loads(raw) if raw else None


async def made(api: Api, **asked: Any) -> Any:
    return await ask(api, "POST", "/v1/webhooks", 201, json={"url": URL, **asked})


async def test_a_webhook_shows_its_secret_once(api: Api) -> None:
    webhook = await made(api, kinds=["message.delivered", "message.delivered"], description="Ours")
    assert webhook.pop("secret").startswith("whsec_")
    assert webhook["kinds"] == ["message.delivered"]
    assert await ask(api, "GET", f"/v1/webhooks/{webhook['id']}") == webhook
    assert await ask(api, "GET", "/v1/webhooks") == {"webhooks": [webhook]}


async def test_a_new_secret_is_shown_once_and_the_old_one_signs_for_a_while(api: Api) -> None:
    webhook = await made(api)
    changed = await ask(api, "POST", f"/v1/webhooks/{webhook['id']}/rotate", json={"overlap_s": 60})
    assert changed.pop("secret") not in {None, webhook["secret"]}
    assert changed["old_secret_until"] > changed["created_at"]
    assert await ask(api, "GET", f"/v1/webhooks/{webhook['id']}") == changed


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        ({}, "url", "is required"),
        ({"url": "http://utility.example/"}, "url", "https://"),
        ({"url": "https://10.0.0.1/"}, "url", "internal address: 10.0.0.1 is private"),
        ({"url": "https://[::1]/"}, "url", "internal"),
        ({"url": "https://utility.example@10.0.0.1/"}, "url", "name or a password"),
        ({"url": URL, "kinds": ["message.sent"]}, "kinds.0", "must be one of"),
        ({"url": URL, "kinds": "message.failed"}, "kinds", "list"),
        ({"url": URL, "description": "a\nb"}, "description", "printable"),
        ({"url": URL, "description": "x" * 201}, "description", "at most 200"),
        ({"url": URL, "secret": "mine"}, "secret", "is not a field"),
    ],
)
async def test_a_bad_request_is_told_by_field(
    api: Api, asked: dict[str, Any], field: str, words: str
) -> None:
    problem = await ask(api, "POST", "/v1/webhooks", 422, json=asked)
    told = {error["field"]: error["message"] for error in problem["errors"]}
    assert words in told[field]
    assert await ask(api, "GET", "/v1/webhooks") == {"webhooks": []}


async def test_the_operator_may_name_internal_networks_and_they_still_need_https() -> None:
    async with serving(settings(environment="production", webhook_networks=["10.1.9.0/24"])) as api:
        assert (await made(api, url="https://10.1.9.7/hotsite"))["url"] == "https://10.1.9.7/hotsite"
        await ask(api, "POST", "/v1/webhooks", 422, json={"url": "http://10.1.9.7/"})
        await ask(api, "POST", "/v1/webhooks", 422, json={"url": "https://10.1.8.7/"})


async def test_a_change_leaves_what_it_does_not_name(api: Api) -> None:
    webhook = await made(api, kinds=["reply.received"])
    one = f"/v1/webhooks/{webhook['id']}"
    changed = await ask(api, "PATCH", one, json={"enabled": False})
    assert (changed["enabled"], changed["kinds"], changed["url"]) == (False, ["reply.received"], URL)
    changed = await ask(api, "PATCH", one, json={"kinds": [], "url": f"{URL}/2", "enabled": True})
    assert (changed["enabled"], changed["kinds"], changed["url"]) == (True, [], f"{URL}/2")
    await ask(api, "PATCH", one, 422, json={"url": "https://127.0.0.1/"})


async def test_an_account_has_so_many_webhooks(api: Api) -> None:
    for _ in range(MOST):
        await made(api)
    problem = await ask(api, "POST", "/v1/webhooks", 409, json={"url": URL})
    assert problem["type"] == "/docs#webhook-not-now"


async def test_another_account_finds_nothing(api: Api) -> None:
    one = f"/v1/webhooks/{(await made(api))['id']}"
    for method, path, asked in (
        ("GET", one, None),
        ("PATCH", one, {"enabled": False}),
        ("DELETE", one, None),
        ("POST", f"{one}/rotate", {}),
        ("POST", f"{one}/test", None),
        ("GET", f"{one}/deliveries", None),
        ("GET", f"{one}/dead-letters", None),
        ("POST", f"{one}/dead-letters/replay", {}),
    ):
        await ask(api, method, path, 404, json=asked, headers=OTHERS)
    assert await ask(api, "GET", "/v1/webhooks", headers=OTHERS) == {"webhooks": []}
    assert (await ask(api, "GET", one))["enabled"]


async def test_a_deleted_webhook_is_gone(api: Api) -> None:
    one = f"/v1/webhooks/{(await made(api))['id']}"
    await ask(api, "DELETE", one, 204)
    await ask(api, "GET", one, 404)
    await ask(api, "DELETE", one, 404)


async def test_a_test_is_on_its_way_at_once_unless_the_webhook_is_off(api: Api) -> None:
    webhook = await made(api)
    one = f"/v1/webhooks/{webhook['id']}"
    told = await ask(api, "POST", f"{one}/test", 202)
    [claim] = await api.store.claim_webhooks(TERM, "columbus-1", 30.0, 10)
    batch = await api.store.webhook_batch(TERM, claim.claim_id, 1, 10, 5)
    assert batch is not None
    [letter] = batch.letters
    assert (letter.kind, str(letter.id)) == ("webhook.test", told["event_id"])
    assert json.loads(letter.body)["id"] == told["event_id"]
    await ask(api, "PATCH", one, json={"enabled": False})
    await ask(api, "POST", f"{one}/test", 409)


async def test_events_follow_a_cursor_and_are_the_accounts_own(api: Api) -> None:
    begun = await ask(api, "GET", "/v1/events")
    assert (begun["events"], begun["more"]) == ([], False)
    theirs = await ask(api, "GET", "/v1/events", headers=OTHERS)
    ids = []
    for number in range(3):
        sent = await ask(api, "POST", "/v1/messages", 202, json=text(reference=f"o-{number}"))
        await ask(api, "DELETE", f"/v1/messages/{sent['id']}")
        ids.append(sent["id"])
    first = await ask(api, "GET", "/v1/events", params={"cursor": begun["next_cursor"], "limit": "2"})
    rest = await ask(api, "GET", "/v1/events", params={"cursor": first["next_cursor"]})
    assert (first["more"], rest["more"]) == (True, False)
    events = [*first["events"], *rest["events"]]
    assert [event["data"]["message_id"] for event in events] == ids
    assert {event["type"] for event in events} == {"message.canceled"}
    assert [event["data"]["reference"] for event in events] == ["o-0", "o-1", "o-2"]
    assert all(UUID(event["id"]) for event in events)
    none = await ask(api, "GET", "/v1/events", params={"cursor": theirs["next_cursor"]}, headers=OTHERS)
    assert none["events"] == []


async def test_a_cursor_that_is_too_old_says_so(api: Api) -> None:
    begun = await ask(api, "GET", "/v1/events")
    sent = await ask(api, "POST", "/v1/messages", 202, json=text())
    await ask(api, "DELETE", f"/v1/messages/{sent['id']}")
    await api.store.tidy_feed(TERM, 10, 0.0, 0.0)
    problem = await ask(api, "GET", "/v1/events", 410, params={"cursor": begun["next_cursor"]})
    assert problem["type"] == "/docs#cursor-too-old"


@pytest.mark.parametrize("cursor", ["x", "1", "1.", "-1.2", "1.2.3", "9" * 40, "\uff11.\uff12"])
async def test_a_cursor_that_was_not_given_out_here_is_refused(api: Api, cursor: str) -> None:
    await ask(api, "GET", "/v1/events", 422, params={"cursor": cursor})
