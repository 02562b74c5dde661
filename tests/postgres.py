"""A throwaway PostgreSQL for a test session, and a fresh database of it for each test.

Fixtures (known everywhere through tests/conftest.py):

* `postgres_server` (session): a running `PostgresServer`; a superuser named `postgres`, no password asked.
* `database` (function): a `Target` at a fresh, empty database, dropped afterwards.
* `connection` (function): an asyncpg connection to it.
* `nodes` (function): makes primaries and standbys (`replication.node.Node`) that end with the test.

For a database with contents, build a template once and copy it for each test:

    target = postgres_server.create_database(template=postgres_server.template("dispatcher", build))

where `build(target)` is called once per test session, on the empty template.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from replication import binaries, standbys
from replication.binaries import Binaries
from replication.configuration import Primary, Standby
from replication.configured import NodeSettings
from replication.node import Node
from replication.session import Target
from tests.ports import free_port

SETTINGS = {
    "fsync": "off",  # a test's database dies with its machine
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "jit": "off",
    "timezone": "UTC",
    "log_min_messages": "warning",
}


def tools() -> Binaries:
    """The PostgreSQL to test with: the one in $TEST_POSTGRES_BIN, or the first that is found."""
    folder = os.environ.get("TEST_POSTGRES_BIN")
    return binaries.find(Path(folder) if folder else None, user=unprivileged_user())


def unprivileged_user() -> str | None:
    """Whom to run PostgreSQL as; None when we are an ordinary user already."""
    if os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415 (only root needs it)

    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextlib.contextmanager
def short_folder(prefix: str) -> Iterator[Path]:
    """A folder that the unprivileged user owns, with a path short enough for sockets; removed at the end."""
    # In memory where there is room: what is tested is not the disk. A socket's path has 107 bytes at most.
    memory = Path("/dev/shm")  # noqa: S108 (mkdtemp makes a folder of our own in it)
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2_000_000_000
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=memory if roomy else "/tmp"))  # noqa: S108 (same)
    if (user := unprivileged_user()) is not None:
        shutil.chown(folder, user)
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class PostgresServer:
    """A running server. `admin` connects to its maintenance database as superuser."""

    admin: Target
    process: "subprocess.Popen[bytes]"
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _templates: set[str] = field(default_factory=set)

    def target(self, database: str, **changes: Any) -> Target:
        """How to connect to `database`; `changes` replace fields, such as `user`."""
        return replace(self.admin, database=database, **changes)

    def create_database(self, *, template: str = "template1") -> Target:
        name = f"test_{next(self._numbers)}"
        self.execute(f'create database "{name}" template "{template}" strategy file_copy')
        return self.target(name)

    def drop_database(self, name: str) -> None:
        self.execute(f'drop database if exists "{name}" with (force)')

    def template(self, name: str, build: Callable[[Target], Awaitable[object]]) -> str:
        """A template called `name`, built the first time that it is asked for."""
        if name not in self._templates:
            self.drop_database(name)
            self.execute(f'create database "{name}" strategy file_copy')
            with ThreadPoolExecutor(1) as thread:  # of its own: a loop may be running in ours
                thread.submit(asyncio.run, _finish(build(self.target(name)))).result()
            self._templates.add(name)
        return name

    def execute(self, sql: str, *, database: str = "postgres") -> None:
        """Run one statement as superuser, from code that is not asynchronous or from inside of a loop."""
        subprocess.run(
            [
                str(tools().folder / "psql"),
                *("-X", "-q", "-v", "ON_ERROR_STOP=1"),
                *("-h", self.admin.host, "-p", str(self.admin.port), "-U", self.admin.user),
                *("-d", database, "-c", sql),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )


async def _finish(work: Awaitable[object]) -> None:
    await work


@contextlib.contextmanager
def running_server(folder: Path, **settings: str) -> Iterator[PostgresServer]:
    """Create a cluster in `folder` and run it until the block ends."""
    user = unprivileged_user()
    programs = tools()
    data, port = folder / "data", free_port()
    subprocess.run(
        [programs["initdb"], "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"],
        check=True,
        stdout=subprocess.DEVNULL,
        user=user,
        cwd=folder,
    )
    options = {**SETTINGS, "port": str(port), "unix_socket_directories": str(folder), **settings}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [programs["postgres"], "-D", data, *(f"--{name}={value}" for name, value in options.items())],
            stdout=log,
            stderr=log,
            user=user,
            cwd=folder,
            start_new_session=True,
        )
    try:
        admin = Target(
            host="127.0.0.1", port=port, user="postgres", database="postgres", application_name="tests"
        )
        _wait_until_ready(process, folder / "data" / "postmaster.pid", folder / "log")
        yield PostgresServer(admin=admin, process=process)
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(timeout=30)


def _wait_until_ready(process: "subprocess.Popen[bytes]", pid_file: Path, log: Path) -> None:
    """Until the last line of postmaster.pid says so (which is what pg_ctl looks at, too)."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"PostgreSQL did not start: {log.read_text()}")
        with contextlib.suppress(OSError):
            if pid_file.read_text().rstrip().endswith("ready"):
                return
        time.sleep(0.02)  # another program's file: nothing to wait on
    pytest.fail(f"PostgreSQL did not get ready: {log.read_text()}")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with short_folder("hotsite-pg-") as folder, running_server(folder) as server:
        yield server


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[Target]:
    target = postgres_server.create_database()
    yield target
    postgres_server.drop_database(target.database)


@pytest.fixture
async def connection(database: Target) -> Any:
    """A plain asyncpg connection to `database`, as superuser."""
    found = await asyncpg.connect(
        host=database.host, port=database.port, user=database.user, database=database.database
    )
    yield found
    await found.close()


PASSWORD = "a:b\\c'd e"  # awkward on purpose: files, connection strings and settings all have their own rules
ROLES = f"""
    create role hotsite_replication login replication password '{PASSWORD.replace("'", "''")}';
    create role hotsite_rewind login password '{PASSWORD.replace("'", "''")}';
    grant execute on function pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean),
        pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) to hotsite_rewind;
"""


@dataclass
class Nodes:
    """Makes nodes below one folder, and ends them with the test."""

    folder: Path
    _made: list[Node] = field(default_factory=list)

    async def make(self, name: str, **settings: Any) -> Node:
        """A node that is acquired, and has no data yet. Called again with a name: a second one on the same data."""
        known = next((n.settings.port for n in self._made if n.settings.name == name), None)
        user = unprivileged_user()
        node = Node(
            NodeSettings(
                name=name,
                binaries=tools(),
                data_dir=self.folder / name / "data",
                config_dir=self.folder / name / "etc",
                socket_dir=self.folder / name / "run",
                host="127.0.0.1",
                port=known or free_port(),
                run_as=user,
                **{"parameters": {"shared_buffers": "16MB", "max_connections": 50}, **settings},
            )
        )
        self._made.append(node)
        await node.acquire()
        return node

    async def primary(self, name: str, **settings: Any) -> Node:
        """A new cluster with a running primary, and the roles by which others follow it."""
        node = await self.make(name, **settings)
        await node.initdb()
        await node.start(Primary(), cluster_name=f"{name}/1")
        async with contextlib.aclosing(await node.session()) as session:
            for statement in filter(str.strip, ROLES.split(";\n")):
                await session.commit(statement, timeout=10)
        return node

    async def standby(self, name: str, of: Node, **settings: Any) -> Node:
        """A running clone that follows `of`."""
        node = await self.make(name, **settings)
        await node.clone_from(replication_target(of))
        await node.start(Standby(upstream=replication_target(of)), cluster_name=f"{name}/1")
        async with contextlib.aclosing(await of.session()) as session:
            await standbys.wait_flushed(session, name, 0, deadline=20)
        return node

    async def end(self) -> None:
        for node in self._made:
            await node.kill()
            node.release()


def replication_target(node: Node) -> Target:
    return Target(host="127.0.0.1", port=node.settings.port, user="hotsite_replication", password=PASSWORD)


def rewind_target(node: Node) -> Target:
    return Target(host="127.0.0.1", port=node.settings.port, user="hotsite_rewind", password=PASSWORD)


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    with short_folder("hotsite-n-") as folder:
        made = Nodes(folder)
        try:
            yield made
        finally:
            await made.end()
