"""Keeps the processes of a lab running: `python -m sitecontrol.lab.supervisor --dir D`.

Each child is started in a session of its own, with the lab's mark in its environment and a pid file, and is
started again when it dies (agents after 0.1 s, the others after a second, as systemd would) unless the lab was
started with `--no-restart`, or a fault holds it down. Everything that dies is logged. PostgreSQL belongs to the
agents; the supervisor only knows how to find it, to break it on request and to end it at the end.

Control, over HTTP on 127.0.0.1 with `Authorization: Bearer <the lab's token>`:

| call | |
|---|---|
| `GET /state` | every process: pid, state, how often it was started again |
| `POST /kill {"processes", "postgres", "postmaster_only", "hold"}` | SIGKILL, all at once; `hold`: stay down |
| `POST /signal {"processes", "postgres", "signal": "STOP"}` | any other signal |
| `POST /release` | continue what was stopped, start what was held |
| `POST /stop` | end the lab |
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Literal

import click
import psutil
import structlog
import uvloop
from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from sitecontrol.lab import ownership
from sitecontrol.lab.child import Child
from sitecontrol.lab.errors import LabError
from sitecontrol.lab.guard import requiring
from sitecontrol.lab.layout import LabDir
from sitecontrol.lab.pidfiles import write_pid
from sitecontrol.lab.plan import FIRST_WAVE, Kind, Lab, Plan
from sitecontrol.lab.ports import SITES
from sitecontrol.logging import configure

log = structlog.get_logger()

SECOND_WAVE_AFTER = 8.0  # seconds at most; sooner when an agent answers
HEAD_START = 1.0  # for the first wave of a place that comes back
STOP_WITHIN = 4.0  # seconds for a clean end, before the rest is killed
STRAGGLERS_WITHIN = 2.0
# PostgreSQL would wait for the other's walreceiver, and etcd's leader for a successor: both while all end. Both
# are built to be killed.
POSTGRES_WITHIN = 1.5
ETCD_WITHIN = 1.0


class Targets(BaseModel):
    model_config = ConfigDict(extra="forbid")

    processes: tuple[str, ...] = ()
    postgres: tuple[str, ...] = ()  # keys of nodes
    postmaster_only: bool = False  # leave its backends to find out by themselves
    hold: bool = False  # stay down until released
    signal: Literal["KILL", "STOP", "CONT", "TERM", "INT", "QUIT"] = "KILL"


class Supervisor:
    def __init__(self, plan: Plan, *, head_start: float = HEAD_START) -> None:
        self._plan = plan
        self._head_start = head_start
        self.nodes = tuple(node.key for node in plan.all_nodes)
        self._data_dirs = [plan.lab.installation.data_dir(node.key) for node in plan.all_nodes]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HOTSITE_")}
        environment[ownership.MARK] = plan.lab.id
        self.children = {
            process.name: Child(
                process,
                log_file=plan.directory.log(process.name),
                pidfile=plan.directory.pidfile(process.name),
                environment=environment,
                restart=plan.lab.options.restart,
            )
            for process in plan.processes
        }
        self.stopped = asyncio.Event()

    async def run(self) -> None:
        """Start everything, in two waves, and stay until asked to stop; then end everything."""
        try:
            self._start(first=True)
            await self._first_wave_is_up()
            self._start(first=False)
            await self.stopped.wait()
        finally:
            await self._end_all()

    def _start(self, *, first: bool) -> None:
        for child in self.children.values():
            if (child.process.kind in FIRST_WAVE) is first and not self.stopped.is_set():
                child.start()

    async def _first_wave_is_up(self) -> None:
        """Until an agent listens: then the cores are free for the others while PostgreSQL is made."""
        port = self._plan.ports.place(SITES[0]).agent
        deadline = time.monotonic() + SECOND_WAVE_AFTER
        while time.monotonic() < deadline and not self.stopped.is_set():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
                continue
            writer.close()
            return

    # -- faults ------------------------------------------------------------------------------------------------

    async def kill(self, targets: Targets) -> list[int]:
        """SIGKILL to all of them within a moment, and to whatever they started meanwhile."""
        chosen = [self.children[name] for name in targets.processes]
        for child in chosen:
            child.expect_death(hold=targets.hold)
        # Looked up before the first blow, so that all fall together; the agents first, since they restart others.
        pids = self._postgres_pids(targets)
        for child in sorted(chosen, key=lambda child: child.process.kind is not Kind.AGENT):
            child.kill_group()
        killed = pids
        deadline = time.monotonic() + STRAGGLERS_WITHIN
        while pids and time.monotonic() < deadline:
            ownership.send_to(pids, signal.SIGKILL)
            if not targets.hold:  # the postmaster may come back at once; what we killed was meant
                break
            await asyncio.sleep(0.02)
            pids = self._postgres_pids(targets)
        log.info("killed", processes=targets.processes, postgres=targets.postgres, hold=targets.hold)
        return killed

    def signal(self, targets: Targets) -> None:
        number = signal.Signals["SIG" + targets.signal]
        for name in targets.processes:
            self.children[name].send(number)
        reached: set[int] = set()
        while (
            new := set(self._postgres_pids(targets)) - reached
        ):  # a postmaster may have started one meanwhile
            ownership.send_to(sorted(new), number)
            reached |= new
        log.info("signalled", processes=targets.processes, postgres=targets.postgres, signal=targets.signal)

    def release(self) -> None:
        """Everything may run again. A place that was lost starts its agent and etcd first, as a lab does."""
        for child in self.children.values():
            child.send(signal.SIGCONT)
            child.release(after=0 if child.process.kind in FIRST_WAVE else self._head_start)
        ownership.send_to(self._postgres_pids(Targets(postgres=self.nodes)), signal.SIGCONT)
        log.info("released")

    def _postgres_pids(self, targets: Targets) -> list[int]:
        data_dirs = [self._plan.lab.installation.data_dir(key) for key in targets.postgres]
        if targets.postmaster_only:
            return [pid for data_dir in data_dirs if (pid := ownership.postmaster_of(data_dir)) is not None]
        return [process.pid for data_dir in data_dirs for process in ownership.postgres_of(data_dir)]

    def state(self) -> dict[str, Any]:
        return {
            "id": self._plan.lab.id,
            "pid": os.getpid(),
            "restart": self._plan.lab.options.restart,
            "processes": [child.describe() for child in self.children.values()],
        }

    # -- the end -----------------------------------------------------------------------------------------------

    async def _end_all(self) -> None:
        """The lines and etcd last, so that the others can end in order."""
        log.info("stopping")
        self.release()
        last = (Kind.WAN, Kind.ETCD)
        early = [child for child in self.children.values() if child.process.kind not in last]
        await asyncio.gather(*(child.stop(STOP_WITHIN) for child in early))
        await asyncio.to_thread(self._end_postgres)
        await asyncio.gather(*(child.stop(ETCD_WITHIN) for child in self.children.values()))
        left = await asyncio.to_thread(
            ownership.end, [self._plan.lab.id], self._data_dirs, within=STRAGGLERS_WITHIN
        )
        log.info("stopped", stragglers=left)

    def _end_postgres(self) -> None:
        for number, within in ((signal.SIGINT, POSTGRES_WITHIN), (signal.SIGQUIT, STRAGGLERS_WITHIN)):
            running = [p for data_dir in self._data_dirs for p in ownership.postgres_of(data_dir)[:1]]
            ownership.send(running, number)
            psutil.wait_procs(running, timeout=within)


def control_app(supervisor: Supervisor, token: str) -> web.Application:
    async def state(_request: web.Request) -> web.Response:
        return web.json_response(supervisor.state())

    async def targets_of(request: web.Request) -> Targets:
        try:
            targets = Targets.model_validate_json(await request.read())
        except ValidationError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        unknown = set(targets.processes) - set(supervisor.children) | set(targets.postgres) - set(
            supervisor.nodes
        )
        if unknown:
            raise web.HTTPBadRequest(text=f"nothing here is called {', '.join(sorted(unknown))}\n")
        return targets

    async def kill(request: web.Request) -> web.Response:
        return web.json_response({"postgres_pids": await supervisor.kill(await targets_of(request))})

    async def send(request: web.Request) -> web.Response:
        supervisor.signal(await targets_of(request))
        return web.json_response({})

    async def release(_request: web.Request) -> web.Response:
        supervisor.release()
        return web.json_response({})

    async def stop(_request: web.Request) -> web.Response:
        supervisor.stopped.set()
        return web.json_response({})

    app = web.Application(middlewares=[requiring(token)])
    app.add_routes(
        [
            web.get("/state", state),
            web.post("/kill", kill),
            web.post("/signal", send),
            web.post("/release", release),
            web.post("/stop", stop),
        ]
    )
    return app


async def _leave_with(parent: int, stopped: asyncio.Event) -> None:
    """A lab in the foreground ends with the command that started it, however that ended."""
    while os.getppid() == parent:  # noqa: ASYNC110 # the kernel sets no event of ours
        await asyncio.sleep(0.5)
    log.warning("parent_gone", parent=parent)
    stopped.set()


async def supervise(plan: Plan, *, foreground: bool) -> None:
    supervisor = Supervisor(plan)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stopped.set)
    token = plan.directory.token_file.read_text().strip()
    runner = web.AppRunner(control_app(supervisor, token), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", plan.ports.supervisor).start()
    write_pid(plan.directory.supervisor_pidfile, os.getpid())
    watcher = loop.create_task(_leave_with(os.getppid(), supervisor.stopped)) if foreground else None
    try:
        await supervisor.run()
    finally:
        if watcher is not None:
            watcher.cancel()
        await runner.cleanup()
        plan.directory.supervisor_pidfile.unlink(missing_ok=True)


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--dir", "directory", type=click.Path(path_type=Path), required=True)
@click.option("--foreground", is_flag=True, help="End when the process that started us ends.")
def main(directory: Path, *, foreground: bool) -> None:
    configure("lab supervisor")
    lab_dir = LabDir.at(directory)
    try:
        lab = Lab.model_validate_json(lab_dir.identity_file.read_bytes())
        with lab_dir.running():
            uvloop.run(supervise(Plan(lab, lab_dir), foreground=foreground))
    except (OSError, ValueError, LabError) as error:
        click.echo(f"the lab's supervisor: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
