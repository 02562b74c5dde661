"""Many messages in one request, several such requests at once: each sends all its lines and counts the results."""

import asyncio
import time
from collections.abc import Callable

ACCEPTED = b'"status":202'
LINES = 5_000  # in one request
READ_BYTES = 1 << 18


async def bulk(
    addresses: list[tuple[str, int]], streams: int, seconds: float, make_line: Callable[[], bytes], key: str
) -> tuple[int, float]:
    """Requests one after another on each of `streams` connections; how many lines were accepted, in how long."""
    started = time.perf_counter()
    ends = started + seconds
    accepted = await asyncio.gather(
        *(_stream(addresses[n % len(addresses)], ends, make_line, key) for n in range(streams))
    )
    return sum(accepted), time.perf_counter() - started


async def _stream(address: tuple[str, int], ends: float, make_line: Callable[[], bytes], key: str) -> int:
    accepted = 0
    while time.perf_counter() < ends:
        body = b"\n".join(make_line() for _ in range(LINES))
        accepted += await _request(address, body, key)
    return accepted


async def _request(address: tuple[str, int], body: bytes, key: str) -> int:
    host, port = address
    reader, writer = await asyncio.open_connection(host, port)
    head = (
        f"POST /v1/messages/bulk HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    accepted, rest = 0, b""
    while chunk := await reader.read(READ_BYTES):
        chunk = rest + chunk
        accepted += chunk.count(ACCEPTED)
        # The word may be cut in two; what is kept is too short to hold a whole one.
        rest = chunk[-len(ACCEPTED) + 1 :]
    writer.close()
    return accepted
