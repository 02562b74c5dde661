"""`python -m bench.peers.patroni`: what a client that writes steadily sees of Patroni's failures.

A text is a row with a number. What was acknowledged must be there afterwards; the pause is the longest time between two
acknowledgements, as in the drills.
"""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from math import inf
from pathlib import Path

import asyncpg
import click
import psutil
from asyncpg.connect_utils import SessionAttribute

from bench.peers.cluster import Cluster, running_cluster

RATE = 50.0  # rows a second
ATTEMPT = 2.0  # seconds, then the writer connects anew
WARM_UP = 2.0
AFTER = 3.0  # seconds of writing after the cluster is whole again
WHOLE_WITHIN = 120.0
FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    EOFError,
    TimeoutError,
)


@dataclass
class Writer:
    """One client with a connection of its own, to whichever node takes writes."""

    ports: list[int]
    acknowledged: list[tuple[float, int]] = field(default_factory=list)  # when, and which row
    _next: int = 0

    async def run(self) -> None:
        connection: asyncpg.Connection | None = None
        try:
            while True:
                began = time.monotonic()
                try:
                    connection = connection or await self.connect()
                    self._next += 1
                    await connection.execute(
                        "insert into written (number) values ($1)", self._next, timeout=ATTEMPT
                    )
                    self.acknowledged.append((time.monotonic(), self._next))
                except FAILURES:
                    if connection is not None:
                        connection.terminate()
                    connection = None
                await asyncio.sleep(max(0.0, 1 / RATE - (time.monotonic() - began)))
        finally:
            if connection is not None:
                connection.terminate()

    async def connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            host=["127.0.0.1"] * len(self.ports),
            port=self.ports,
            user="superuser",
            database="postgres",
            target_session_attrs=SessionAttribute.read_write,
            timeout=ATTEMPT,
        )

    def longest_gap(self, end: float) -> float:
        """Between two acknowledgements; `end`, when it stopped writing, counts as one."""
        times = [*(at for at, _ in self.acknowledged), end]
        return max(b - a for a, b in pairwise(times)) if self.acknowledged else inf


@dataclass(frozen=True, kw_only=True)
class Run:
    fault: str
    pause_s: float
    acknowledged: int
    lost: int


async def lose_node(cluster: Cluster) -> None:
    """Every process of the leader's node dies at once; it is started again when the other one leads."""
    lost = await cluster.leader()
    cluster.kill(lost)

    (other,) = (node for node in cluster.nodes if node is not lost)
    await cluster.until("the other node leads", cluster.told_by(other, "/primary"), WHOLE_WITHIN)
    await asyncio.sleep(1)
    cluster.run(lost)


async def kill_postgres(cluster: Cluster) -> None:
    """The leader's postmaster is killed; its Patroni lives."""
    postmaster = (await cluster.leader()).postmaster
    if postmaster is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            postmaster.send_signal(signal.SIGKILL)
    await asyncio.sleep(3)


FAULTS: Mapping[str, Callable[[Cluster], Awaitable[None]]] = {
    "site-loss": lose_node,
    "postgres-crash": kill_postgres,
    "swap": Cluster.switchover,
}


async def measure(cluster: Cluster, fault: str) -> Run:
    """Strike once under a steady writer, wait until all is well, count."""
    writer = Writer(cluster.ports)
    connection = await writer.connect()
    await connection.execute("drop table if exists written; create table written (number bigint primary key)")
    await connection.close()
    writing = asyncio.create_task(writer.run())
    try:
        await asyncio.sleep(WARM_UP)
        await FAULTS[fault](cluster)
        await cluster.until("the standby is synchronous again", cluster.is_whole, WHOLE_WITHIN)
        await asyncio.sleep(AFTER)
        ended = time.monotonic()
        if writing.done():
            writing.result()  # it ends only by what it does not expect
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    connection = await writer.connect()
    kept = {row["number"] for row in await connection.fetch("select number from written")}
    await connection.close()
    numbers = {number for _, number in writer.acknowledged}
    return Run(
        fault=fault,
        pause_s=round(writer.longest_gap(ended), 3),
        acknowledged=len(numbers),
        lost=len(numbers - kept),
    )


async def measure_all(
    repeat: int, environment: Path | None, *, say: Callable[[str], None], done: Callable[[str, Run], None]
) -> None:
    """Every fault so often, in turns. `done` is told Patroni's version and each run as it ends."""
    async with running_cluster(environment) as cluster:
        for _ in range(repeat):
            for fault in FAULTS:
                run = await measure(cluster, fault)
                say(f"Patroni, {fault}: {run.pause_s:.2f} s, {run.lost} lost")
                done(cluster.version, run)


@click.command()
@click.option("--repeat", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option(
    "--environment", type=click.Path(path_type=Path), help="Patroni's virtual environment; made if absent."
)
def main(repeat: int, environment: Path | None) -> None:
    """Measure Patroni, and print the runs as JSON."""
    runs: list[Run] = []
    try:
        asyncio.run(
            measure_all(
                repeat,
                environment,
                say=lambda what: click.echo(what, err=True),
                done=lambda _, run: runs.append(run),
            )
        )
    finally:
        click.echo(json.dumps([asdict(run) for run in runs], indent=1))


if __name__ == "__main__":
    main()
