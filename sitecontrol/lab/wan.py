"""The WAN emulator: `python -m sitecontrol.lab.wan --config F`.

A userland TCP proxy stands between the places of a lab: each place reaches each service of another place
through a door of its own (`wan_routes.Route`), so that the line between two places can be delayed and cut for
everything that runs over it at once, in one direction or in both, without root. How one connection is carried
is told in `wan_pipe`; how the door in front of an etcd member tells its two callers apart, in `peer_owner`.

On a cut line open connections stall and new ones hang. When it is healed, they go on, except those that
stalled for longer than `reset_after`: these are reset, as TCP would have given up.

Control, over HTTP on 127.0.0.1 with `Authorization: Bearer <the lab's token>`:

| call | |
|---|---|
| `GET /state` | the lines: delay, cut or not, connections, bytes carried |
| `POST /cut {"source","destination","both"}` | cut one way, or both |
| `POST /shape {"delay_ms","jitter_ms","bits_per_s","reset_share"}` | make every line between two places bad |
| `POST /heal {}` or `{"source","destination"}` | mend everything, or one line in both directions |
"""

import asyncio
import contextlib
import random
import signal
import sys
from pathlib import Path
from typing import Any

import click
import orjson
import structlog
import uvloop
from aiohttp import web
from pydantic import ValidationError

from sitecontrol.lab.guard import requiring
from sitecontrol.lab.peer_owner import place_of
from sitecontrol.lab.pidfiles import read_pid
from sitecontrol.lab.wan_pipe import Direction, Flow, Side
from sitecontrol.lab.wan_routes import Route, Shape, WanConfig
from sitecontrol.logging import configure

log = structlog.get_logger()

CONNECT_TIMEOUT = 5.0
RESET_WITHIN = 5.0  # seconds, of a connection that a bad line will break


class Emulator:
    """All doors and all lines. `start` opens the doors; `stop` drops every connection."""

    def __init__(self, config: WanConfig) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._shape: Shape | None = None
        self._lines: dict[tuple[str, str], Direction] = {}
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        for route in self._config.routes:
            server = await self._loop.create_server(
                lambda route=route: Side(lambda side: self._called(route, side)),  # type: ignore[misc] # mypy cannot infer a lambda's default
                "127.0.0.1",
                route.door,
                backlog=512,
            )
            self._servers.append(server)

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def line(self, source: str, destination: str, *, delayed: bool = True) -> Direction:
        key = (source, destination)
        if key not in self._lines:
            self._lines[key] = Direction(source=source, destination=destination, delay=0.0, shaped=delayed)
            self._apply_shape(self._lines[key])
        return self._lines[key]

    def cut(self, source: str, destination: str, *, both: bool) -> None:
        pairs = [(source, destination), (destination, source)] if both else [(source, destination)]
        for one, other in pairs:
            self.line(one, other).cut(self._loop.time())
        log.info("line_cut", source=source, destination=destination, both=both)

    def shape(self, shape: Shape) -> None:
        """Every line between two places, until `heal`."""
        self._shape = shape
        for line in self._lines.values():
            self._apply_shape(line)
            for flow in tuple(line.flows):
                if self._unlucky():
                    flow.reset()
        log.info("lines_shaped", **shape.model_dump())

    def _apply_shape(self, line: Direction) -> None:
        if not line.shaped:
            return
        shape = self._shape
        line.delay = (shape.delay_ms if shape else self._config.wan_ms / 2) / 1000
        line.jitter = shape.jitter_ms / 1000 if shape else 0.0
        line.bits_per_s = shape.bits_per_s if shape else None

    def _unlucky(self) -> bool:
        return self._shape is not None and random.random() < self._shape.reset_share  # noqa: S311

    def heal(self, between: frozenset[str] | None) -> None:
        if between is None and self._shape is not None:
            self._shape = None
            for line in self._lines.values():
                self._apply_shape(line)
        for line in self._lines.values():
            if line.cut_at is None or (between is not None and {line.source, line.destination} != between):
                continue
            stalled = self._loop.time() - line.cut_at
            if stalled > self._config.reset_after:
                for flow in tuple(line.flows):
                    flow.reset()
            line.heal()
            log.info(
                "line_healed", source=line.source, destination=line.destination, after_s=round(stalled, 3)
            )

    def state(self) -> dict[str, Any]:
        return {
            "wan_ms": self._config.wan_ms,
            "connections": len(self._connections),
            "lines": [
                {
                    "source": line.source,
                    "destination": line.destination,
                    "delay_ms": line.delay * 1000,
                    "cut": line.cut_at is not None,
                    "connections": len(line.flows),
                    "bytes": line.carried,
                }
                for line in self._lines.values()
            ],
        }

    def _called(self, route: Route, near: Side) -> None:
        task = self._loop.create_task(self._carry(route, near))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _carry(self, route: Route, near: Side) -> None:
        """One connection, from the call until both ends are gone."""
        far: Side | None = None
        try:
            if route.source is None and (far := await self._connect(route)) is None:
                # A member that is down is called again and again by both others: finding out who calls would
                # cost more than everything else here.
                await asyncio.sleep(self._config.wan_ms / 1000)
                return
            source = route.source or await self._caller(route, near)
            if source is None or near.transport is None:
                return
            there = self.line(source, route.destination, delayed=route.delayed)
            back = self.line(route.destination, source, delayed=route.delayed)
            forward = Flow(self._loop, there, not_before=self._loop.time() + there.delay + back.delay)
            forward.source = near.transport
            if there.shaped and self._unlucky():
                self._loop.call_later(random.uniform(0.0, RESET_WITHIN), forward.reset)  # noqa: S311
            near.take(forward)
            if not await self._line_up(near, there, back):
                return
            await asyncio.sleep(there.delay)
            far = far or await self._connect(route)
            if far is None or far.transport is None:
                await asyncio.sleep(back.delay)
                return
            backward = Flow(self._loop, back, not_before=0.0)
            forward.twin, backward.twin = backward, forward
            backward.source, backward.sink = far.transport, near.transport
            far.into, near.into = forward, backward
            far.take(backward)
            forward.sink = far.transport
            forward.deliver()
            await near.lost.wait()
            await far.lost.wait()
        finally:
            near.reset()
            if near.out is not None:
                near.out.drop()
            if far is not None:
                far.reset()

    async def _caller(self, route: Route, near: Side) -> str | None:
        if near.transport is None:
            return None
        port: int = near.transport.get_extra_info("peername")[1]
        pids = {
            place: pid
            for place, file in self._config.etcd_pidfiles.items()
            if place != route.destination and (pid := read_pid(file)) is not None
        }
        return await asyncio.to_thread(place_of, pids, local_port=port, remote_port=route.door)

    async def _line_up(self, near: Side, there: Direction, back: Direction) -> bool:
        """Wait until a call gets through; False when the caller hung up meanwhile."""
        while there.cut_at is not None or back.cut_at is not None:
            line = there if there.cut_at is not None else back
            waits = [asyncio.create_task(line.healed.wait()), asyncio.create_task(near.lost.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if near.lost.is_set():
                return False
        return True

    async def _connect(self, route: Route) -> Side | None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                _, far = await self._loop.create_connection(
                    lambda: Side(lambda _side: None), route.target_host, route.target_port
                )
        except (OSError, TimeoutError):
            return None
        return far


def control_app(emulator: Emulator, token: str) -> web.Application:
    async def state(_request: web.Request) -> web.Response:
        return web.json_response(emulator.state())

    async def cut(request: web.Request) -> web.Response:
        body = await request.json()
        emulator.cut(body["source"], body["destination"], both=body.get("both", True))
        return web.json_response(emulator.state())

    async def shape(request: web.Request) -> web.Response:
        try:
            emulator.shape(Shape.model_validate_json(await request.read()))
        except ValidationError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        return web.json_response(emulator.state())

    async def heal(request: web.Request) -> web.Response:
        body = await request.json()
        emulator.heal(frozenset({body["source"], body["destination"]}) if body else None)
        return web.json_response(emulator.state())

    app = web.Application(middlewares=[requiring(token)])
    app.add_routes(
        [
            web.get("/state", state),
            web.post("/cut", cut),
            web.post("/shape", shape),
            web.post("/heal", heal),
        ]
    )
    return app


async def serve(config: WanConfig) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    emulator = Emulator(config)
    await emulator.start()
    runner = web.AppRunner(control_app(emulator, config.token_file.read_text().strip()), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", config.control).start()
    log.info("wan_ready", doors=len(config.routes), wan_ms=config.wan_ms)
    await stopped.wait()
    await runner.cleanup()
    await emulator.stop()


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--config", type=click.Path(path_type=Path), required=True)
def main(config: Path) -> None:
    try:
        parsed = WanConfig.model_validate(orjson.loads(config.read_bytes()))
    except (OSError, ValueError, ValidationError) as error:
        click.echo(f"{config}: {error}", err=True)
        sys.exit(2)
    configure("lab wan")
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(parsed))


if __name__ == "__main__":
    main()
