"""`python -m bench.age`: what the store costs after so many messages, and after so many partitions.

Pushes rows through their whole life (accepted, claimed, submitted, receipted) in bulk, by the same functions that the
dispatchers call, on a PostgreSQL of its own that does not wait for its disk. In between it tells what the calls of the
last part took (in milliseconds of processor, so that it does not count what else the machine does), how large the work
lists are and how many dead rows they hold: none of these may grow with the number of messages. Receipts are waited for
during 72 hours: here as long as the last `--awaited` texts.

With `--partitions 3 --partitions 60` it asks each call of systems with so many partitions instead, and tells the ratio.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import asyncpg
import click
from rich.console import Console
from rich.table import Table

from dispatcher import migrate
from dispatcher.accounts import add_account
from replication import binaries
from replication.session import Session, Target

TERM = 7
BATCH = 1_000
CALLS = ("accept", "claim", "settle", "receipts")
LISTS = ("queue", "agenda", "claim", "tally", "submission", "parked_receipt", "doubt")
PUSH = (resources.files("bench") / "age.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the rows: mean milliseconds of each call, and the lists after it."""

    rows: int  # so far
    ms: dict[str, float]
    bytes: dict[str, int]
    dead: dict[str, int]
    stored: int  # bytes of all partitions


@contextlib.contextmanager
def server() -> Iterator[Target]:
    """A PostgreSQL with the roles and the schema of a leader in TERM, gone afterwards."""
    user = None
    if os.geteuid() == 0:
        user = "postgres" if "postgres" in {entry.pw_name for entry in pwd.getpwall()} else "nobody"
    programs = binaries.find(None, user=user)
    folder = Path(tempfile.mkdtemp(prefix="hotsite-age-"))
    if user is not None:
        shutil.chown(folder, user)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    subprocess.run(
        [programs["initdb"], "-D", folder / "data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"],
        check=True, stdout=subprocess.DEVNULL, user=user, cwd=folder,
    )  # fmt: skip
    options = {
        "port": port,
        "unix_socket_directories": folder,
        "fsync": "off",
        "jit": "off",  # as everywhere here
        "cluster_name": "bench/b1",
        "autovacuum_naptime": "5s",  # the bench lives faster than a system does
        "max_wal_size": "2GB",
        "max_locks_per_transaction": 256,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [programs["postgres"], "-D", folder / "data", *(f"--{name}={value}" for name, value in options.items())],
            stdout=log, stderr=log, user=user, cwd=folder, start_new_session=True,
        )  # fmt: skip
    try:
        yield Target(host="127.0.0.1", port=port, user="postgres", application_name="bench")
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


async def connect(target: Target, database: str) -> "asyncpg.Connection[asyncpg.Record]":
    for _ in range(300):
        with contextlib.suppress(OSError, asyncpg.CannotConnectNowError):
            return await asyncpg.connect(
                host=target.host, port=target.port, user=target.user, database=database
            )
        await asyncio.sleep(0.1)
    raise click.ClickException("PostgreSQL did not start")


@contextlib.asynccontextmanager
async def store(target: Target, database: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A migrated database with an account, and what pushes rows through it."""
    postgres = await connect(target, "postgres")
    for role in ("hotsite_migrate", "hotsite_dispatch", "hotsite_monitor", "hotsite_rewind"):
        with contextlib.suppress(asyncpg.DuplicateObjectError):
            await postgres.execute(f"create role {role} login")
    await postgres.execute(f"create database {database}")
    await postgres.close()
    found = await connect(target, database)
    await found.execute("create schema hotsite authorization hotsite_migrate")
    await found.execute((resources.files("sitecontrol") / "sql" / "control.sql").read_text())
    await found.execute(
        "insert into control.leadership (term, node, boot, opened_at) values ($1, 'bench', 'b1', now())", TERM
    )
    owner = Target(host=target.host, port=target.port, user="hotsite_migrate", database=database)
    await migrate.apply(owner)
    session = await Session.connect(owner, timeout=10)
    await add_account(session, name="utility", program="outages", source="12345")
    await session.aclose()
    await found.execute(PUSH)
    try:
        yield found
    finally:
        await found.close()


async def age(target: Target, *, rows: int, parts: int, awaited: int, seconds: float) -> list[Part]:
    told: list[Part] = []
    began = time.monotonic()
    async with store(target, "age") as found:
        await found.execute("select bench.partitions(30, 7)")
        for part in range(parts):
            count = rows // parts // BATCH
            await found.execute("truncate bench.took")
            for batch in range(count):
                done = (part * count + batch) / (parts * count)
                await found.execute("call bench.push($1, $2, $3)", TERM, BATCH, 30 * (1 - done))
                if (part * count + batch + 1) * BATCH > awaited:
                    await found.execute("select bench.end_waiting($1)", BATCH)
                if batch % 20 == 0:
                    await found.execute("select hotsite.release_due($1, 1000, true)", TERM)
            told.append(await look(found, (part + 1) * count * BATCH))
            print(told[-1], file=sys.stderr, flush=True)
            if time.monotonic() - began > seconds:
                break
    return told


async def look(found: "asyncpg.Connection[asyncpg.Record]", rows: int) -> Part:
    took = await found.fetch("select call, avg(ms) as ms from bench.took group by call")
    lists = await found.fetch(
        "select s.relname, pg_total_relation_size(s.relid) as bytes, s.n_dead_tup as dead"
        " from pg_stat_user_tables as s where s.schemaname = 'hotsite' and s.relname = any ($1)",
        list(LISTS),
    )
    stored = await found.fetchval(
        "select sum(pg_total_relation_size(c.oid)) from pg_class as c"
        " where c.relnamespace = 'hotsite'::regnamespace and c.relispartition and c.relkind = 'r'"
    )
    return Part(
        rows=rows,
        ms={row["call"]: float(row["ms"]) for row in took},
        bytes={row["relname"]: row["bytes"] for row in lists},
        dead={row["relname"]: row["dead"] for row in lists},
        stored=int(stored),
    )


def show_age(console: Console, parts: list[Part]) -> None:
    table = Table(
        title=f"processor milliseconds of a call with {BATCH:,} rows; the lists after it: MB and dead rows"
    )
    for column in ("rows", *CALLS, *LISTS[:5], "stored MB"):
        table.add_column(column, justify="right")
    for part in parts:
        table.add_row(
            f"{part.rows:,}",
            *(f"{part.ms[call]:.1f}" for call in CALLS),
            *(f"{part.bytes[name] / 1e6:.1f} / {part.dead[name]:,}" for name in LISTS[:5]),
            f"{part.stored / 1e6:,.0f}",
        )
    console.print(table)
    if len(parts) > 1:
        ratios = (f"{call} {parts[-1].ms[call] / parts[0].ms[call]:.2f}" for call in CALLS)
        console.print("the last part to the first:", ", ".join(ratios))


async def partitions(
    target: Target, counts: list[int], rounds: int
) -> dict[int, dict[str, tuple[float, float]]]:
    """For so many partitions: each call's first time (its plans are made) and its least, in milliseconds."""
    told = {}
    for count in counts:
        async with store(target, f"partitions_{count}") as found:
            await found.execute("select bench.partitions($1, 1)", count)
            for _ in range(rounds):
                await found.execute("call bench.push($1, $2, $3)", TERM, 100, 0.0)
            rows = await found.fetch(
                "select call, (array_agg(ms order by at))[1] as first, percentile_cont(0.25) within group (order by ms)"
                " as quick from bench.took group by call"
            )
            told[count] = {row["call"]: (float(row["first"]), float(row["quick"])) for row in rows}
            print(count, told[count], file=sys.stderr, flush=True)
    return told


def show_partitions(console: Console, told: dict[int, dict[str, tuple[float, float]]]) -> None:
    table = Table(
        title="processor milliseconds of a call with 100 rows: the first with its plans / the quick quarter (ratio)"
    )
    table.add_column("partitions", justify="right")
    for call in CALLS:
        table.add_column(call, justify="right")
    least = told[min(told)]
    for count, calls in told.items():
        table.add_row(
            str(count),
            *(
                f"{calls[call][0]:.0f} / {calls[call][1]:.1f} ({calls[call][1] / least[call][1]:.2f})"
                for call in CALLS
            ),
        )
    console.print(table)


@click.command()
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--parts", default=10, show_default=True)
@click.option("--awaited", default=200_000, show_default=True, help="Texts whose receipts may still come.")
@click.option(
    "--seconds", default=3_600.0, show_default=True, help="Ends after the part in which they are over."
)
@click.option("--partitions", "counts", type=int, multiple=True, help="Ask with so many partitions instead.")
@click.option("--rounds", default=60, show_default=True, help="With --partitions.")
def main(rows: int, parts: int, awaited: int, seconds: float, counts: tuple[int, ...], rounds: int) -> None:
    """The store at age."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server is ended, too
    console = Console(width=160)
    with server() as target:
        if counts:
            show_partitions(console, asyncio.run(partitions(target, list(counts), rounds)))
        else:
            told = asyncio.run(age(target, rows=rows, parts=parts, awaited=awaited, seconds=seconds))
            show_age(console, told)


if __name__ == "__main__":
    main()
