"""What stands between a client and the API in these tests: a site that cuts, delays or distorts answers."""

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from hotsite_client import AsyncClient, Client, Message, Policy, Result
from tests.api_server import KEY, NUMBER, Api

# The machine may be busy: what ends these is the number of attempts, and time only where a site hangs.
QUICK = Policy(total_s=60, first_wait_s=0.01, longest_wait_s=0.05, answer_s=30, connect_s=10)
SHORT = Policy(total_s=60, first_wait_s=0.01, longest_wait_s=0.05, answer_s=30, connect_s=10, attempts=4)
IMPATIENT = Policy(total_s=2, first_wait_s=0.01, answer_s=0.5, connect_s=0.5)

Deed = Callable[["Site", web.Request], Awaitable[web.StreamResponse]]


@dataclass(kw_only=True)
class Site:
    """Does with each request what the next deed says, and then what the last one says; keeps what it was asked."""

    api: Api
    deeds: list[Deed]
    url: str = ""
    asked: list[bytes] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.read())
        deed = self.deeds.pop(0) if len(self.deeds) > 1 else self.deeds[0]
        return await deed(self, request)

    async def real(self, request: web.Request) -> tuple[int, str, bytes]:
        """The API's own answer."""
        async with self.api.client.request(
            request.method,
            request.path_qs,
            data=io.BytesIO(self.asked[-1]),
            headers={"Content-Type": request.headers.get("Content-Type", "")},
        ) as answer:
            return answer.status, answer.headers["Content-Type"], await answer.read()


async def passes(site: Site, request: web.Request) -> web.StreamResponse:
    status, kind, body = await site.real(request)
    return web.Response(status=status, body=body, headers={"Content-Type": kind})


async def cuts(site: Site, request: web.Request) -> web.StreamResponse:
    """Nothing is carried out, and nothing is said."""
    cut(request)
    return web.Response()


async def stores_and_cuts(site: Site, request: web.Request) -> web.StreamResponse:
    """The API carries it out; the answer is lost."""
    await site.real(request)
    cut(request)
    return web.Response()


async def hangs(site: Site, request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


def breaks_after(lines: int) -> Deed:
    """The API takes all of a bulk; the results break off in the middle of a line."""

    async def deed(site: Site, request: web.Request) -> web.StreamResponse:
        _, kind, body = await site.real(request)
        told = body.splitlines(keepends=True)
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        await response.write(b"".join(told[:lines]) + told[lines][:20])
        cut(request)
        return response

    return deed


def says(
    status: int, slug: str = "", *, retry_after: str | None = None, body: bytes | None = None, kind: str = ""
) -> Deed:
    """A problem, or any body whatsoever."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}

    async def deed(site: Site, request: web.Request) -> web.StreamResponse:
        if body is not None:
            return web.Response(status=status, body=body, headers={**headers, "Content-Type": kind})
        document = {"type": f"/docs#{slug}", "title": "A title", "status": status, "detail": "a detail"}
        return web.json_response(
            document, status=status, headers=headers, content_type="application/problem+json"
        )

    return deed


def cut(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


@asynccontextmanager
async def site(api: Api, *deeds: Deed, tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    standing = Site(api=api, deeds=list(deeds))
    app = web.Application(client_max_size=100_000_000)
    app.router.add_route("*", "/{path:.*}", standing.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await listening.start()
    standing.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield standing
    finally:
        await runner.cleanup()


def text(**changed: Any) -> Message:
    values: dict[str, Any] = {
        "program": "outages",
        "to": NUMBER,
        "body": "Power is back on Main St.",
        **changed,
    }
    return Message(**values)


class Either:
    """The client for threads or the one for asyncio, behind one face: what is promised holds for both."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    async def call(
        self, name: str, urls: list[str], *args: Any, policy: Policy = QUICK, **options: Any
    ) -> Any:
        if self.kind == "async":
            async with AsyncClient(urls, KEY, policy=policy) as client:
                return await getattr(client, name)(*args, **options)
        return await asyncio.to_thread(self._in_thread, name, urls, *args, policy=policy, **options)

    def _in_thread(self, name: str, urls: list[str], *args: Any, policy: Policy, **options: Any) -> Any:
        with Client(urls, KEY, policy=policy) as client:
            return getattr(client, name)(*args, **options)

    async def bulk(
        self,
        urls: list[str],
        messages: list[Message],
        *,
        policy: Policy = QUICK,
        into: list[Result],
        **options: Any,
    ) -> None:
        """The results, also those before an exception."""
        if self.kind == "async":
            async with AsyncClient(urls, KEY, policy=policy) as client:
                async for result in client.bulk(messages, **options):
                    into.append(result)  # noqa: PERF401 # those before an exception count
        else:
            await asyncio.to_thread(self._bulk_in_thread, urls, messages, policy, into, options)

    def _bulk_in_thread(
        self, urls: list[str], messages: list[Message], policy: Policy, into: list[Result], options: Any
    ) -> None:
        with Client(urls, KEY, policy=policy) as client:
            into.extend(client.bulk(messages, **options))
