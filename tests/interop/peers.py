"""SMSCs that nobody here wrote, each as a process of its own: what they need is installed once, outside the project.

| | |
|---|---|
| Jasmin's SMPP server | PyPI; its versions with hashes are in `jasmin.lock`; needs Python 3.11 or 3.12 |
| the SMPP server of `smpp` | npm; its versions with hashes are in `package-lock.json`; needs `node` and `npm` |

They are installed where CI is set, into `HOTSITE_INTEROP_CACHE` (by default a folder in the user's cache), named by
what is locked. Elsewhere their tests run if that has been done, and are skipped with the reason if not.

Each peer tells what it got in lines of JSON on stdout (`got` is the kind, `id` the id that it gave), and does what
lines on its stdin say (`do`): `receipt`, `deliver`, `unbind`, and the npm one `answer_with`, `alert`, `unknown`, too.
"""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.smpp_scenes import PASSWORD, within

HERE = Path(__file__).parent
SYSTEM_ID = "hotsite"
INSTALL_WITHIN_S = 420.0
STARTS_WITHIN_S = 60.0
TELLS_WITHIN_S = 15.0


def jasmin() -> Path:
    """The Python that has Jasmin. Skips the test where it cannot be had."""
    if sys.version_info >= (3, 13):
        pytest.skip("Jasmin's SMPP server needs Python 3.12 or older")
    folder = _cached("jasmin", HERE / "jasmin.lock")
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        _only_where_ci_is_set("Jasmin", folder)
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", folder)
        _run(
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "-r",
            HERE / "jasmin.lock",
        )
        (folder / "done").touch()
    return python


def npm_smpp() -> Path:
    """The folder that node finds `smpp` in. Skips the test where it cannot be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = _cached("npm", HERE / "package-lock.json")
    if not (folder / "done").exists():
        _only_where_ci_is_set("the npm package smpp", folder)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        _run("npm", "ci", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
        (folder / "done").touch()
    return folder / "node_modules"


class Peer:
    """A running SMSC."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._kept: list[dict[str, Any]] = []
        self.port = 0

    async def got(self, what: str) -> dict[str, Any]:
        """The next of what it got of this kind; the others are kept."""
        for at, line in enumerate(self._kept):
            if line.get("got") == what:
                return self._kept.pop(at)
        while True:
            line = await self.line()
            assert line.get("got") != "defect", line
            if line.get("got") == what:
                return line
            self._kept.append(line)

    async def line(self, seconds: float = TELLS_WITHIN_S) -> dict[str, Any]:
        assert self._process.stdout
        text = b"-"
        while not text.startswith(b"{"):  # Jasmin prints words of its own, too
            text = await within(self._process.stdout.readline(), seconds)
            assert text, "the peer ended"
        line: dict[str, Any] = json.loads(text)
        return line

    def do(self, what: str, **how: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"do": what, **how}).encode() + b"\n")


@asynccontextmanager
async def running(*command: str | Path, env: dict[str, str]) -> AsyncIterator[Peer]:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        SYSTEM_ID,
        PASSWORD,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | env,
    )
    try:
        peer = Peer(process)
        peer.port = (await peer.line(STARTS_WITHIN_S))["port"]
        yield peer
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def running_jasmin(python: Path, folder: Path) -> AsyncIterator[Peer]:
    """Jasmin writes its logs to `folder`."""
    places = {"LOG_PATH": str(folder), "ROOT_PATH": str(folder)}
    async with running(python, "-W", "ignore", HERE / "jasmin_smsc.py", env=places) as peer:
        yield peer


@asynccontextmanager
async def running_npm_smpp(modules: Path) -> AsyncIterator[Peer]:
    async with running("node", HERE / "smpp_smsc.js", env={"NODE_PATH": str(modules)}) as peer:
        yield peer


def _cached(name: str, lock: Path) -> Path:
    cache = os.environ.get("HOTSITE_INTEROP_CACHE") or Path.home() / ".cache" / "hotsite-interop"
    python = "-".join(map(str, sys.version_info[:2]))
    return Path(cache) / f"{name}-{python}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"


def _only_where_ci_is_set(what: str, folder: Path) -> None:
    if not os.environ.get("CI"):
        pytest.skip(f"{what} is not installed in {folder}: with CI=true this test installs it")


def _run(*command: str | Path) -> None:
    words: Sequence[str] = [str(word) for word in command]
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-2_000:]}"
