"""Posts to addresses that others named: bounded in time, in bytes and in where it may lead.

Rules:

* Each address that a name has is judged before a connection is made, and each socket once more by the address that it
  is about to connect to: a name that answers differently the second time gains nothing. If one of them is internal
  none is used.
* Nothing is followed, nothing is kept of an answer: no redirects, no cookies, no proxies of the environment.
* A post has `POST_S` for all of it. Of an answer's body a few kilobytes are read, so that the connection can be used
  again; where there is more, or where it does not end, the connection is closed. The status has said everything.
"""

import asyncio
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from dispatcher.webhooks import addresses
from dispatcher.webhooks.addresses import Networks
from dispatcher.webhooks.pacing import Answer, Outcome, of_status

POST_S: Final = 10.0
READ_BYTES: Final = 8_192  # of an answer's body
READ_S: Final = 1.0  # for these, once the status is there
KEPT_S: Final = 20.0  # a connection that nobody uses
LOOKUPS: Final = 16  # of names, at once: a resolver may take its time
AGENT: Final = "Hotsite-Webhooks/1"


class InternalAddress(OSError):
    """The endpoint leads to where nothing is posted."""


class Resolver(AbstractResolver):
    """The system's, in threads of its own: whoever names a host that resolves slowly delays webhooks only."""

    def __init__(self, allowed: Networks) -> None:
        self._allowed = allowed
        self._threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="webhook-dns")
        self._running: dict[tuple[str, int, int], asyncio.Future[list[Any]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._look_up(host, port, family)
        for *_, address in found:
            check(address, self._allowed)
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=address[1],
                family=of,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for of, _, protocol, _, address in found
        ]

    async def _look_up(self, host: str, port: int, family: int) -> list[Any]:
        """One look-up of a name at a time; those who ask meanwhile are told the same."""
        key = (host, port, family)
        running = self._running.get(key)
        if running is None:
            running = asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            )
            self._running[key] = running
            running.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(running)

    def _forget(self, key: tuple[str, int, int], done: "asyncio.Future[list[Any]]") -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # whoever asked may have given up meanwhile

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def check(address: tuple[Any, ...], allowed: Networks) -> None:
    """Raises InternalAddress."""
    known = addresses.parse(str(address[0]))
    reason = "it is no IP address" if known is None else addresses.why_not(known, allowed)
    if reason is not None:
        raise InternalAddress(reason)


class Deliverer:
    """`start` inside a running loop; `stop` twice is safe."""

    def __init__(self, *, allowed: Networks = (), plain: bool = False) -> None:
        self._allowed = allowed
        self._plain = plain
        self._session: aiohttp.ClientSession | None = None
        self.cut = 0  # answers that were not read to their end

    async def start(self) -> None:
        def connected(info: tuple[Any, ...]) -> socket.socket:
            family, kind, protocol, _, address = info
            check(address, self._allowed)
            return socket.socket(family, kind, protocol)

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=Resolver(self._allowed),
                use_dns_cache=False,
                limit=0,  # how many posts there are at once is the poster's business
                keepalive_timeout=KEPT_S,
                socket_factory=connected,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_BYTES,
            timeout=aiohttp.ClientTimeout(total=POST_S),
            headers={"User-Agent": AGENT, "Content-Type": "application/json", "Accept-Encoding": "identity"},
        )

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, within_s: float = POST_S
    ) -> Answer:
        """What came of one post. Raises nothing but a cancellation."""
        began = time.monotonic()
        answer = await self._post(url, headers, body, within_s)
        ms = round(1_000 * (time.monotonic() - began))
        return Answer(
            outcome=answer.outcome,
            status=answer.status,
            failure=answer.failure,
            retry_after_s=answer.retry_after_s,
            ms=ms,
        )

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes, within_s: float) -> Answer:
        if self._session is None:
            raise RuntimeError("not started")
        # The site's settings may be others than they were when it was stored.
        fault = addresses.fault(url, plain=self._plain, allowed=self._allowed)
        if fault is not None:
            return Answer(outcome=Outcome.INTERNAL, failure=f"Its address {fault}.")
        try:
            async with asyncio.timeout(within_s):
                response = await self._session.post(
                    URL(url), data=body, headers=headers, allow_redirects=False
                )
        except (TimeoutError, aiohttp.ServerTimeoutError):
            return Answer(outcome=Outcome.TIMEOUT, failure=f"It did not answer within {within_s:g} s.")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return of_error(error)
        try:
            return of_status(response.status, response.headers.get("Retry-After"))
        finally:
            await self._drain(response)

    async def _drain(self, response: aiohttp.ClientResponse) -> None:
        """Read what is worth it; else close the connection."""
        left = READ_BYTES
        try:
            async with asyncio.timeout(READ_S):
                while left > 0 and (piece := await response.content.read(left)):
                    left -= len(piece)
                if response.content.at_eof():
                    response.release()
                    return
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass
        finally:
            if not response.content.at_eof():
                self.cut += 1
                response.close()


def of_error(error: Exception) -> Answer:
    """What an error of the connection says."""
    internal = _cause(error, InternalAddress)
    if internal is not None:
        return Answer(
            outcome=Outcome.INTERNAL,
            failure=f"It leads to an internal address: {internal}. Nothing was posted.",
        )
    if _cause(error, socket.gaierror) is not None:
        return Answer(outcome=Outcome.UNRESOLVED, failure="Its name has no address.")
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return Answer(outcome=Outcome.TLS, failure=f"TLS failed: {_short(error)}")
    if isinstance(error, aiohttp.ClientResponseError | ValueError):
        return Answer(
            outcome=Outcome.INVALID, failure="What it answered is not HTTP, or its headers have no end."
        )
    if isinstance(error, aiohttp.ClientConnectorError | ConnectionRefusedError):
        return Answer(outcome=Outcome.CONNECTION, failure="No connection could be made.")
    return Answer(outcome=Outcome.CONNECTION, failure="The connection broke before it answered.")


def _cause(error: BaseException, wanted: type[BaseException]) -> BaseException | None:
    """The error of this kind that is behind another, if there is one."""
    seen: BaseException | None = error
    for _ in range(5):
        if seen is None or isinstance(seen, wanted):
            return seen
        inner = getattr(seen, "os_error", None)
        seen = (
            inner
            if isinstance(inner, BaseException) and inner is not seen
            else (seen.__cause__ or seen.__context__)
        )
    return None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
