"""Posts to receivers that misbehave: bounded, counted, explained."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dispatcher.webhooks import addresses, deliverer
from dispatcher.webhooks.deliverer import READ_S, Deliverer
from dispatcher.webhooks.pacing import Answer, Outcome
from tests.certificates import make_certificates
from tests.receivers import Post, raw, receiver

HERE = [ip_network("127.0.0.0/8")]
HEADERS = {"webhook-id": "1"}
BODY = b'{"type": "webhook.test"}'
SOON_S = 0.3  # for what would not end


@pytest.fixture
async def posting() -> AsyncIterator[Deliverer]:
    found = Deliverer(allowed=HERE, plain=True)
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def outside() -> AsyncIterator[Deliverer]:
    """One to which no internal network was named."""
    found = Deliverer(plain=True)
    await found.start()
    yield found
    await found.stop()


async def post(posting: Deliverer, url: str, within_s: float = 5.0) -> Answer:
    return await posting.post(url, HEADERS, BODY, within_s=within_s)


async def test_a_good_receiver_takes_what_is_posted_over_one_connection(posting: Deliverer) -> None:
    def answering(_: Post) -> web.Response:
        return web.Response(text="thank you")

    async with receiver(answering) as there:
        for _ in range(3):
            answer = await post(posting, there.url)
            assert (answer.outcome, answer.status, answer.failure) == (Outcome.TAKEN, 200, None)
        assert [one.body for one in there.posts] == [BODY] * 3
        assert len({one.peer for one in there.posts}) == 1
    assert posting.cut == 0


async def test_a_receiver_that_does_not_answer_is_given_up(posting: Deliverer) -> None:
    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with raw(silent) as url:
        answer = await post(posting, url, SOON_S)
    assert (answer.outcome, answer.status) == (Outcome.TIMEOUT, None)
    assert answer.failure == "It did not answer within 0.3 s."


async def test_a_receiver_that_sends_its_headers_byte_by_byte_is_given_up(posting: Deliverer) -> None:
    async def slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.01)

    async with raw(slow) as url:
        assert (await post(posting, url, SOON_S)).outcome is Outcome.TIMEOUT


async def test_an_answer_without_end_is_taken_by_its_status_and_hardly_read(posting: Deliverer) -> None:
    sent = 0

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()
            sent += 0x10000

    async with raw(endless) as url:
        began = time.monotonic()
        answer = await post(posting, url)
        assert time.monotonic() - began < READ_S + 2
    assert answer.taken
    assert posting.cut == 1
    assert sent < 64 * 2**20  # what the system's buffers hold, and not what a second has room for


async def test_an_answer_that_trickles_is_taken_and_not_waited_for(posting: Deliverer) -> None:
    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
        await asyncio.Event().wait()

    async with raw(trickle) as url:
        began = time.monotonic()
        assert (await post(posting, url)).taken
        assert time.monotonic() - began < READ_S + 2
    assert posting.cut == 1


async def test_a_compressed_bomb_is_not_opened(posting: Deliverer) -> None:
    async def bomb(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope")
        await asyncio.Event().wait()

    async with raw(bomb) as url:
        assert (await post(posting, url)).taken
    assert posting.cut == 0


async def test_headers_without_end_are_no_answer(posting: Deliverer) -> None:
    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        number = 0
        while True:
            number += 1
            writer.write(b"X-%d: %s\r\n" % (number, b"x" * 1_000))
            await writer.drain()

    async with raw(endless) as url:
        answer = await post(posting, url)
    assert answer.outcome is Outcome.INVALID


@pytest.mark.parametrize("said", [b"\0\1\2\3\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/9 x\r\n\r\n"])
async def test_what_is_not_http_is_no_answer(posting: Deliverer, said: bytes) -> None:
    async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    async with raw(other) as url:
        assert (await post(posting, url)).outcome is Outcome.INVALID


async def test_a_connection_that_breaks_says_so(posting: Deliverer) -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )

    async with raw(reset) as url:
        answer = await post(posting, url)
    assert answer.outcome is Outcome.CONNECTION
    assert answer.failure == "The connection broke before it answered."


async def test_where_nobody_listens_no_connection_is_made(posting: Deliverer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        answer = await post(posting, f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert (answer.outcome, answer.failure) == (Outcome.CONNECTION, "No connection could be made.")


async def test_a_redirect_is_not_followed(posting: Deliverer) -> None:
    async with receiver() as target:

        def answering(_: Post) -> web.Response:
            return web.Response(status=307, headers={"Location": target.url})

        async with receiver(answering) as there:
            answer = await post(posting, there.url)
        assert (answer.outcome, answer.status) == (Outcome.REDIRECTED, 307)
        assert target.posts == []


async def test_cookies_are_not_kept(posting: Deliverer) -> None:
    def answering(_: Post) -> web.Response:
        return web.Response(headers={"Set-Cookie": "who=you; Path=/"})

    async with receiver(answering) as there:
        await post(posting, there.url)
        await post(posting, there.url)
        assert "Cookie" not in there.posts[1].headers


async def test_a_proxy_of_the_environment_is_not_used(
    posting: Deliverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiver() as proxy, receiver() as there:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert (await post(posting, there.url)).taken
        assert (len(proxy.posts), len(there.posts)) == (0, 1)


# -- where it may lead


def resolving(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> list[str]:
    """Have every name resolve to these; returns the names that are asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: Any) -> list[Any]:
        asked.append(host)
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in hosts
        ]

    monkeypatch.setattr(deliverer.socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    "hosts",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["fd00:ec2::254"],
        ["93.184.216.34", "127.0.0.1"],  # one that is good does not make up for the other
    ],
)
async def test_a_name_that_leads_inside_is_refused_before_a_connection_is_made(
    outside: Deliverer, monkeypatch: pytest.MonkeyPatch, hosts: list[str]
) -> None:
    resolving(monkeypatch, *hosts)
    answer = await post(outside, "http://receiver.example:9/hotsite")
    assert answer.outcome is Outcome.INTERNAL
    assert answer.failure is not None
    assert answer.failure.startswith("It leads to an internal address: ")


async def test_a_name_is_judged_again_at_each_post(
    outside: Deliverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, "192.0.2.1")
    assert (await post(outside, "http://receiver.example:9/")).outcome is Outcome.INTERNAL
    asked = resolving(monkeypatch, "127.0.0.1")
    assert (await post(outside, "http://receiver.example:9/")).outcome is Outcome.INTERNAL
    assert asked == ["receiver.example"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://[::1]:9/", "http://[::ffff:7f00:1]:9/"])
async def test_a_literal_address_is_refused_by_the_socket_even_if_nothing_else_did(
    outside: Deliverer, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(addresses, "fault", lambda *_, **__: None)
    assert (await post(outside, url)).outcome is Outcome.INTERNAL


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost"])
async def test_other_ways_of_writing_this_machine_lead_inside(outside: Deliverer, host: str) -> None:
    assert (await post(outside, f"http://{host}:9/")).outcome is Outcome.INTERNAL


async def test_a_name_without_an_address_says_so(posting: Deliverer, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(deliverer.socket, "getaddrinfo", unknown)
    answer = await post(posting, "http://receiver.example/")
    assert (answer.outcome, answer.failure) == (Outcome.UNRESOLVED, "Its name has no address.")


async def test_one_lookup_of_a_name_is_made_for_all_who_ask_meanwhile(
    posting: Deliverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolving(monkeypatch, "127.0.0.1")
    slow = deliverer.socket.getaddrinfo

    def slowly(*arguments: Any) -> list[Any]:
        time.sleep(0.2)
        return slow(*arguments)

    async with receiver() as there:
        monkeypatch.setattr(deliverer.socket, "getaddrinfo", slowly)
        url = there.url.replace("127.0.0.1", "receiver.example")
        answers = await asyncio.gather(*(post(posting, url) for _ in range(5)))
    assert all(answer.taken for answer in answers)
    assert len(asked) == 1


async def test_what_was_stored_under_other_settings_is_judged_by_those_of_now(outside: Deliverer) -> None:
    async with receiver() as there:
        assert (await post(outside, there.url)).outcome is Outcome.INTERNAL
        assert there.posts == []


async def test_outside_a_lab_nothing_is_posted_in_the_clear() -> None:
    strict = Deliverer(allowed=HERE)
    await strict.start()
    async with receiver() as there:
        answer = await post(strict, there.url)
        assert there.posts == []
    await strict.stop()
    assert answer.failure == "Its address must begin with https://."


async def test_a_receiver_whose_certificate_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.path("server.crt"), certificates.path("server.key"))
    strict = Deliverer(allowed=HERE)
    await strict.start()
    async with receiver(ssl_context=context) as there:
        answer = await post(strict, there.url.replace("http://", "https://"))
        assert there.posts == []
    await strict.stop()
    assert answer.outcome is Outcome.TLS
