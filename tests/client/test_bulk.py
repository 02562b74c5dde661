"""Many at once: results in order, and after a break only what is open is repeated."""

import json

import pytest

from hotsite_client import AsyncClient, BulkStopped, InvalidRequest, OutcomeUnknown, Unauthorized, Unreachable
from tests.api_server import KEY, Api
from tests.client.sites import (
    SHORT,
    Either,
    breaks_after,
    cuts,
    passes,
    says,
    site,
    stores_and_cuts,
    text,
)
from tests.client.test_calls import stored
from tests.ports import free_port


def texts(count: int) -> list:
    return [text(reference=f"o-{n}") for n in range(count)]


async def test_each_message_has_its_result_in_order_over_several_requests(api: Api, either: Either):
    results = []
    messages = [text(body=""), *texts(6), text()]
    await either.bulk([api.url], messages, into=results, at_once=3)
    assert [result.line for result in results] == list(range(1, 9))
    assert [result.accepted is not None for result in results] == [False] + [True] * 7
    assert isinstance(results[0].error, InvalidRequest)
    assert results[0].error.problem.errors[0].field == "body"
    assert results[3].accepted.reference == "o-2"
    assert (results[3].accepted.two_site, results[3].accepted.site) == (True, None)
    assert results[7].message.reference == results[7].accepted.reference is not None


async def test_after_a_break_only_what_is_open_is_repeated_with_the_same_references(api: Api, either: Either):
    results = []
    async with site(api, breaks_after(4)) as bad, site(api, passes) as good:
        await either.bulk([bad.url, good.url], texts(10), into=results)
    assert [result.accepted.duplicate for result in results] == [False] * 4 + [True] * 6
    repeated = [json.loads(line)["reference"] for line in good.asked[0].splitlines()]
    assert repeated == [f"o-{n}" for n in range(4, 10)]
    assert sorted(await stored(api)) == [f"o-{n}" for n in range(10)]


def stored_line(**changed: object) -> dict[str, object]:
    return {
        "line": 1, "status": 202, "id": "0190f5a2-0000-7000-8000-000000000000", "state": "queued",
        "reference": "o-0", "segments": 1, "encoding": "gsm", "durability": "one-site", **changed,
    }  # fmt: skip


def ndjson(*lines: object) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def test_a_line_that_could_not_be_stored_now_is_repeated_alone(api: Api, either: Either):
    problem = {"type": "/docs#unavailable", "title": "t", "status": 503, "detail": "d"}
    body = ndjson(stored_line(), {"line": 2, "status": 503, "reference": "o-1", "problem": problem})
    results = []
    async with site(api, says(200, body=body, kind="application/x-ndjson"), passes) as only:
        await either.bulk([only.url], texts(2), into=results)
    assert [result.accepted.two_site for result in results] == [False, True]
    assert await stored(api) == ["o-1"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>\n",
        b"[]\n",
        ndjson(stored_line(line=2)),
        ndjson(stored_line(reference="other")),
        ndjson(stored_line(id="x")),
    ],
)
async def test_results_that_cannot_be_ours_settle_nothing(api: Api, body: bytes):
    results = []
    async with site(api, says(200, body=body, kind="application/x-ndjson"), passes) as only:
        await Either("async").bulk([only.url], texts(3), into=results)
    assert sorted(await stored(api)) == ["o-0", "o-1", "o-2"]


async def test_a_wrong_key_ends_it_at_once(api: Api):
    async with AsyncClient([api.url], "wrong") as client:
        with pytest.raises(Unauthorized):
            _ = [result async for result in client.bulk(texts(3))]


async def test_when_all_sites_are_gone_it_tells_what_is_unknown_and_stops(api: Api, either: Either):
    results = []
    async with site(api, passes, stores_and_cuts) as only:
        with pytest.raises(BulkStopped, match="after message 4, those after it were not sent") as raised:
            await either.bulk([only.url], texts(9), into=results, at_once=2, policy=SHORT)
    assert [result.accepted is not None for result in results] == [True, True, False, False]
    assert all(isinstance(result.error, OutcomeUnknown) for result in results[2:])
    assert raised.value.line == 4
    assert {json.loads(line)["reference"] for line in b"".join(only.asked[1:]).splitlines()} == {"o-2", "o-3"}


async def test_what_reached_no_site_is_not_sent_and_not_unknown(either: Either):
    results = []
    with pytest.raises(BulkStopped):
        await either.bulk([f"http://127.0.0.1:{free_port()}"], texts(2), into=results, policy=SHORT)
    assert [type(result.error) for result in results] == [Unreachable, Unreachable]


async def test_a_refusal_after_an_unknown_outcome_leaves_it_unknown(api: Api):
    results = []
    async with site(api, stores_and_cuts, says(401, "unauthorized")) as only:
        with pytest.raises(BulkStopped):
            await Either("async").bulk([only.url], texts(2), into=results)
    assert [type(result.error) for result in results] == [OutcomeUnknown, OutcomeUnknown]


async def test_one_line_that_stays_open_does_not_stop_the_others(api: Api, either: Either):
    problem = {"type": "/docs#internal-error", "title": "t", "status": 500, "detail": "d"}
    defect = ndjson({"line": 1, "status": 500, "problem": problem})
    poison = says(200, body=defect, kind="application/x-ndjson")
    results = []
    async with site(api, breaks_after(1), poison, poison, poison, passes) as bad:
        await either.bulk([bad.url], texts(4), into=results, at_once=2, policy=SHORT)
    assert [result.accepted is not None for result in results] == [True, False, True, True]
    assert isinstance(results[1].error, OutcomeUnknown)


async def test_too_many_streams_are_waited_for(api: Api, either: Either):
    results = []
    async with site(api, says(429, "too-many-streams", retry_after="0"), passes) as only:
        await either.bulk([only.url], texts(2), into=results)
    assert [result.accepted.duplicate for result in results] == [False, False]


async def test_an_endless_source_is_read_no_further_than_a_request(api: Api):
    read = 0

    async def endless():
        nonlocal read
        while True:
            read += 1
            yield text()

    async with AsyncClient([api.url], KEY) as client:
        async for result in client.bulk(endless(), at_once=10):
            assert result.accepted is not None
            if result.line == 15:
                break
    assert read == 20


async def test_long_texts_go_in_more_requests_so_that_little_is_held(api: Api):
    results = []
    async with site(api, passes) as only:
        await Either("async").bulk([only.url], [text(body="x" * 400_000)] * 5, into=results)
    assert [content.count(b"\n") for content in only.asked] == [3, 2]
    assert [type(result.error) for result in results] == [InvalidRequest] * 5


async def test_nothing_is_asked_when_there_is_nothing_to_send(api: Api, either: Either):
    async with site(api, cuts) as only:
        await either.bulk([only.url], [], into=[])
    assert only.asked == []


async def test_a_text_that_is_no_unicode_is_refused_with_its_line(api: Api, either: Either):
    results = []
    await either.bulk([api.url], [text(body="\ud800"), text()], into=results)
    assert [type(result.error) for result in results] == [InvalidRequest, type(None)]
