"""What a long queue costs: claims as it grows, an emergency behind it, whose turn it is, and the dispatchers' memory.

One lab, one run. Its links are held to what a contract allows, so that the queue stays as long as it is made. Texts of
many accounts are put into the queue by SQL, half of them one account's; then

* claims and answers are made by a session of the bench's own, and their cost is the CPU time of its backend;
* emergencies are sent over HTTP at both sites, and looked for in the carrier's own log;
* who was served is counted by the short codes in that log.
"""

import asyncio
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
import orjson
import psutil

from bench.filling import Filling
from bench.lab import BenchError, Lab, running_lab
from dispatcher.model import SubmitOutcome, SubmitResult
from dispatcher.postgres_store import PostgresStore
from replication.session import Session, Target
from sitecontrol.lab.numbers import fictional_number

SHORTEST = 10_000
WITHIN_S, FLAT, MOST_MB = 1.0, 1.2, 120.0  # what must be reached
SHARED_BUFFERS_MB = 2_048  # a quarter of a host's memory, as configs/ has it
ACCOUNTS = 100
RATE = 50.0  # segments a second and link: two links in the live site
CLAIM = 200  # segments
CLAIMS = 24  # at each size: with ten thousand queued every account still has its turn in the last one
EMERGENCIES = 100
EVERY_S = (0.05, 0.25)  # between two of them
SERVED = 1_000  # texts that turns are counted over
SETTLED_S = 3.0  # after the filling
RESTARTED_WITHIN_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Depth:
    """What was found with so many segments in the queue. Costs: milliseconds of a backend's CPU for one segment, the
    median of all calls.
    """

    queued: int
    claim_ms: float
    settle_ms: float


@dataclass(frozen=True, kw_only=True)
class Behind:
    """Emergencies, from the request until the carrier read them, in seconds; and what the long queue did otherwise."""

    queued: int
    p50_s: float
    p99_s: float
    most_s: float
    shares: tuple[float, float]  # least and most of an account, of what it would be if all were served alike
    largest: float  # the same of the account that has half of the queue
    memory_at_rest_mb: float  # of the largest dispatcher of the live site
    memory_mb: float


@dataclass(frozen=True, kw_only=True)
class BacklogResult:
    depths: tuple[Depth, ...]
    behind: Behind

    @property
    def grows_by(self) -> float:
        """The dearest size to the cheapest, claim and answer together."""
        costs = [depth.claim_ms + depth.settle_ms for depth in self.depths]
        return max(costs) / min(costs)

    @property
    def holds(self) -> bool:
        return self.behind.p99_s <= WITHIN_S and self.grows_by <= FLAT and self.behind.memory_mb <= MOST_MB


async def backlog(longest: int, say: Callable[[str], None]) -> BacklogResult:
    """At ten thousand, and ten times as many again and again, up to `longest`."""
    sizes = [size for size in (SHORTEST * 10**n for n in range(4)) if size < longest] + [longest]
    with running_lab(wan_ms=0, shared_buffers_mb=SHARED_BUFFERS_MB) as lab:
        await slow_links(lab)
        at_rest = memory(lab)
        filling = await Filling.begin(lab, ACCOUNTS)
        depths = []
        for size in sizes:
            await filling.up_to(size + CLAIM * CLAIMS)
            await asyncio.sleep(SETTLED_S)
            depths.append(await depth(lab, size))
            say(told(depths[-1]))
        log = Log(lab)
        waits = await emergencies(lab, log)
        shares = await turns(log, filling.sources)
        largest = memory(lab)
        await filling.aclose()
    ordered = sorted(waits)
    return BacklogResult(
        depths=tuple(depths),
        behind=Behind(
            queued=sizes[-1],
            p50_s=ordered[len(ordered) // 2],
            p99_s=ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
            most_s=ordered[-1],
            shares=(min(shares), max(shares)),
            largest=shares[0],
            memory_at_rest_mb=at_rest,
            memory_mb=largest,
        ),
    )


async def slow_links(lab: Lab) -> None:
    """Have the dispatchers of all sites begin anew with links at a contract's rate."""
    for file in (lab.folder / "configs").glob("*.toml"):
        text = file.read_text()
        file.write_text(re.sub(r"(?m)^(\[\[carrier\]\]\n)", rf"\1rate = {RATE}\n", text))
    for pid, kind in lab.kinds.items():
        if kind == "dispatcher":
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + RESTARTED_WITHIN_S
    async with aiohttp.ClientSession() as session:
        for host, port in lab.doors:
            while not await _ready(session, f"http://{host}:{port}/ready"):
                if time.monotonic() > deadline:
                    raise BenchError("the dispatchers did not begin anew")
                await asyncio.sleep(0.2)


async def _ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def memory(lab: Lab) -> float:
    """Megabytes of the largest dispatcher of the live site, as it is now: they may have been started anew."""
    ports = {
        int(d["url"].rsplit(":", 1)[1]) for d in lab.status["sites"][lab.status["live_site"]]["dispatchers"]
    }
    found = [
        process.memory_info().rss / 1e6
        for process in psutil.process_iter()
        if _is_dispatcher_of(process, lab.folder) and ports & _listens_on(process)
    ]
    if not found:
        raise BenchError("no dispatcher of the live site is there")
    return max(found)


def _is_dispatcher_of(process: psutil.Process, folder: Path) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "dispatcher" in words and any(str(folder) in word for word in words)


def _listens_on(process: psutil.Process) -> set[int]:
    try:
        return {one.laddr.port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    except psutil.Error:
        return set()


async def depth(lab: Lab, queued: int) -> Depth:
    """The cost of a segment's claim and of its answer."""
    postgres = lab.live_postgres
    session = await Session.connect(
        Target(
            host="127.0.0.1",
            port=postgres["port"],
            user="hotsite_dispatch",
            database="hotsite",
            password=lab.secret("postgres-dispatch"),
            application_name="bench",
        ),
        timeout=5,
    )
    store, term = PostgresStore(session), int(lab.status["term"])
    [[pid]] = await session.read("select pg_backend_pid()", timeout=5)
    backend = psutil.Process(pid)
    spent: list[tuple[float, float]] = []
    for number in range(CLAIMS):
        before = _cpu(backend)
        claims = await store.claim(term, "bench", CLAIM, 30.0)
        claimed = _cpu(backend)
        await store.settle(
            [
                SubmitResult(
                    claim_id=claim.claim_id,
                    message_id=claim.message_id,
                    segment=claim.segment,
                    attempt=claim.attempt,
                    outcome=SubmitOutcome.SUBMITTED,
                    carrier="bench",
                    carrier_message_id=f"{queued:x}-{number}-{place}",
                )
                for place, claim in enumerate(claims)
            ]
        )
        spent.append((claimed - before, _cpu(backend) - claimed))
    await store.aclose()
    claiming, settling = (median(some) / CLAIM * 1e3 for some in zip(*spent, strict=True))
    return Depth(queued=queued, claim_ms=claiming, settle_ms=settling)


def _cpu(process: psutil.Process) -> float:
    """Seconds, by the kernel's own account: to the nanosecond, where `times` counts hundredths."""
    return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9


class Log:
    """What the carrier took since this was made."""

    def __init__(self, lab: Lab) -> None:
        [carrier] = lab.status["carriers"]
        self._path = Path(carrier["log"])
        self._at = self._path.stat().st_size
        self.seen: dict[str, float] = {}  # by text, when it was read
        self.sources: list[str] = []

    def read(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._at)
            octets = file.read()
        whole = octets.rfind(b"\n") + 1
        self._at += whole
        for line in map(orjson.loads, octets[:whole].splitlines()):
            if line["status"] == 0:
                self.seen.setdefault(line["text"], line["t"])
                self.sources.append(line["source"])


async def emergencies(lab: Lab, log: Log) -> list[float]:
    """How long each took from before its request until the carrier read it."""
    sent: dict[str, float] = {}
    randomly = random.Random(7)
    headers = {"Authorization": f"Bearer {lab.key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for number in range(EMERGENCIES):
            text = f"Wire down near you, stay away. {number}"
            host, port = lab.doors[number % len(lab.doors)]
            sent[text] = time.time()
            body = {
                "program": lab.program,
                "to": fictional_number(number),
                "body": text,
                "class": "emergency",
            }
            async with session.post(f"http://{host}:{port}/v1/messages", json=body) as response:
                if response.status != 202:
                    raise BenchError(f"an emergency was answered {response.status}")
            await asyncio.sleep(randomly.uniform(*EVERY_S))
    deadline = time.monotonic() + 30.0
    while not sent.keys() <= log.seen.keys():
        if time.monotonic() > deadline:
            raise BenchError("an emergency never left")
        await asyncio.sleep(0.2)
        log.read()
    return [log.seen[text] - at for text, at in sent.items()]


async def turns(log: Log, sources: Sequence[str]) -> list[float]:
    """What part of its even share each account had of the next texts that the carrier took, by short code."""
    log.read()
    log.sources.clear()
    deadline = time.monotonic() + 4 * SERVED / RATE
    while sum(source in sources for source in log.sources) < SERVED and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        log.read()
    served = Counter(source for source in log.sources if source in sources)
    return [served[source] * len(sources) / served.total() for source in sources]


def told(depth: Depth) -> str:
    return f"{depth.queued:>10,} queued: claim {depth.claim_ms:.4f}, settle {depth.settle_ms:.4f} ms of CPU a segment"


def show(result: BacklogResult) -> list[str]:
    """Lines for a person."""
    behind = result.behind
    waits = f"p50 {behind.p50_s:.3f} s, p99 {behind.p99_s:.3f} s, most {behind.most_s:.3f} s"
    least, most = behind.shares
    return [
        f"the dearest to the cheapest: {result.grows_by:.2f}",
        f"emergencies behind {behind.queued:,}: {waits}",
        f"turns of {ACCOUNTS} accounts: {least:.2f} to {most:.2f} of an even share",
        f"{behind.largest:.2f} for the one that has half of the queue",
        f"a dispatcher: {behind.memory_at_rest_mb:.0f} MB at rest, {behind.memory_mb:.0f} MB behind the queue",
    ]
