"""`GET /v1/doubts` over a real socket."""

import pytest

from dispatcher.model import SubmitOutcome
from tests.api_server import OTHER_KEY, TERM, serving, text
from tests.message_scenes import result


@pytest.fixture
async def api():
    async with serving() as served:
        yield served


async def in_doubt(api, *references: str) -> list[str]:
    ids = []
    for reference in references:
        async with api.client.post("/v1/messages", json=text(reference=reference)) as answer:
            ids.append((await answer.json())["id"])
    claims = await api.store.claim(TERM, "columbus-1", 10, 5.0)
    await api.store.settle([result(claim, SubmitOutcome.IN_DOUBT) for claim in claims])
    return ids


async def test_what_came_into_doubt_is_told_page_by_page(api):
    ids = await in_doubt(api, "r1", "r2", "r3")
    seen, cursor = [], None
    while True:
        query = {"term": TERM, "limit": 2} | ({"cursor": cursor} if cursor else {})
        async with api.client.get("/v1/doubts", params=query) as answer:
            assert answer.status == 200
            page = await answer.json()
        assert page["term"] == TERM
        seen += page["doubts"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [one["id"] for one in seen] == ids
    assert {(one["state"], one["attempt"], one["carrier"]) for one in seen} == {("in_doubt", 1, "carrier-a")}
    async with api.client.get("/v1/doubts", params={"term": TERM + 1}) as answer:
        assert (await answer.json())["doubts"] == []


async def test_another_account_sees_none_of_them(api):
    await in_doubt(api, "r1")
    headers = {"Authorization": f"Bearer {OTHER_KEY}"}
    async with api.client.get("/v1/doubts", params={"term": TERM}, headers=headers) as answer:
        assert (await answer.json())["doubts"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "term"),
        ({"term": "0"}, "term"),
        ({"term": "last"}, "term"),
        ({"term": "1" * 30}, "term"),
        ({"term": "7", "cursor": "x"}, "cursor"),
        ({"term": "7", "cursor": "9" * 30}, "cursor"),
        ({"term": "7", "limit": "0"}, "limit"),
        ({"term": "7", "colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_query_is_told_by_its_field(api, query, field):
    async with api.client.get("/v1/doubts", params=query) as answer:
        assert answer.status == 422
        assert [error["field"] for error in (await answer.json())["errors"]] == [field]
