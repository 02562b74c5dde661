"""How many connections a client may hold and for how long, over real sockets, whatever it does with them."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from dispatcher.http import body, bulk, door, server
from dispatcher.http.server import DOOR
from tests.api_server import KEY, OTHER_KEY, Api, serving, settings, text

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(api: Api) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def several(stack: AsyncExitStack, api: Api, count: int) -> list[Streams]:
    return [await stack.enter_async_context(connected(api)) for _ in range(count)]


def head(path: str = "/v1/messages", *, length: int = 100, type_: str = "json") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/{type_}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


BULK = head("/v1/messages/bulk", length=1_000_000, type_="x-ndjson")
LINE = json.dumps(text()).encode() + b"\n"
BULK_OF_ANOTHER = BULK.replace(KEY.encode(), OTHER_KEY.encode())
LINE_OF_ANOTHER = json.dumps(text(program="leaks")).encode() + b"\n"


async def asked(streams: Streams, path: str = "/v1/openapi.json") -> bytes:
    """Use the connection and keep it open."""
    reader, writer = streams
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    [length] = [line for line in answer.split(b"\r\n") if line.startswith(b"Content-Length")]
    await asyncio.wait_for(reader.readexactly(int(length.partition(b":")[2])), 5)
    return answer


async def until_open(api: Api, count: int) -> None:
    """Wait until so many connections are left."""
    watched, changed = api.app[DOOR], asyncio.Event()
    leave = watched.leave

    def noted(guest: door.Guest) -> None:
        leave(guest)
        changed.set()

    watched.leave = noted
    async with asyncio.timeout(10):
        while watched.open != count:
            changed.clear()
            await changed.wait()


async def served(api: Api) -> int:
    """The status of a good request over a connection of its own."""
    async with asyncio.timeout(5):
        async with api.client.post("/v1/messages", json=text(), headers={"Connection": "close"}) as answer:
            await answer.read()
            return answer.status


# -- how many


async def test_by_default_a_load_generator_with_256_connections_and_all_bulk_streams_is_served():
    async with serving() as api, AsyncExitStack() as stack:
        for number, streams in enumerate(await several(stack, api, bulk.STREAMS)):
            mine = number < bulk.STREAMS_PER_ACCOUNT
            streams[1].write(BULK + LINE if mine else BULK_OF_ANOTHER + LINE_OF_ANOTHER)
            await asyncio.wait_for(streams[0].readuntil(b'"status":202'), 5)
        for streams in await several(stack, api, 256):
            assert b" 200 " in await asked(streams)
        assert api.app[DOOR].open == 256 + bulk.STREAMS
        assert await served(api) == 202
        assert api.app[DOOR].refused.total() == 0


async def test_one_connection_too_many_of_a_source_is_told_503_and_when_to_come_again():
    async with serving(settings(max_connections_per_source=3)) as api, AsyncExitStack() as stack:
        inside = await several(stack, api, 3)
        for streams in inside:
            await asked(streams)
        async with api.client.post("/v1/messages", json=text()) as answer:
            problem = await answer.json()
            assert (answer.status, answer.content_type) == (503, "application/problem+json")
            assert problem["type"] == "/docs#too-many-connections"
            assert problem["instance"] == f"urn:uuid:{answer.headers['X-Request-Id']}"
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.headers["Connection"] == "close"
        assert api.app[DOOR].refused == {door.Bound.SOURCE: 1}
        assert b" 200 " in await asked(inside[0])  # the others are not touched
        inside[0][1].close()
        await until_open(api, 2)
        assert await served(api) == 202


async def test_a_refused_client_that_sends_much_still_reads_its_answer():
    async with serving(settings(max_connections_per_source=1)) as api, AsyncExitStack() as stack:
        await asked(*await several(stack, api, 1))
        async with api.client.post("/v1/messages", data=io.BytesIO(bytes(5_000_000))) as answer:
            assert answer.status == 503
            assert (await answer.json())["type"] == "/docs#too-many-connections"


async def test_the_total_bounds_load_balancers_too():
    configured = settings(max_connections=3, max_connections_per_source=1, uncapped_sources=["127.0.0.0/8"])
    async with serving(configured) as api, AsyncExitStack() as stack:
        for streams in await several(stack, api, 3):
            assert b" 200 " in await asked(streams)
        assert await served(api) == 503
        assert api.app[DOOR].refused == {door.Bound.TOTAL: 1}


async def test_a_refused_client_that_says_nothing_is_gone_soon(monkeypatch):
    monkeypatch.setattr(server, "LINGER_S", 0.1)
    async with serving(settings(max_connections_per_source=1)) as api, AsyncExitStack() as stack:
        await asked(*await several(stack, api, 1))
        [(reader, _)] = await several(stack, api, 1)
        assert await asyncio.wait_for(ended(reader), 5) == b""


async def test_of_many_refused_clients_only_some_are_told_and_the_others_cut_off(monkeypatch):
    monkeypatch.setattr(server, "TURNED_AWAY", 2)
    async with serving(settings(max_connections_per_source=1)) as api, AsyncExitStack() as stack:
        await asked(*await several(stack, api, 1))
        refused = await several(stack, api, 3)
        assert await asyncio.wait_for(ended(refused[2][0]), 5) == b""
        refused[0][1].write(head())
        assert b" 503 " in await asyncio.wait_for(refused[0][0].readline(), 5)


# -- slow ones


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the other side closes, or cuts off."""
    received = b""
    try:
        while part := await reader.read(65_536):
            received += part
    except ConnectionError:
        pass
    return received


async def drip(writer: asyncio.StreamWriter, parts: Sequence[bytes], every_s: float = 0.02) -> None:
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(every_s)
    except ConnectionError:
        pass


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


async def idle(_: asyncio.StreamWriter) -> None: ...


async def idle_after_an_answer(writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n")


async def drip_headers(writer: asyncio.StreamWriter) -> None:
    await drip(writer, bytewise(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 1_000))


async def drip_headers_after_an_answer(writer: asyncio.StreamWriter) -> None:
    await idle_after_an_answer(writer)
    await drip_headers(writer)


async def drip_body(writer: asyncio.StreamWriter) -> None:
    writer.write(head(length=1_000))
    await drip(writer, bytewise(b" " * 1_000))


async def drip_chunks(writer: asyncio.StreamWriter) -> None:
    writer.write(head().replace(b"Content-Length: 100", b"Transfer-Encoding: chunked"))
    await drip(writer, [b"1\r\n \r\n"] * 1_000)


async def drip_preview(writer: asyncio.StreamWriter) -> None:
    writer.write(head("/v1/preview", length=1_000))
    await drip(writer, bytewise(b" " * 1_000))


async def drip_body_of_refused(writer: asyncio.StreamWriter) -> None:
    writer.write(head(length=1_000).replace(KEY.encode(), b"wrong"))
    await drip(writer, bytewise(b" " * 1_000))


async def drip_body_of_get(writer: asyncio.StreamWriter) -> None:
    writer.write(head("/docs", length=1_000).replace(b"POST", b"GET"))
    await drip(writer, bytewise(b" " * 1_000))


async def drip_bulk_line(writer: asyncio.StreamWriter) -> None:
    writer.write(BULK + LINE)
    await drip(writer, bytewise(b'{"program": "' + b"a" * 1_000))


async def idle_bulk(writer: asyncio.StreamWriter) -> None:
    writer.write(BULK + LINE)


async def never_read(writer: asyncio.StreamWriter) -> None:
    """Ask for far more than the sockets hold, and take none of it."""
    await drip(writer, [b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 500])


@pytest.fixture
def hasty(monkeypatch):
    """Deadlines of a fraction of a second."""
    for module, name in (
        (server, "IDLE_S"), (server, "UNREAD_S"), (server, "LINGER_S"), (body, "WITHIN_S"), (bulk, "PAUSE_S"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 0.3)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("dawdle", "last_word"),
    [
        (idle, b""),
        (idle_after_an_answer, b"</html>"),
        (drip_headers, b""),
        (drip_headers_after_an_answer, b"</html>"),
        (drip_body, b'"status":408'),
        (drip_chunks, b'"status":408'),
        (drip_preview, b'"status":408'),
        (drip_body_of_refused, b'"status":401'),
        (drip_body_of_get, b"</html>"),
        (drip_bulk_line, b'"status":408'),
        (idle_bulk, b'"status":408'),
        (never_read, None),
    ],
)
async def test_a_dawdler_is_dropped_in_time_and_others_are_served_meanwhile(
    dawdle: Callable[[asyncio.StreamWriter], Awaitable[None]], last_word: bytes | None
):
    async with serving() as api, AsyncExitStack() as stack:
        dawdlers = await several(stack, api, bulk.STREAMS_PER_ACCOUNT)
        dawdling = [asyncio.create_task(dawdle(writer)) for _, writer in dawdlers]
        hearing = [asyncio.create_task(ended(reader)) for reader, _ in dawdlers if last_word is not None]
        assert await served(api) == 202
        await until_open(api, 0)
        for received in await asyncio.wait_for(asyncio.gather(*hearing), 5):
            assert (last_word in received) if last_word else (received == b""), received
        for task in dawdling:
            task.cancel()
        await asyncio.gather(*dawdling, return_exceptions=True)


async def test_a_bulk_request_that_goes_on_may_last_as_long_as_it_likes(monkeypatch):
    """Forty lines, each of them in two pieces, over the time of several deadlines."""
    monkeypatch.setattr(bulk, "PAUSE_S", 1.0)
    async with serving() as api, connected(api) as (reader, writer):
        writer.write(head("/v1/messages/bulk", length=len(LINE) * 40, type_="x-ndjson"))
        began = asyncio.get_running_loop().time()
        await drip(writer, (LINE[:30], LINE[30:]) * 40, every_s=0.03)
        assert asyncio.get_running_loop().time() - began > 2 * bulk.PAUSE_S
        received = await asyncio.wait_for(reader.readuntil(b'"line":40,"status":202'), 5)
        assert received.count(b'"status":202') == 40


async def test_the_time_in_which_we_do_not_read_is_not_held_against_a_bulk_request(monkeypatch):
    monkeypatch.setattr(bulk, "PAUSE_S", 1.0)
    async with serving(settings(group_max=1)) as api, connected(api) as (reader, writer):
        writer.write(head("/v1/messages/bulk", length=len(LINE) * 20, type_="x-ndjson") + LINE)
        await asyncio.wait_for(reader.readuntil(b'"line":1,'), 5)
        api.leadership.gate.clear()
        writer.write(LINE * 18 + LINE[:10])
        await asyncio.wait_for(api.leadership.held.wait(), 5)
        await asyncio.sleep(1.5 * bulk.PAUSE_S)
        api.leadership.gate.set()
        writer.write(LINE[10:])
        received = await asyncio.wait_for(reader.readuntil(b'"line":20,"status":202'), 5)
        assert b'"status":408' not in received


# What 20,000 refused lines are answered is more than the sockets and the shortened buffer hold.
REFUSED_LINES = b'{"program": 1}\n' * 20_000


async def test_results_that_are_taken_slowly_are_all_written(monkeypatch):
    monkeypatch.setattr(server, "UNREAD_S", 1.0)
    monkeypatch.setattr(bulk, "WRITE_BUFFER_BYTES", 10_000)
    async with serving() as api, connected(api) as (reader, writer):
        writer.write(head("/v1/messages/bulk", length=len(REFUSED_LINES), type_="x-ndjson") + REFUSED_LINES)
        received = bytearray()
        while b'"line":20000,' not in received[-1_000:]:
            await asyncio.sleep(0.05)
            part = await asyncio.wait_for(reader.read(1_000_000), 5)
            assert part, bytes(received[-1_000:])
            received += part
    assert received.count(b'"line":') == 20_000


@pytest.mark.usefixtures("hasty")
async def test_a_caller_that_takes_no_results_is_cut_off(monkeypatch):
    monkeypatch.setattr(bulk, "WRITE_BUFFER_BYTES", 10_000)
    async with serving() as api, connected(api) as (reader, writer):
        writer.write(head("/v1/messages/bulk", length=len(REFUSED_LINES), type_="x-ndjson") + REFUSED_LINES)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        await until_open(api, 0)


async def test_a_client_that_only_opens_connections_displaces_itself_and_no_one_behind_its_address(
    monkeypatch,
):
    monkeypatch.setattr(door, "SILENT_FOR_S", 0.0)
    async with serving(settings(max_connections_per_source=10)) as api, AsyncExitStack() as stack:
        silent = await several(stack, api, 10)
        for number, (_, writer) in enumerate(silent):
            writer.write(b"POST /v1/mess" if number % 2 else b"")
        for _ in range(5):
            assert await served(api) == 202
        assert api.app[DOOR].displaced >= 1
        assert api.app[DOOR].refused.total() == 0
        assert await asyncio.wait_for(ended(silent[0][0]), 5) == b""


@pytest.mark.parametrize(
    "sent",
    [b"\0\0\0\x10bind\r\n\r\n", b"BREW /v1/messages HTTP/1.1\r\n\r\n", b"GET http://[::1 HTTP/1.1\r\n\r\n",
     b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 9_000 + b"\r\n\r\n",
     b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 200 + b"\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
     b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"],
)  # fmt: skip
async def test_what_is_no_request_is_answered_400_as_a_problem_and_closed(sent):
    async with serving() as api, connected(api) as (reader, writer):
        writer.write(sent)
        answer, _, told = (await asyncio.wait_for(ended(reader), 5)).partition(b"\r\n\r\n")
    assert b" 400 Bad Request" in answer
    assert b"application/problem+json" in answer
    problem = json.loads(told)
    assert problem["type"] == "/docs#bad-request"
    assert len(problem["detail"]) <= 200
