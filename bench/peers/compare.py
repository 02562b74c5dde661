"""`make bench-peers`: ours, Kannel and Jasmin, one after the other, the same traffic to the same kind of carrier.

What is not installed, or does not start, is left out with its reason. Every one has its time: a second to warm up,
`seconds` of traffic, at most a minute to send what it accepted.
"""

import os
import platform
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from bench.lab import BASES, BenchError, running_lab
from bench.load import request as http_request
from bench.peers.gateway import TEXT, Figures, Gateway, NotInstalledError, measure
from bench.peers.jasmin import VERSION, running_jasmin
from bench.peers.kannel import running_kannel
from sitecontrol.lab.numbers import fictional_number
from sitecontrol.lab.plan import Kind
from sitecontrol.lab.ports import free_base

CLIENTS = 64
NO_PART = (Kind.CARRIER, Kind.WAN)  # of a lab: they stand for what is outside
OURS_MEANS = "committed and synced to disk at both sites"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    figures: list[Figures] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # the reason, by name
    seconds: float
    machine: str
    load: float  # of the machine before anything was started


@asynccontextmanager
async def ours() -> AsyncIterator[Gateway]:
    """A lab of two sites and a witness, side by side, two-site durability."""
    run = f"{time.time():.0f}"
    with running_lab(wan_ms=0) as lab:

        def request(host: str, number: int) -> bytes:
            body = {
                "program": lab.program,
                "to": fictional_number(number),
                "body": TEXT,
                "reference": f"{run}-{number}",
            }
            return http_request(host, "/v1/messages", lab.key, orjson.dumps(body))

        yield Gateway(
            name="Hotsite, two sites",
            accepted_means=OURS_MEANS,
            doors=lab.doors,
            request=request,
            kinds={pid: kind for pid, kind in lab.kinds.items() if kind not in NO_PART},
            carrier_logs=[Path(carrier["log"]) for carrier in lab.status["carriers"]],
        )


@asynccontextmanager
async def kannel(*, spool: bool) -> AsyncIterator[Gateway]:
    with TemporaryDirectory(prefix="hotsite-peer-", ignore_cleanup_errors=True) as folder:
        async with running_kannel(Path(folder), free_base(*BASES), spool=spool) as gateway:
            yield gateway


@asynccontextmanager
async def jasmin() -> AsyncIterator[Gateway]:
    with TemporaryDirectory(prefix="hotsite-peer-", ignore_cleanup_errors=True) as folder:
        async with running_jasmin(Path(folder), free_base(*BASES), environment()) as gateway:
            yield gateway


def environment() -> Path:
    """Where Jasmin is installed: with the user's other caches, and kept for the next time."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "hotsite-bench" / f"jasmin-{VERSION}"


async def compare(seconds: float, *, say: Callable[[str], None]) -> Comparison:
    """Raises BenchError when ours cannot be measured; a peer that cannot be is left out."""
    comparison = Comparison(
        seconds=seconds, machine=f"{os.cpu_count()} cores, {platform.system()}", load=os.getloadavg()[0]
    )
    peers: dict[str, Callable[[], AbstractAsyncContextManager[Gateway]]] = {
        "Kannel, no store": lambda: kannel(spool=False),
        "Kannel, spool": lambda: kannel(spool=True),
        f"Jasmin {VERSION}": jasmin,
    }
    comparison.figures.append(await _measured(ours, seconds, say))
    for name, start in peers.items():
        try:
            comparison.figures.append(await _measured(start, seconds, say))
        except (NotInstalledError, BenchError) as error:
            comparison.left_out[name] = str(error)
            say(f"{name} is left out: {error}")
    return comparison


async def _measured(
    start: Callable[[], AbstractAsyncContextManager[Gateway]], seconds: float, say: Callable[[str], None]
) -> Figures:
    async with start() as gateway:
        found = await measure(gateway, clients=CLIENTS, seconds=seconds)
    say(
        f"{found.name}: {found.accepted_rate:,.0f} accepted and {found.sent_rate:,.0f} sent a second,"
        f" p50 {found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f} ms, {found.cpu_ms:.2f} ms of CPU a text,"
        f" {found.memory_mb:,.0f} MB, {found.refused} refused, {found.unsent} not sent in the end"
    )
    return found
