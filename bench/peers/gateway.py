"""One message gateway, ours or a peer, under the traffic that all of them get: HTTP in, SMPP out, one text a request.

A gateway is started elsewhere; here is what the measurement must know of it, and the measurement.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.lab import CarrierLog, wait_until_sent
from bench.load import closed_loop_of
from bench.processes import usage

TEXT = "Power is out near you. Crews are on the way; we expect it back by 16:30. Reply STAT for news."
WARM_UP_S = 1.0
IDLE_S = 3.0
SETTLE_S = 1.0  # for the last answers and receipts
DRAIN_WITHIN_S = 60.0
MEGABYTE = 1 << 20


class NotInstalledError(Exception):
    """A peer cannot be measured here; the message says why, and how to install it."""


@dataclass(frozen=True, kw_only=True)
class Gateway:
    name: str
    accepted_means: str  # where a text is when its sender is told that it was accepted
    doors: list[tuple[str, int]]
    request: Callable[[str, int], bytes]  # for a host and the number of the text
    kinds: Mapping[int, str]  # the roots of its process trees by pid, without carrier and load generator
    carrier_logs: list[Path]
    yes: int = 202


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Rates are per second; `cpu_ms` is for one text, from its request to the end, what idling costs taken off."""

    name: str
    accepted_means: str
    accepted_rate: float
    sent_rate: float  # while they are accepted
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    memory_mb: float  # of all processes when the traffic ends, shared pages counted once
    backlog: int  # accepted and not sent when the traffic ends
    unsent: int  # and not within DRAIN_WITHIN_S after it either
    refused: int
    cost_ms: dict[str, float] = field(default_factory=dict)  # `cpu_ms` by kind of process


async def measure(gateway: Gateway, *, clients: int, seconds: float) -> Figures:
    """Warm up, look what idling costs, then `clients` in a closed loop, then wait until all is sent."""
    numbers = itertools.count()

    def request(host: str) -> bytes:
        return gateway.request(host, next(numbers))

    with closing(CarrierLog(gateway.carrier_logs)) as log:
        warm = await closed_loop_of(gateway.doors, clients, WARM_UP_S, request, yes=gateway.yes)
        await wait_until_sent(log, warm.accepted, within=DRAIN_WITHIN_S)
    await asyncio.sleep(SETTLE_S)
    idle, idle_began = usage(gateway.kinds), time.perf_counter()
    await asyncio.sleep(IDLE_S)
    before, began, began_at = usage(gateway.kinds), time.perf_counter(), time.time()
    idling = {kind: (used - idle.get(kind, 0.0)) / (began - idle_began) for kind, used in before.items()}
    with closing(CarrierLog(gateway.carrier_logs)) as log:
        tally = await closed_loop_of(gateway.doors, clients, seconds, request, yes=gateway.yes)
        ended_at, bytes_used = time.time(), memory(gateway.kinds)
        in_all = await wait_until_sent(log, tally.accepted, within=DRAIN_WITHIN_S)
        sent = log.taken(began_at, ended_at)
    await asyncio.sleep(SETTLE_S)
    took = time.perf_counter() - began
    cost = {
        kind: (used - before.get(kind, 0.0) - idling.get(kind, 0.0) * took) / max(1, tally.accepted) * 1e3
        for kind, used in usage(gateway.kinds).items()
    }
    return Figures(
        name=gateway.name,
        accepted_means=gateway.accepted_means,
        accepted_rate=tally.per_second,
        sent_rate=sent / (ended_at - began_at),
        p50_ms=tally.percentile(0.5),
        p99_ms=tally.percentile(0.99),
        cpu_ms=sum(cost.values()),
        memory_mb=bytes_used / MEGABYTE,
        backlog=tally.accepted - sent,
        unsent=tally.accepted - in_all,
        refused=sum(tally.statuses.values()) - tally.accepted + tally.broken,
        cost_ms=cost,
    )


def memory(roots: Mapping[int, str]) -> int:
    """Bytes that the process trees hold; a page that several share is counted once (PSS)."""
    total = 0
    for pid in {pid for root in roots for pid in _tree(root)}:
        try:
            total += psutil.Process(pid).memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def _tree(root: int) -> list[int]:
    try:
        process = psutil.Process(root)
        return [root, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []
