"""Receivers of webhooks on real sockets: one that keeps what it is sent, and some that misbehave."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

Answering = Callable[["Post"], Awaitable[web.StreamResponse] | web.StreamResponse]


@dataclass(frozen=True, kw_only=True)
class Post:
    """What was sent."""

    id: str
    body: bytes
    headers: dict[str, str]
    peer: object  # the other end of the connection

    @property
    def event(self) -> dict[str, Any]:
        return dict(orjson.loads(self.body))

    @property
    def message_id(self) -> str:
        return str(self.event["data"]["message_id"])

    def is_signed_by(self, secret: bytes) -> bool:
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
        return f"v1,{expected}" in self.headers["webhook-signature"].split()


@dataclass(kw_only=True)
class Receiver:
    url: str = ""
    posts: list[Post] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    answering: Answering = lambda _: web.Response()
    here: int = 0
    most: int = 0

    async def take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        post = Post(
            id=request.headers.get("webhook-id", ""),
            body=body,
            headers=dict(request.headers),
            peer=request.transport and request.transport.get_extra_info("peername"),
        )
        self.posts.append(post)
        self.came.set()
        self.here += 1
        self.most = max(self.most, self.here)
        try:
            answer = self.answering(post)
            return answer if isinstance(answer, web.StreamResponse) else await answer
        finally:
            self.here -= 1


@asynccontextmanager
async def receiver(answering: Answering = lambda _: web.Response(), **site: Any) -> AsyncIterator[Receiver]:
    found = Receiver(answering=answering)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, **site).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hotsite"
    try:
        yield found
    finally:
        await runner.cleanup()


Speaking = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw(speak: Speaking) -> AsyncIterator[str]:
    """A server that says what `speak` says once a request has begun to come in. Yields its address."""
    speaking: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        speaking.add(task)
        with suppress(ConnectionError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            await speak(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hotsite"
    finally:
        server.close()
        for task in speaking:
            task.cancel()
        await asyncio.gather(*speaking, return_exceptions=True)
