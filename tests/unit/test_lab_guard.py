"""The control of a lab's processes: open to its token, and to nothing else, whatever bytes come instead."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sitecontrol.lab.guard import requiring

TOKEN = "the-labs-token"


async def status(authorization: bytes | None) -> int:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="done")

    app = web.Application(middlewares=[requiring(TOKEN)])
    app.router.add_get("/", answer)
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        header = b"" if authorization is None else b"Authorization: " + authorization + b"\r\n"
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + header + b"\r\n")
        head = await reader.read()
        writer.close()
    return int(head.split()[1])


async def test_the_token_opens() -> None:
    assert await status(b"Bearer " + TOKEN.encode()) == 200


@pytest.mark.parametrize(
    "authorization",
    [None, b"", b"Bearer", b"Bearer another", b"Bearer \xff\xfe", b"\xc3(", "Bearer clé".encode()],
)
async def test_anything_else_is_refused_also_bytes_that_are_no_text(authorization: bytes | None) -> None:
    assert await status(authorization) == 401
