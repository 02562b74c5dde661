"""A lab of the bench's own, from nothing, on free ports; its processes, its carrier's log, its machine's limits."""

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from bench.processes import kinds_of
from sitecontrol.cli import SITECTL
from sitecontrol.lab.control import read_lab
from sitecontrol.lab.plan import BUFFERS_MB
from sitecontrol.lab.ports import free_base

BASES = (20_100, 30_000)  # of labs
UP_WITHIN = 180.0  # seconds; a busy machine takes longer than the fifteen of an idle one
READ_BYTES = 1 << 20


class BenchError(Exception):
    """The bench cannot be run; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Lab:
    folder: Path
    status: dict[str, Any]

    @property
    def kinds(self) -> dict[int, str]:
        """The lab's processes by pid."""
        return kinds_of(self.status)

    @property
    def doors(self) -> list[tuple[str, int]]:
        """Where messages are taken, at both sites."""
        urls = [d["url"] for site in self.status["sites"].values() for d in site.get("dispatchers", ())]
        pairs = [url.removeprefix("http://").rstrip("/").rsplit(":", 1) for url in urls]
        return [(host, int(port)) for host, port in pairs]

    @property
    def key(self) -> str:
        return str(self.status["accounts"][0]["key"])

    @property
    def program(self) -> str:
        return str(self.status["accounts"][0]["program"])

    @property
    def live_postgres(self) -> dict[str, Any]:
        return dict(self.status["sites"][self.status["live_site"]]["postgres"])

    @property
    def programs(self) -> Path:
        """Where PostgreSQL's programs are."""
        return read_lab(self.folder).lab.installation.postgres_bin

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text().strip()

    def carrier(self) -> "CarrierLog":
        return CarrierLog([Path(carrier["log"]) for carrier in self.status["carriers"]])


class CarrierLog:
    """Counts what the carriers took, from where it is opened on."""

    def __init__(self, files: list[Path]) -> None:
        self._files = [file.open("rb") for file in files]
        self._times: list[float] = []
        for file in self._files:
            file.seek(0, 2)

    def taken(self, since: float = 0.0, until: float = float("inf")) -> int:
        """How many segments were taken between two wall clock times."""
        for file in self._files:
            self._read(file)
        return sum(since <= at < until for at in self._times)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _read(self, file: Any) -> None:
        while True:
            before = file.tell()
            chunk = file.read(READ_BYTES)
            whole = chunk.rfind(b"\n") + 1
            file.seek(before + whole)
            if not whole:
                return
            lines = map(orjson.loads, chunk[:whole].splitlines())
            self._times.extend(line["t"] for line in lines if line["status"] == 0)


@contextmanager
def running_lab(*, wan_ms: float, shared_buffers_mb: int = BUFFERS_MB) -> Iterator[Lab]:
    with TemporaryDirectory(prefix="hotsite-bench-", ignore_cleanup_errors=True) as temporary:
        Path(temporary).chmod(0o755)  # PostgreSQL may run as another user
        folder = Path(temporary) / "lab"
        options = [
            "--base-port",
            str(free_base(*BASES)),
            "--wan-ms",
            str(wan_ms),
            "--shared-buffers-mb",
            str(shared_buffers_mb),
            "--simulators",
            "1",
            "--detach",
        ]
        try:
            _sitectl(folder, "up", *options, "--timeout", str(UP_WITHIN))
            status = json.loads(_sitectl(folder, "status", "--json", check=False))
            if status["durability"] != "two-site":
                raise BenchError("the lab's sites are not in step: nothing it does would mean anything")
            yield Lab(folder=folder, status=status)
        finally:
            _sitectl(folder, "down", "--purge", check=False)


def _sitectl(folder: Path, *words: str, check: bool = True) -> str:
    done = subprocess.run(
        [*SITECTL, "lab", *words, "--dir", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        raise BenchError(f"sitectl lab {words[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


async def wait_until_sent(log: CarrierLog, expected: int, *, within: float) -> int:
    """Wait until the carriers took so many, or the time is over; returns how many they took."""
    deadline = time.monotonic() + within
    while (taken := log.taken()) < expected and time.monotonic() < deadline:  # noqa: ASYNC110 # another process writes the log
        await asyncio.sleep(0.1)
    return taken
