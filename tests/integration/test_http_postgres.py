"""What PostgreSQL makes of the oddest things that the API lets through to it."""

from collections.abc import AsyncIterator

import pytest

from dispatcher.accounts import add_account
from dispatcher.postgres_store import PostgresStore
from replication.session import Session, Target
from tests.api_server import KEY, Api, serving, text
from tests.message_store import as_role


@pytest.fixture
async def api(store_database: Target) -> AsyncIterator[Api]:
    session = await Session.connect(as_role(store_database, "hotsite_migrate"), timeout=5)
    await add_account(session, name="utility", program="outages", source="77001", key=KEY)
    await session.aclose()
    store = PostgresStore(await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5))
    async with serving(store=store) as served:
        yield served
    await store.aclose()


@pytest.mark.parametrize(
    "body", ["\u0085\u2028\ufeff", "\uffff\ufffe", "\U0001f469\u200d\U0001f692", "\U0010ffff", "\\u0000 \\", "%s {0}",
             "é" * 670],
)  # fmt: skip
async def test_an_odd_text_is_stored_and_shown_as_it_was_sent(api: Api, body: str) -> None:
    async with api.client.post("/v1/messages", json=text(body=body, reference="Größe “1” 🙂")) as answer:
        assert answer.status == 202, await answer.text()
        sent = await answer.json()
    async with api.client.get("/v1/messages", params={"reference": "Größe “1” 🙂"}) as answer:
        [found] = (await answer.json())["messages"]
    assert (found["id"], found["body"]) == (sent["id"], body)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
async def test_the_edges_of_the_calendar_are_times(api: Api, time: str) -> None:
    field = "send_at" if time.startswith("0") else "expires_at"
    async with api.client.post("/v1/messages", json=text(**{field: time})) as answer:
        assert answer.status == 202, await answer.text()
    async with api.client.get("/v1/messages", params={"since": time}) as answer:
        assert answer.status == 200
        assert len((await answer.json())["messages"]) == (field == "send_at")


@pytest.mark.parametrize(
    "query",
    ["to=%00", "to=%ff", "to=%ed%a0%80", "reference=%00", "reference=%ff", "reference=%ed%a0%80", "state=%00",
     "since=0001-01-01T00:00:00%2B14:00", "since=9999-12-31T23:59:59-14:00", "since=-1", "cursor=" + "A" * 22,
     "cursor=%F0%9F%99%82", "limit=1e400", "%ff=%ff", "to=" + "%2B1" * 1_000],
)  # fmt: skip
async def test_no_query_whatsoever_is_answered_with_a_defect(api: Api, query: str) -> None:
    async with api.client.get(f"/v1/messages?{query}") as answer:
        assert answer.status in {200, 422}, await answer.text()


async def test_the_same_reference_with_another_text_is_a_conflict_and_the_first_one_stays(api: Api) -> None:
    for body, status in (("One", 202), ("Two", 409), ("One", 200)):
        async with api.client.post("/v1/messages", json=text(reference="o-1", body=body)) as answer:
            assert answer.status == status
