"""HTTP: the process or page answers, with which status, and what our own processes say of themselves.

One session with kept connections for all HTTP targets. Redirects are not followed: a health address that
points elsewhere is not healthy. Bodies are read up to a bound.
"""

import ssl
import time

import aiohttp
import orjson

from healthcheck.probes.result import Result, plain
from healthcheck.targets import Target, What

MAX_BODY = 256 * 1024
REPORTING = {What.AGENT, What.DISPATCHER}  # these answer /status with a JSON object


class HttpProbe:
    """`tls` says whose certificates are trusted; None: those that the system trusts."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls or ssl.create_default_context()
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, target: Target, deadline: float) -> Result:
        del deadline  # the scheduler's cut is enough: a request holds nothing back when it is cancelled
        began = time.perf_counter()
        async with self._sessions().get(target.address, allow_redirects=False) as answer:
            body = await _bounded(answer)
            latency = time.perf_counter() - began
            status = answer.status
        evidence: dict[str, object] = {"status": status}
        if body is None:
            return _bad(f"HTTP {status} with more than {MAX_BODY} bytes", latency, evidence)
        if target.what not in REPORTING:
            ok = 200 <= status < 300
            return Result(ok=ok, latency=latency, detail=f"HTTP {status}", evidence=evidence)
        try:
            report = orjson.loads(body)
        except orjson.JSONDecodeError:
            report = None
        if status != 200 or not isinstance(report, dict):
            return _bad(f"HTTP {status} without a report", latency, evidence)
        evidence["report"] = report
        return Result(ok=True, latency=latency, detail=f"HTTP {status}", evidence=evidence)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _sessions(self) -> aiohttp.ClientSession:
        """Made at the first look, because a session belongs to a running loop."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=30, ttl_dns_cache=60, ssl=self._tls
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "hotsite-healthcheck"},
                auto_decompress=False,
            )
        return self._session


async def _bounded(answer: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None when it is too long."""
    chunks = bytearray()
    async for chunk in answer.content.iter_chunked(16_384):
        chunks += chunk
        if len(chunks) > MAX_BODY:
            return None
    return bytes(chunks)


def _bad(detail: str, latency: float, evidence: dict[str, object]) -> Result:
    return Result(ok=False, latency=latency, detail=plain(detail), evidence=evidence)
