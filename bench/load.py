"""A cheap HTTP load generator: keep-alive connections, in a closed loop or on a schedule.

Written on bare asyncio protocols, because it shares the cores with what it measures: a client library would cost
as much as the server. It speaks just enough HTTP/1.1 for our own dispatcher and its peers: one request at a time, and
answers with Content-Length or in chunks.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

HEADER_END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


@dataclass
class Tally:
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)  # seconds
    broken: int = 0
    seconds: float = 0.0
    yes: int = 202  # the status that says "accepted"

    @property
    def accepted(self) -> int:
        return self.statuses[self.yes]

    @property
    def per_second(self) -> float:
        return self.accepted / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0


class Connection(asyncio.Protocol):
    """One client: at most one request under way, each at the time that `due` names (None: no more)."""

    def __init__(
        self, make_request: Callable[[], bytes], due: Callable[[], float | None], tally: Tally
    ) -> None:
        self._make_request = make_request
        self._due = due
        self._tally = tally
        self._buffer = b""
        self._due_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(HEADER_END)
        if end < 0:
            return
        try:
            size = answer_size(self._buffer, end)
        except ValueError:
            self._tally.broken += 1
            self._close()
            return
        if size is None or len(self._buffer) < size:
            return
        self._tally.statuses[int(self._buffer[9:12])] += 1
        self._tally.latencies.append(time.perf_counter() - self._due_at)
        self._buffer = self._buffer[size:]
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            if exc is not None:
                self._tally.broken += 1
            self.done.set_result(None)

    def _next(self) -> None:
        at = self._due()
        if at is None:
            self._close()
            return
        self._due_at = at
        wait = at - time.perf_counter()
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._send)
        else:
            self._send()

    def _send(self) -> None:
        if self._transport is not None:
            self._transport.write(self._make_request())

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def answer_size(octets: bytes, head_end: int) -> int | None:
    """Octets of the answer that begins here; None: not known yet. Raises ValueError when its head does not tell."""
    head = octets[:head_end].lower()
    at = head.find(b"content-length:")
    if at >= 0:
        return head_end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
    if b"transfer-encoding: chunked" not in head:
        raise ValueError("neither Content-Length nor chunks")
    return len(octets) if octets.endswith(LAST_CHUNK) else None


def request(host: str, path: str, key: str, body: bytes, content_type: str = "application/json") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def closed_loop(
    addresses: list[tuple[str, int]], clients: int, seconds: float, make_body: Callable[[], bytes], key: str
) -> Tally:
    """`clients` connections spread over the addresses, for `seconds`; each body is asked for anew."""
    return await closed_loop_of(
        addresses, clients, seconds, lambda host: _request_to(host, key, make_body), yes=202
    )


async def closed_loop_of(
    addresses: list[tuple[str, int]],
    clients: int,
    seconds: float,
    make_request: Callable[[str], bytes],
    *,
    yes: int,
) -> Tally:
    """The same with any request: `make_request` is given the host. `yes`: the status that says "accepted"."""
    started = time.perf_counter()
    ends = started + seconds

    def due() -> float | None:
        now = time.perf_counter()
        return None if now >= ends else now

    return await _drive(addresses, clients, due, make_request, started, yes=yes)


async def open_loop(
    addresses: list[tuple[str, int]],
    clients: int,
    seconds: float,
    make_body: Callable[[], bytes],
    key: str,
    *,
    rate: float,
) -> Tally:
    """`rate` requests a second on schedule, whether or not answers came; latencies count from the schedule.

    A connection that is free takes the next request of the schedule; with enough `clients` one always is.
    """
    started = time.perf_counter()
    numbers = itertools.count()

    def due() -> float | None:
        after = next(numbers) / rate
        return None if after >= seconds else started + after

    return await _drive(
        addresses, clients, due, lambda host: _request_to(host, key, make_body), started, yes=202
    )


async def _drive(
    addresses: list[tuple[str, int]],
    clients: int,
    due: Callable[[], float | None],
    make_request: Callable[[str], bytes],
    started: float,
    *,
    yes: int,
) -> Tally:
    tally = Tally(yes=yes)
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []
    for number in range(clients):
        host, port = addresses[number % len(addresses)]

        make = partial(make_request, f"{host}:{port}")
        _, connection = await loop.create_connection(partial(Connection, make, due, tally), host, port)
        connections.append(connection)
    await asyncio.gather(*(connection.done for connection in connections))
    tally.seconds = time.perf_counter() - started
    return tally


def _request_to(host: str, key: str, make_body: Callable[[], bytes]) -> bytes:
    return request(host, "/v1/messages", key, make_body())
