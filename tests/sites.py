"""One node as tests move it: its agent's process, its PostgreSQL, and the ways into both."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from replication import processes
from replication.session import Session, Target
from tests.hosts import HERE, Host

TOKEN = "the-operators-token"


@dataclass
class Site:
    """One node: its agent's process, its PostgreSQL, and how to reach both."""

    name: str
    folder: Path
    data: Path
    config: Path
    agent_port: int
    postgres_port: int
    host: Host = HERE
    program: Path | None = None  # where another version's packages are; None: this one's
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def node(self) -> str:
        return f"{self.name}-a"

    # -- the agent's process

    def start(self) -> None:
        assert self.process is None
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.host.enter, *command(self.config)],
                stdout=log,
                stderr=log,
                cwd=self.program,
                env=environment_of(self.program),
            )

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """The agent alone, whatever state it is in; its PostgreSQL goes on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def hang(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    # -- PostgreSQL's processes

    def postgres_pids(self) -> list[int]:
        return processes.working_in(self.data.stat()) if self.data.exists() else []

    def signal_postgres(self, number: signal.Signals) -> None:
        for pid in self.postgres_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def kill_postgres(self) -> None:
        if self.data.exists():
            await processes.kill_all(self.data.stat())

    async def end(self) -> None:
        """The whole node at once, as when its power fails."""
        self.kill()
        await self.kill_postgres()

    async def copy_data(self, to: Path) -> None:
        """A copy with owners and modes, as of a snapshot. PostgreSQL must have ended."""
        await asyncio.to_thread(subprocess.run, ["cp", "-a", self.data, to], check=True)

    def wipe(self) -> None:
        """Lose the disk. Everything must have ended."""
        for path in (self.data, self.data.with_name("data.conf"), self.folder / "state"):
            shutil.rmtree(path, ignore_errors=True)

    # -- what the agent tells

    async def ask(self, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """A GET, or a POST when `json` is among the options."""
        method = "POST" if "json" in options else "GET"
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http,
            http.request(method, f"http://{self.host.address}:{self.agent_port}{path}", **options) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    async def status(self) -> dict[str, Any]:
        return (await self.ask("/status"))[1]

    async def rule(self) -> str:
        """The row of the table that holds for its PostgreSQL."""
        decision = (await self.status())["decision"]
        return str(decision["rule"]) if decision else ""

    async def swap(
        self, to: "Site", *, dry_run: bool = False, token: str = TOKEN
    ) -> tuple[int, dict[str, Any]]:
        asked = {"to": to.name, "reason": "a test", "by": "tester", "dry_run": dry_run}
        return await self.ask("/swap", json=asked, headers={"Authorization": f"Bearer {token}"})

    def events(self, name: str) -> list[dict[str, Any]]:
        """What its agents have logged under that name, since the folder was made."""
        lines = (self.folder / "agent.log").read_text(errors="replace").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in found if event.get("event") == name]

    def repairs(self) -> int:
        """How often it was rewound or cloned."""
        return len(self.events("rewound")) + len(self.events("cloned"))

    # -- ways into its PostgreSQL

    @asynccontextmanager
    async def superuser(self) -> AsyncIterator[Session]:
        async with self._session(host=str(self.folder / "run"), user="hotsite_agent") as session:
            yield session

    @asynccontextmanager
    async def dispatcher(self) -> AsyncIterator[Session]:
        async with self._session(
            host=self.host.address, user="hotsite_dispatch", password="dispatch"
        ) as session:
            yield session

    @asynccontextmanager
    async def _session(self, **where: Any) -> AsyncIterator[Session]:
        target = Target(port=self.postgres_port, database="hotsite", application_name="tests", **where)
        session = await Session.connect(target, timeout=5)
        try:
            yield session
        finally:
            session.terminate()

    async def select(self, sql: str, *args: object) -> Any:
        """The first value of the first row, as superuser."""
        async with self.superuser() as session:
            return (await session.read(sql, *args, timeout=10))[0][0]

    async def pid_of(self, backend_type: str) -> int:
        """A process of its PostgreSQL, such as 'checkpointer' or 'walsender'."""
        return int(
            await self.select("select pid from pg_stat_activity where backend_type = $1", backend_type)
        )

    async def has(self, number: int) -> bool:
        return bool(
            await self.select("select exists (select from public.acknowledged where id = $1)", number)
        )


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "sitecontrol", "agent", "--config", str(config)]


def environment_of(program: Path | None) -> dict[str, str]:
    """In which Python imports the packages of that folder. (`-m` looks into the working directory before that.)"""
    return clean_environment() | ({} if program is None else {"PYTHONPATH": str(program)})


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HOTSITE_")}
