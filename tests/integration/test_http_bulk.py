"""Bulk requests over a real socket: streamed, in order, line by line."""

import asyncio
import io
import json
from contextlib import AsyncExitStack

import aiohttp
import pytest

from dispatcher.http import bulk as bulk_module
from dispatcher.http.app import INTAKE
from tests.api_server import KEY, OTHER_KEY, Api, serving, settings, text

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
async def api():
    async with serving() as served:
        yield served


def lines(*documents: object) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


async def bulk(api: Api, data: object) -> list[dict[str, object]]:
    data = io.BytesIO(data) if isinstance(data, bytes) else data
    async with api.client.post("/v1/messages/bulk", data=data, headers=NDJSON) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/x-ndjson"
        return [json.loads(line) for line in (await answer.read()).splitlines()]


async def test_each_line_gets_one_result_line_in_order(api):
    results = await bulk(api, lines(*(text(reference=f"o-{n}") for n in range(1_000))))
    assert [result["line"] for result in results] == list(range(1, 1_001))
    assert [result["reference"] for result in results] == [f"o-{n}" for n in range(1_000)]
    assert {(result["status"], result["state"], result["durability"]) for result in results} == {
        (202, "queued", "two-site")
    }


async def test_a_broken_line_in_the_middle_gets_its_own_error_and_the_others_go_on(api):
    results = await bulk(
        api, lines(text()) + b'{"program": "outages", \n' + lines(text(to="12"), text(reference="last"))
    )
    assert [result["status"] for result in results] == [202, 400, 422, 202]
    assert results[1]["problem"]["type"] == "/docs#malformed-json"
    assert results[2]["problem"]["errors"][0]["field"] == "to"


@pytest.mark.parametrize(
    ("line", "status", "slug"),
    [
        (b"", 422, "invalid-request"),
        (b"[1, 2]", 422, "invalid-request"),
        (b"\xff\xfe", 400, "malformed-json"),
        (json.dumps(text(body="x" * 153 * 2_000)).encode(), 422, "invalid-request"),
        (b'"' + b"x" * 1_000_000 + b'"', 413, "too-large"),
        (b'{"body": "' + b"x" * 10_000_000 + b'"}', 413, "too-large"),
        (b'{"body": "\\ud800"}', 400, "malformed-json"),
        (b'{"body": "a\0b"}', 400, "malformed-json"),
        (b"[" * 5_000, 400, "malformed-json"),
        (b'{"to": ' + b"9" * 5_000 + b"}", 400, "malformed-json"),
        (json.dumps(text(body="a\0b")).encode(), 422, "invalid-request"),
        (json.dumps(text(body="")).encode(), 422, "invalid-request"),
        (json.dumps(text(body="x" * 2_000)).encode(), 422, "invalid-request"),
        (json.dumps(text(to="12345")).encode(), 422, "invalid-request"),
        (json.dumps(text(refrence="x")).encode(), 422, "invalid-request"),
        (json.dumps(text(send_at="0001-01-01T00:00:00+14:00")).encode(), 422, "invalid-request"),
        (b'{"to": "1", ' + json.dumps(text()).encode()[1:], 422, "invalid-request"),
        (json.dumps(text(program="nobody's")).encode(), 422, "invalid-request"),
    ],
)
async def test_whatever_a_line_holds_the_next_one_is_served(api, line, status, slug):
    before, first, second = await bulk(api, lines(text()) + line + b"\n" + lines(text()))
    assert before["status"] == 202
    assert (first["status"], first["problem"]["type"]) == (status, f"/docs#{slug}")
    assert second["status"] == 202


async def test_a_line_too_long_to_be_read_is_refused_by_its_field(api):
    [result] = await bulk(api, lines(text(body="x" * 1_000_000)))
    [error] = result["problem"]["errors"]
    assert error["field"] == "body"
    assert "at most 10 segments" in error["message"]


async def test_the_last_line_needs_no_line_end(api):
    assert len(await bulk(api, lines(text()) + lines(text()).rstrip())) == 2


async def no_chunks():
    for chunk in ():
        yield chunk


async def no_chunks_after_a_while():
    await asyncio.sleep(0.1)  # the headers are there long before the end
    for chunk in ():
        yield chunk


@pytest.mark.parametrize("nothing", [lambda: b"", no_chunks, no_chunks_after_a_while])
async def test_an_empty_body_is_refused_with_what_to_send(api, nothing):
    async with api.client.post("/v1/messages/bulk", data=nothing(), headers=NDJSON) as answer:
        assert answer.status == 400
        problem = await answer.json(content_type="application/problem+json")
    for word in ("empty", "application/x-ndjson", "a line for each message", "curl --data-binary"):
        assert word in problem["detail"]


async def test_objects_that_curl_joined_in_one_line_are_refused_with_the_cure(api):
    [result] = await bulk(api, lines(text(), text()).replace(b"\n", b""))
    assert result["status"] == 400
    assert "trailing characters" in result["problem"]["detail"]
    assert "--data-binary" in result["problem"]["detail"]


async def test_a_repeated_reference_in_one_request_is_one_message(api):
    first, second, third = await bulk(
        api, lines(text(reference="o-1"), text(reference="o-1"), text(reference="o-1", body="Other"))
    )
    assert second == {**first, "line": 2, "status": 200, "duplicate": True}
    assert (third["status"], third["reference"]) == (409, "o-1")


async def test_results_come_while_lines_are_still_being_sent(api):
    turn = asyncio.Event()
    seen = []

    async def sending():
        for number in range(3):
            yield lines(text(reference=f"o-{number}"))
            await asyncio.wait_for(turn.wait(), 5)
            turn.clear()

    async with api.client.post("/v1/messages/bulk", data=sending(), headers=NDJSON) as answer:
        async for line in answer.content:
            seen.append(json.loads(line)["reference"])
            turn.set()
    assert seen == ["o-0", "o-1", "o-2"]


async def test_what_a_caller_does_not_read_stops_the_reading_of_its_lines(api):
    """The window is two groups of ten lines: whatever the caller sends on, no more than that is taken."""
    async with serving(settings(group_max=10)) as small:
        small.leadership.gate.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", small.port)
        small.leadership.gate.set()
        writer.write(head() + lines(text()))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        small.leadership.gate.clear()
        small.leadership.held.clear()
        writer.write(b"".join(lines(text(reference=f"o-{n}")) for n in range(5_000)))
        await asyncio.wait_for(small.leadership.held.wait(), 5)
        for _ in range(50):
            await asyncio.sleep(0)
        assert 0 < small.app[INTAKE].waiting <= 20
        writer.close()


def head() -> bytes:
    return (
        f"POST /v1/messages/bulk HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Type: application/x-ndjson\r\nContent-Length: 100000000\r\n\r\n"
    ).encode()


async def test_a_stream_that_breaks_off_keeps_what_was_answered(api):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(head() + lines(text(reference="o-1")))
    await asyncio.wait_for(reader.readuntil(b'"durability"'), 5)
    writer.close()
    async with api.client.get("/v1/messages", params={"reference": "o-1"}) as answer:
        assert len((await answer.json())["messages"]) == 1


async def test_single_requests_are_served_while_a_bulk_request_runs(api):
    async def endless():
        while not done.is_set():
            yield lines(*(text() for _ in range(20)))
            await asyncio.sleep(0)

    done = asyncio.Event()
    async with api.client.post("/v1/messages/bulk", data=endless(), headers=NDJSON) as answer:
        for _ in range(5):
            async with api.client.post("/v1/messages", json=text()) as single:
                assert single.status == 202
        done.set()
        assert b'"status":202' in await answer.read()


# -- how many at once


CHUNKED = (
    head()
    .replace(b"HTTP/1.0", b"HTTP/1.1")
    .replace(b"Content-Length: 100000000", b"Transfer-Encoding: chunked")
)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def started(stack: AsyncExitStack, api: Api) -> Streams:
    """A chunked bulk request that goes on; its first line has been answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    stack.callback(writer.close)
    line = lines(text(reference="o-1"))
    writer.write(CHUNKED + b"%x\r\n%s\r\n" % (len(line), line))
    await asyncio.wait_for(reader.readuntil(b'"durability"'), 5)
    return reader, writer


async def tried(api: Api, secret: str = KEY) -> aiohttp.ClientResponse:
    headers = NDJSON | {"Authorization": f"Bearer {secret}"}
    async with api.client.post("/v1/messages/bulk", data=lines(text()), headers=headers) as answer:
        await answer.read()
        return answer


async def test_an_account_has_so_many_bulk_requests_at_once_and_another_has_room(api, monkeypatch):
    monkeypatch.setattr(bulk_module, "STREAMS_PER_ACCOUNT", 2)
    async with AsyncExitStack() as stack:
        streams = [await started(stack, api) for _ in range(2)]
        refused = await tried(api)
        assert (refused.status, refused.content_type) == (429, "application/problem+json")
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await refused.json())["type"] == "/docs#too-many-streams"
        assert (await tried(api, OTHER_KEY)).status == 200
        reader, writer = streams[0]
        writer.write(b"0\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), 5)
        async with asyncio.timeout(5):
            while (await tried(api)).status != 200:  # the end is written a moment before the place is free
                pass


def test_one_account_never_takes_all_the_room():
    assert 0 < bulk_module.STREAMS_PER_ACCOUNT < bulk_module.STREAMS


# -- chunks that are none


@pytest.mark.parametrize("broken", [b"zz\r\nhello\r\n", b"5\r\nhelloXX\r\n", b"-1\r\n", b"F" * 20 + b"\r\n"])
async def test_a_broken_chunk_ends_the_request_at_once_after_the_results_before_it(api, broken, caplog):
    async with AsyncExitStack() as stack:
        reader, writer = await started(stack, api)
        writer.write(broken)
        rest = await asyncio.wait_for(reader.read(), 5)  # the deadline of a line would be 30 s
        [last] = [line for line in rest.splitlines() if line.startswith(b"{")]
        result = json.loads(last)
        assert (result["status"], result["problem"]["type"]) == (400, "/docs#bad-request")
        assert b"HTTP/1.1" not in rest  # and no second answer
    async with api.client.get("/v1/messages", params={"reference": "o-1"}) as answer:
        assert len((await answer.json())["messages"]) == 1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_single_message_whose_second_chunk_is_none_is_answered_at_once(api, caplog):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    begun = CHUNKED.replace(b"/bulk", b"").replace(b"x-ndjson", b"json") + b"5\r\n{    \r\n"
    writer.write(begun)
    for _ in range(5):
        await asyncio.sleep(0)
    writer.write(b"zz\r\n")
    told = await asyncio.wait_for(reader.read(), 5)
    assert told.startswith(b"HTTP/1.1 400 ")
    assert b"/docs#bad-request" in told
    assert told.count(b"HTTP/1.1") == 1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    writer.close()


async def test_a_broken_request_behind_a_good_one_takes_nothing_from_it(api):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    body = json.dumps(text()).encode()
    request = head().replace(b"HTTP/1.0", b"HTTP/1.1").replace(b"/bulk", b"").replace(b"x-ndjson", b"json")
    writer.write(request.replace(b"100000000", str(len(body)).encode()) + body)
    first = await asyncio.wait_for(reader.readuntil(b'"term"'), 5)
    assert first.startswith(b"HTTP/1.1 202 ")
    writer.write(b"\0\0\0 nonsense\r\n\r\n")
    assert b" 400 " in await asyncio.wait_for(reader.read(), 5)
    writer.close()
