"""What the machine could do at most, measured in the same run: the denominators of the ratios."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import orjson
from aiohttp import web

from bench.lab import BASES, BenchError, Lab
from bench.load import closed_loop
from sitecontrol.lab.ports import free_base

CLIENTS = 64
TPS = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)
COMMIT = "insert into hotsite.bench_commit (body) values (repeat('x', 200));\n"


async def bare_http(seconds: float) -> float:
    """Requests a second of an aiohttp handler that reads JSON, answers JSON and does nothing else."""
    port = free_base(*BASES)
    async with _bare_server(port):
        body = orjson.dumps({"to": "+12125550100", "body": "Power is back.", "reference": "bare"})
        tally = await closed_loop([("127.0.0.1", port)], CLIENTS, seconds, lambda: body, "none")
    return tally.per_second


@asynccontextmanager
async def _bare_server(port: int) -> AsyncIterator[None]:
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.limits", str(port))
    try:
        for _ in range(200):
            await asyncio.sleep(0.05)
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            writer.close()
            break
        else:
            raise BenchError("the bare HTTP server did not start")
        yield
    finally:
        server.terminate()
        await server.wait()


async def commits(lab: Lab, seconds: float) -> float:
    """Commits a second of one row each on both sites, from as many connections as there are clients."""
    postgres = lab.live_postgres
    password = lab.secret("postgres-migrate")
    where = {"host": "127.0.0.1", "port": postgres["port"], "user": "hotsite_migrate", "database": "hotsite"}
    connection = await asyncpg.connect(**where, password=password)
    try:
        await connection.execute("create table hotsite.bench_commit (id bigserial primary key, body text)")
        return await _pgbench(lab.programs / "pgbench", where, password, seconds)
    finally:
        await connection.execute("drop table hotsite.bench_commit")
        await connection.close()


async def _pgbench(tool: Path, where: dict[str, object], password: str, seconds: float) -> float:
    words = [
        "-n",
        "-c",
        str(CLIENTS),
        "-j",
        "1",
        "-M",
        "prepared",
        "-T",
        str(int(seconds)),
        "-f",
        "/dev/stdin",
    ]
    done = await asyncio.to_thread(
        subprocess.run,
        [str(tool), *words, "-h", str(where["host"]), "-p", str(where["port"]), "-U", str(where["user"]),
         str(where["database"])],
        input=COMMIT,
        env={**os.environ, "PGPASSWORD": password},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    found = TPS.search(done.stdout)
    if found is None:
        raise BenchError(f"pgbench: {done.stderr.strip()}")
    return float(found[1])


async def _take(request: web.Request) -> web.Response:
    document = orjson.loads(await request.read())
    return web.Response(
        body=orjson.dumps({"reference": document["reference"], "state": "queued"}),
        status=202,
        content_type="application/json",
    )


def serve(port: int) -> None:
    app = web.Application()
    app.router.add_post("/v1/messages", _take)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    import uvloop

    uvloop.install()
    serve(int(sys.argv[1]))
