"""Patroni as its authors ship it: two nodes, the three etcd members of a lab, the shortest settings that it permits.

It is installed from PyPI into a virtual environment of its own, by default one that goes with the cluster. There is no
line between its places: what it is measured with is in its favour.
"""

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import psutil

from bench.lab import BASES, BenchError
from sitecontrol.lab.installation import Installation, install
from sitecontrol.lab.ports import SITES, free_base

REQUIREMENT = "patroni[etcd3,psycopg3]>=4.1,<5"
SHORTEST = {"ttl": 20, "loop_wait": 1, "retry_timeout": 3}  # patroni/validator.py refuses anything below
UP_WITHIN = 90.0
POLL = 0.05
PASSWORD = "only-on-loopback"  # noqa: S105 # of a cluster that lives for minutes, on 127.0.0.1

Json = dict[str, Any]


@dataclass
class Node:
    """A Patroni with its PostgreSQL."""

    name: str
    postgres: int
    api: int
    home: Path
    config: Path
    process: subprocess.Popen[Any] | None = None

    @property
    def postmaster(self) -> psutil.Process | None:
        try:
            pid = int((self.home / "data" / "postmaster.pid").read_text().split()[0])
            return psutil.Process(pid)
        except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
            return None

    @property
    def processes(self) -> list[psutil.Process]:
        """All that belongs to it, PostgreSQL last."""
        roots = [self.postmaster]
        if self.process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                roots.insert(0, psutil.Process(self.process.pid))
        found: list[psutil.Process] = []
        for root in roots:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [root, *root.children(recursive=True)] if root is not None else []
        return found


@dataclass
class Cluster:
    folder: Path
    venv: Path
    installation: Installation
    base: int
    session: aiohttp.ClientSession
    version: str = ""
    nodes: list[Node] = field(default_factory=list)
    _etcd: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def ports(self) -> list[int]:
        return [node.postgres for node in self.nodes]

    # -- beginning and end

    async def start(self) -> None:
        self._start_etcd()
        for number, site in enumerate(SITES):
            node = Node(
                name=site,
                postgres=self.base + 20 + number,
                api=self.base + 30 + number,
                home=self.installation.postgres_home(site),
                config=self.folder / f"{site}.yml",
            )
            node.config.write_text(json.dumps(self._settings(node)))  # JSON is YAML
            self.nodes.append(node)
            self.run(node)
            await self.until(f"{node.name} runs", self.told_by(node, "/health"))
        await self.until("the standby is synchronous", self.is_whole)

    def run(self, node: Node) -> None:
        """Start a node's Patroni, as a supervisor would."""
        with (self.folder / f"{node.name}.log").open("ab") as log:
            node.process = subprocess.Popen(
                [self.venv / "bin" / "patroni", node.config],
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                **as_user(self.installation.run_as),
            )

    def kill(self, node: Node) -> None:
        """Every process of a node at once, as when its machine is lost."""
        for process in node.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        if node.process is not None:
            node.process.wait()

    def stop(self) -> None:
        for node in self.nodes:
            self.kill(node)
        for member in self._etcd:
            member.kill()
            member.wait()
        if not self.installation.postgres_root.is_relative_to(self.folder):
            shutil.rmtree(self.installation.postgres_root, ignore_errors=True)

    def _start_etcd(self) -> None:
        """Three members with the lab's own timings."""
        peers = ",".join(f"m{i}=http://127.0.0.1:{self.base + 10 + i}" for i in range(3))
        for i in range(3):
            client, peer = f"http://127.0.0.1:{self.base + i}", f"http://127.0.0.1:{self.base + 10 + i}"
            with (self.folder / f"etcd-{i}.log").open("ab") as log:
                self._etcd.append(
                    subprocess.Popen(
                        [
                            self.installation.etcd,
                            f"--name=m{i}",
                            f"--data-dir={self.folder / f'etcd-{i}'}",
                            f"--listen-client-urls={client}",
                            f"--advertise-client-urls={client}",
                            f"--listen-peer-urls={peer}",
                            f"--initial-advertise-peer-urls={peer}",
                            f"--initial-cluster={peers}",
                            "--heartbeat-interval=100",
                            "--election-timeout=1000",
                            "--pre-vote",
                        ],
                        stdout=log,
                        stderr=log,
                    )
                )

    def _settings(self, node: Node) -> Json:
        return {
            "scope": "peer",
            "name": node.name,
            "restapi": {"listen": f"127.0.0.1:{node.api}", "connect_address": f"127.0.0.1:{node.api}"},
            "etcd3": {"hosts": [f"127.0.0.1:{self.base + i}" for i in range(3)]},
            "bootstrap": {
                "dcs": {
                    **SHORTEST,
                    "synchronous_mode": True,
                    "postgresql": {
                        "use_pg_rewind": True,
                        "parameters": {"synchronous_commit": "on", "wal_keep_size": "512MB"},
                    },
                },
                "initdb": ["data-checksums", {"encoding": "UTF8"}, {"locale": "C"}],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{node.postgres}",
                "connect_address": f"127.0.0.1:{node.postgres}",
                "data_dir": str(node.home / "data"),
                "bin_dir": str(self.installation.postgres_bin),
                "pgpass": str(node.home / "pgpass"),
                "parameters": {"unix_socket_directories": str(node.home)},
                "pg_hba": [
                    "local all all trust",
                    "host all all 127.0.0.1/32 trust",
                    "host replication all 127.0.0.1/32 trust",
                ],
                "authentication": {
                    role: {"username": role, "password": PASSWORD}
                    for role in ("superuser", "replication", "rewind")
                },
            },
        }

    # -- what is known of it

    async def says(self, node: Node, path: str) -> bool:
        """What a node says of itself (`/primary`, `/sync`); of the others it knows only what was so a loop ago."""
        try:
            async with self.session.get(f"http://127.0.0.1:{node.api}{path}") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def is_whole(self) -> bool:
        """One leader, and a synchronous standby that streams."""
        primaries = [node for node in self.nodes if await self.says(node, "/primary")]
        return len(primaries) == 1 and any([await self.says(node, "/sync") for node in self.nodes])

    async def leader(self) -> Node:
        found = [node for node in self.nodes if await self.says(node, "/primary")]
        if len(found) != 1:
            raise BenchError(f"Patroni has {len(found)} leaders")
        return found[0]

    async def switchover(self) -> None:
        """As an operator asks for it, again while its picture of the standby is a loop old; returns when it is over."""
        leader = await self.leader()
        (other,) = (node for node in self.nodes if node is not leader)
        url = f"http://127.0.0.1:{leader.api}/switchover"
        body = {"leader": leader.name, "candidate": other.name}

        async def accepted() -> bool:
            async with self.session.post(url, json=body, timeout=aiohttp.ClientTimeout(total=60)) as answer:
                return answer.status == 200

        await self.until(f"the switchover to {other.name} is accepted", accepted)

    def told_by(self, node: Node, path: str) -> Callable[[], Awaitable[bool]]:
        """For `until`: that the node says so."""
        return lambda: self.says(node, path)

    async def until(self, fact: str, holds: Callable[[], Awaitable[bool]], within: float = UP_WITHIN) -> None:
        deadline = time.monotonic() + within
        while not await holds():
            if time.monotonic() > deadline:
                raise BenchError(f"Patroni: not within {within:.0f} s: {fact}; its logs are in {self.folder}")
            await asyncio.sleep(POLL)


@asynccontextmanager
async def running_cluster(environment: Path | None = None) -> AsyncIterator[Cluster]:
    """Started and whole; ended and removed afterwards. `environment`: a virtual environment for Patroni, made there
    when it is absent; without one, Patroni is installed for this cluster only.
    """
    with _folder() as folder:
        installation = install(folder)
        venv = environment or folder / "venv"
        version = await asyncio.to_thread(install_patroni, venv, installation.run_as)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            cluster = Cluster(
                folder=folder,
                venv=venv,
                installation=installation,
                base=free_base(*BASES),
                session=session,
                version=version,
            )
            try:
                await cluster.start()
                yield cluster
            finally:
                cluster.stop()


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="hotsite-peer-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)  # PostgreSQL may run as another user
        yield folder


def install_patroni(venv: Path, user: str | None) -> str:
    """Make the environment unless it is there; returns Patroni's version. `user`: who must be able to run it."""
    patroni = venv / "bin" / "patroni"
    if not patroni.exists():
        _call(_python_for(user), "-m", "venv", "--without-pip", str(venv))
        pip = (
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--python",
            str(venv / "bin" / "python"),
        )
        _call(*pip, "install", "--quiet", REQUIREMENT)
    return _call(str(patroni), "--version").split()[-1]


def _python_for(user: str | None) -> str:
    """Our own Python, or the system's where that user cannot reach ours."""
    others = (shutil.which(name, path="/usr/local/bin:/usr/bin") for name in ("python3",))
    for python in (str(Path(sys.executable).resolve()), *filter(None, others)):
        with contextlib.suppress(PermissionError):
            if subprocess.run([python, "-c", ""], cwd="/", check=False, **as_user(user)).returncode == 0:
                return python
    raise BenchError(f"no Python that {user} could run: install python3")


def as_user(user: str | None) -> Json:
    """For subprocess: to run it as that user."""
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _call(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"Patroni cannot be installed: {' '.join(words)}: {done.stderr.strip()[-500:]}")
    return done.stdout
