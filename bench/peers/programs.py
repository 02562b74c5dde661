"""Programs that a peer consists of: found, started by hand on ports of their own, ended by pid; and its carrier."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.lab import BenchError
from bench.peers.gateway import NotInstalledError

UP_WITHIN = 60.0
END_WITHIN = 10.0
SYSTEM = "/usr/local/sbin:/usr/sbin"  # not in everyone's PATH
CARRIER_ID, CARRIER_PASSWORD = "peer", "peerpw"


def program(name: str, package: str, *, first: str = "") -> str:
    """Where it is; `first`: a folder to look into before all others. Raises NotInstalledError."""
    found = shutil.which(name, path=os.pathsep.join((first, os.environ.get("PATH", ""), SYSTEM)))
    if found is None:
        raise NotInstalledError(f"there is no {name}: apt install {package}")
    return found


@contextmanager
def running(
    argv: Sequence[str | Path], folder: Path, *, name: str, env: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Its pid, until the end of the block. What it prints goes to `<name>.out` in the folder."""
    with (folder / f"{name}.out").open("ab") as out:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=folder,
            env={**os.environ, **(env or {})},
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def listens(port: int, what: str, folder: Path, *, pid: int | None = None) -> None:
    """Wait until something takes connections there; `pid`: a child without which nothing will."""
    deadline = time.monotonic() + UP_WITHIN
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if pid is not None and psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            raise BenchError(f"{what} ended at once; its folder says: {_last_words(folder)}")
        if time.monotonic() > deadline:
            raise BenchError(
                f"{what} did not listen within {UP_WITHIN:.0f} s; its folder says: {_last_words(folder)}"
            )
        await asyncio.sleep(0.1)


@contextmanager
def carrier(folder: Path, port: int) -> Iterator[Path]:
    """The carrier simulator with the settings that the lab gives it; its log."""
    password, log = folder / "carrier-password", folder / "carrier.jsonl"
    password.write_text(CARRIER_PASSWORD)
    argv: list[str | Path] = [
        sys.executable, "-m", "dispatcher.simulator", "--listen", f"127.0.0.1:{port}", "--system-id", CARRIER_ID,
        "--password-file", password, "--log", log,
    ]  # fmt: skip
    with running(argv, folder, name="carrier", env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}):
        yield log


def _last_words(folder: Path) -> str:
    lines = [
        line
        for file in sorted(folder.glob("*.out"))
        for line in file.read_text(errors="replace").splitlines()[-3:]
    ]
    return " / ".join(lines) or "nothing"
