"""Sending, looking, listing, canceling and previewing over a real socket, when all goes well or nearly so."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from dispatcher.model import StoredDurability
from dispatcher.uuid7 import made_at
from tests.api_server import OTHER_KEY, Api, furnished_store, key, serving, settings, text
from tests.waiting import eventually


@pytest.fixture
async def api():
    async with serving() as served:
        yield served


async def send(api: Api, **changed: object) -> dict[str, object]:
    async with api.client.post("/v1/messages", json=text(**changed)) as answer:
        assert answer.status in {200, 202}, await answer.text()
        return await answer.json()


async def test_an_accepted_message_is_answered_202_with_the_promise(api):
    async with api.client.post("/v1/messages", json=text(reference="o-1")) as answer:
        assert answer.status == 202
        told = await answer.json()
        UUID(answer.headers["X-Request-Id"])
    assert made_at(UUID(told.pop("id"))) > 0
    assert told == {
        "state": "queued",
        "reference": "o-1",
        "segments": 1,
        "encoding": "gsm",
        "durability": "two-site",
        "site": "columbus",
        "live_site": "columbus",
        "term": 7,
    }


async def test_a_newer_text_of_a_topic_takes_the_place_of_an_older_one(api):
    older = await send(api, topic="outage-17")
    newer = await send(api, topic="outage-17")
    async with api.client.get(f"/v1/messages/{older['id']}") as answer:
        told = await answer.json()
    assert (told["state"], newer["state"]) == ("canceled", "queued")
    assert newer["id"] in told["events"][-1]["detail"]
    assert (told["topic"], told["topic_at"], told["superseded_by"]) == ("outage-17", None, newer["id"])
    async with api.client.get("/v1/messages") as answer:
        listed = {one["id"]: one["superseded_by"] for one in (await answer.json())["messages"]}
    assert listed == {older["id"]: newer["id"], newer["id"]: None}


async def test_an_older_text_of_a_topic_that_comes_late_is_answered_as_canceled(api):
    now = datetime.now(UTC)
    await send(api, topic="outage-17", topic_at=now.isoformat())
    late = await send(api, topic="outage-17", topic_at=(now - timedelta(hours=1)).isoformat())
    assert late["state"] == "canceled"


async def test_the_same_reference_again_answers_200_with_the_first_message(api):
    first = await send(api, reference="o-1")
    async with api.client.post("/v1/messages", json=text(reference="o-1")) as answer:
        assert answer.status == 200
        again = await answer.json()
    assert again == {**first, "duplicate": True}


async def test_the_same_reference_with_another_text_answers_409(api):
    await send(api, reference="o-1")
    async with api.client.post("/v1/messages", json=text(reference="o-1", body="Other")) as answer:
        assert answer.status == 409
        assert (await answer.json())["type"] == "/docs#reference-conflict"


async def test_a_repeat_is_a_repeat_also_when_the_texts_time_has_passed(api):
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    first = await send(api, reference="o-1", expires_at=soon.isoformat())
    await eventually(lambda: datetime.now(UTC) > soon)
    again = await send(api, reference="o-1", expires_at=soon.isoformat())
    assert (again["id"], again["duplicate"]) == (first["id"], True)
    for changed, status in (
        ({"reference": "o-1", "body": "Other"}, 409),
        ({"reference": "o-2"}, 422),
        ({}, 422),
    ):
        sent = text(**changed, expires_at=soon.isoformat())
        async with api.client.post("/v1/messages", json=sent) as answer:
            assert answer.status == status
        async with api.client.post(
            "/v1/messages/bulk", data=json.dumps(sent), headers={"Content-Type": "application/x-ndjson"}
        ) as answer:
            assert (await answer.json(content_type=None))["status"] == status


async def test_one_reference_sent_by_forty_clients_at_once_is_one_message(api):
    answers = await asyncio.gather(*(send(api, reference="o-1") for _ in range(40)))
    assert len({answer["id"] for answer in answers}) == 1
    assert sum("duplicate" not in answer for answer in answers) == 1


async def test_two_accounts_may_use_the_same_reference(api):
    mine = await send(api, reference="o-1")
    async with api.client.post(
        "/v1/messages",
        json=text(program="leaks", reference="o-1"),
        headers={"Authorization": f"Bearer {OTHER_KEY}"},
    ) as answer:
        assert answer.status == 202
        assert (await answer.json())["id"] != mine["id"]


async def test_a_commit_of_unknown_outcome_is_repeated_and_still_answered_as_new(api):
    api.leadership.unknown_next = 1
    async with api.client.post("/v1/messages", json=text(reference="o-1")) as answer:
        assert answer.status == 202
        assert "duplicate" not in await answer.json()


async def test_the_answer_says_when_only_one_site_has_the_message(api):
    api.store.durability = StoredDurability.ONE_SITE
    assert (await send(api))["durability"] == "one-site"


async def test_strict_durability_answers_503_for_one_site_and_a_repeat_settles_it():
    async with serving(settings(durability="strict")) as api:
        api.store.durability = StoredDurability.ONE_SITE
        async with api.client.post("/v1/messages", json=text(reference="o-1")) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
            assert (await answer.json())["type"] == "/docs#one-site-only"
        api.store.durability = StoredDurability.TWO_SITE
        async with api.client.post("/v1/messages", json=text(reference="o-1")) as answer:
            assert answer.status == 200
            assert (await answer.json())["duplicate"] is True


async def test_a_request_is_held_while_production_moves_and_answered_afterwards(api):
    await send(api)  # the key is known
    api.leadership.gate.clear()
    held = asyncio.create_task(send(api))
    await asyncio.wait_for(api.leadership.held.wait(), 5)
    assert not held.done()
    api.leadership.live_site = "denver"
    api.leadership.gate.set()
    assert (await held)["live_site"] == "denver"


async def test_a_request_held_too_long_answers_503_and_says_when_to_come_again():
    async with serving(settings(hold_for=0.1)) as api:
        await send(api)
        api.leadership.gate.clear()
        async with api.client.post("/v1/messages", json=text()) as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert (await answer.json())["type"] == "/docs#unavailable"


async def test_a_message_is_shown_with_its_parts_and_its_story(api):
    sent = await send(api, body="é" * 161, reference="o-9")
    async with api.client.get(f"/v1/messages/{sent['id']}") as answer:
        assert answer.status == 200
        shown = await answer.json()
    assert (shown["segments"], shown["encoding"], shown["class"]) == (2, "gsm", "service")
    assert [part["segment"] for part in shown["parts"]] == [1, 2]
    assert shown["events"][0]["state"] == "accepted"


async def test_a_message_of_another_account_does_not_exist(api):
    sent = await send(api)
    other = {"Authorization": f"Bearer {OTHER_KEY}"}
    async with api.client.get(f"/v1/messages/{sent['id']}", headers=other) as answer:
        assert answer.status == 404
    async with api.client.delete(f"/v1/messages/{sent['id']}", headers=other) as answer:
        assert answer.status == 404
    async with api.client.get("/v1/messages", headers=other) as answer:
        assert (await answer.json())["messages"] == []


async def test_a_message_is_found_by_its_reference(api):
    sent = await send(api, reference="o-1")
    await send(api, reference="o-2")
    async with api.client.get("/v1/messages", params={"reference": "o-1"}) as answer:
        page = await answer.json()
    assert [message["id"] for message in page["messages"]] == [sent["id"]]
    assert page["next_cursor"] is None


async def test_pages_follow_each_other_newest_first_without_gap_or_repeat(api):
    sent = [(await send(api))["id"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        async with api.client.get("/v1/messages", params=params) as answer:
            page = await answer.json()
        seen += [message["id"] for message in page["messages"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == sent[::-1]


async def test_the_list_can_begin_at_a_time(api):
    sent = await send(api)
    async with api.client.get(f"/v1/messages/{sent['id']}") as answer:
        at = (await answer.json())["accepted_at"]
    async with api.client.get("/v1/messages", params={"since": at}) as answer:
        assert len((await answer.json())["messages"]) == 1
    async with api.client.get("/v1/messages", params={"since": "2999-01-01T00:00:00Z"}) as answer:
        assert (await answer.json())["messages"] == []


async def test_pages_since_a_time_are_full_and_end_with_the_first_message_of_that_time(api):
    sent = [(await send(api))["id"] for _ in range(5)]
    async with api.client.get(f"/v1/messages/{sent[1]}") as answer:
        since = (await answer.json())["accepted_at"]
    pages, cursor = [], None
    while cursor is not None or not pages:
        params = {"limit": "2", "since": since} | ({"cursor": cursor} if cursor else {})
        async with api.client.get("/v1/messages", params=params) as answer:
            page = await answer.json()
        pages.append([message["id"] for message in page["messages"]])
        cursor = page["next_cursor"]
    assert pages == [[sent[4], sent[3]], [sent[2], sent[1]]]


async def test_what_has_not_left_is_canceled_and_canceling_again_is_safe(api):
    sent = await send(api)
    for _ in range(2):
        async with api.client.delete(f"/v1/messages/{sent['id']}") as answer:
            assert answer.status == 200
            assert (await answer.json())["state"] == "canceled"


async def test_what_has_left_cannot_be_canceled(api):
    sent = await send(api)
    await api.store.claim(7, "d1", 10, 5.0)
    async with api.client.delete(f"/v1/messages/{sent['id']}") as answer:
        assert answer.status == 409
        assert (await answer.json())["type"] == "/docs#already-left"


async def test_a_preview_tells_encoding_segments_and_the_offending_characters(api):
    async with api.client.post("/v1/preview", json={"body": "It\u2019s back"}) as answer:
        assert answer.status == 200
        told = await answer.json()
    assert (told["encoding"], told["segments"]) == ("ucs2", 1)
    assert told["offending"] == [
        {"index": 2, "character": "\u2019", "code_point": "U+2019", "name": "right single quotation mark"}
    ]


def carrier(name: str, **changed: object) -> dict[str, object]:
    return {"name": name, "address": "127.0.0.1:1", "system_id": "hotsite", **changed}


async def previewed(api: Api, body: str) -> dict[str, object]:
    async with api.client.post("/v1/preview", json={"body": body}) as answer:
        assert answer.status == 200
        return await answer.json()


async def test_a_preview_tells_the_cost_in_segments_where_no_price_is_set():
    async with serving(settings(carriers=[carrier("northline")])) as api:
        assert (await previewed(api, "x" * 161))["cost"] == {"segments": 2}


async def test_a_preview_tells_the_cost_at_each_carrier_whose_price_is_set():
    priced = carrier("northline", price={"per_segment": "0.0075", "currency": "USD"})
    async with serving(settings(carriers=[priced, carrier("southcell")])) as api:
        told = await previewed(api, "\u2019" * 141)
    assert told["segments"] == 3
    assert told["cost"] == {
        "segments": 3,
        "prices": [{"carrier": "northline", "per_segment": "0.0075", "total": "0.0225", "currency": "USD"}],
    }


async def test_a_preview_of_more_segments_than_may_be_sent_says_so(api):
    told = await previewed(api, "x" * 153 * 300)
    assert (told["cost"], told["too_long"]) == ({"segments": 300}, True)


async def test_a_client_that_hangs_up_takes_nothing_back(api):
    await send(api)
    api.leadership.gate.clear()
    gone = asyncio.create_task(send(api, reference="o-1"))
    await asyncio.wait_for(api.leadership.held.wait(), 5)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    api.leadership.gate.set()
    assert (await send(api, reference="o-1"))["duplicate"] is True


async def test_a_key_made_a_moment_ago_works_at_once():
    store = furnished_store()
    async with serving(store=store) as api:
        await send(api)
        store.add_key(key("hs_new", 9, 1))
        async with api.client.post(
            "/v1/messages", json=text(), headers={"Authorization": "Bearer hs_new"}
        ) as answer:
            assert answer.status == 202
