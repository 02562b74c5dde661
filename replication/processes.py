"""PostgreSQL's processes as the kernel sees them: found without asking them, awaited, killed for certain.

Every process of a server has its data directory as its working directory, also when the postmaster is gone
and a stopped backend was left behind, and also after the directory was renamed (the inode is compared). Each
backend is a session and a process group of its own, so killing the postmaster's group would miss them.

A process is signalled through a pidfd that was opened before it was looked at: its number cannot have become
somebody else's in between.
"""

import asyncio
import contextlib
import io
import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from replication.binaries import PROGRAMS
from replication.errors import NodeError

OUTPUT_SHOWN = 2_000  # characters of a failed program's output that go into the error
KILL_AGAIN_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Account:
    """The system user that PostgreSQL's programs run as."""

    uid: int
    gid: int
    name: str

    @classmethod
    def named(cls, name: str | None) -> "Account":
        """Ours, or another one if we are root. Raises NodeError with what to do instead."""
        own = pwd.getpwuid(os.geteuid())
        if name is None or name == own.pw_name:
            if own.pw_uid == 0:
                raise NodeError(
                    "PostgreSQL refuses to run as root: set replication.run_as, such as 'postgres'"
                )
            return cls(uid=own.pw_uid, gid=own.pw_gid, name=own.pw_name)
        if os.geteuid() != 0:
            raise NodeError(
                f"only root can run PostgreSQL as {name!r}; we are {own.pw_name!r}: unset replication.run_as"
            )
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise NodeError(f"replication.run_as: there is no system user {name!r}") from None
        return cls(uid=entry.pw_uid, gid=entry.pw_gid, name=name)

    @staticmethod
    def ours() -> str:
        """The name of the user that we run as."""
        return pwd.getpwuid(os.geteuid()).pw_name

    @property
    def owner(self) -> tuple[int, int]:
        return self.uid, self.gid

    def make_folder(self, path: Path) -> Path:
        """A folder that this user, and nobody else but root, can use."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)
        return path

    def popen(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a program as this user, in a session of its own, with nothing inherited."""
        if os.geteuid() == 0:
            groups = os.getgrouplist(self.name, self.gid)
            options |= {"user": self.uid, "group": self.gid, "extra_groups": groups}
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC", **options.pop("env", {})},
            **options,
        )


@contextlib.contextmanager
def pidfd(pid: int) -> Iterator[int | None]:
    """A handle of the process `pid`, or None if there is none (any more)."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


async def exited(handle: int) -> None:
    """Wait until the process behind a pidfd has ended (it may still have to be reaped by its parent)."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(handle, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(handle)


def working_in(folder: os.stat_result) -> list[int]:
    """PostgreSQL's processes whose working directory is `folder`, whatever it is called by now."""
    return [pid for pid in _all_processes() if works_in(pid, folder)]


def works_in(pid: int, folder: os.stat_result) -> bool:
    """Whether `pid` is a program of PostgreSQL that works in `folder` (and not an operator's shell)."""
    try:
        program = Path(f"/proc/{pid}/exe").readlink().name.removesuffix(" (deleted)")
        return program in PROGRAMS and os.path.samestat(Path(f"/proc/{pid}/cwd").stat(), folder)
    except OSError:
        return False  # it ended, or it is somebody else's


def command_line(pid: int) -> list[str]:
    """The arguments that `pid` was started with; empty when it ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


async def kill_all(
    folder: os.stat_result,
    *,
    first: int | None = None,
    deadline: float = 10.0,
    doomed_after: float | None = None,
) -> int:
    """SIGKILL PostgreSQL's processes that work in `folder`; return how many there were.

    `first` (the postmaster) is killed before the others, so that it cannot start new ones. Raises NodeError
    when one of them is still there after `deadline` seconds. With `doomed_after`, those that a dead disk holds are
    left to the kernel after so many seconds: they will never run another instruction, so they answer nobody.
    """
    killed: set[int] = set()
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(deadline):
            while left := working_in(folder):
                if (
                    doomed_after is not None
                    and loop.time() - began > doomed_after
                    and all(map(_doomed, left))
                ):
                    break
                for pid in sorted(left, key=lambda pid: pid != first):
                    with pidfd(pid) as handle:
                        if handle is not None and works_in(pid, folder):
                            signal.pidfd_send_signal(handle, signal.SIGKILL)
                            killed.add(pid)
                await asyncio.sleep(KILL_AGAIN_S)
    except TimeoutError:
        raise NodeError(f"processes survived SIGKILL for {deadline} s: {working_in(folder)}") from None
    return len(killed)


def _doomed(pid: int) -> bool:
    """It sleeps in the kernel, where no signal wakes it, and a SIGKILL waits for it."""
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    fields = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return fields["State"].split()[0] == "D" and bool(pending >> (signal.SIGKILL - 1) & 1)


async def run(
    account: Account,
    command: Sequence[str],
    *,
    folder: Path,
    deadline: float,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end in `folder`; return what it wrote. Raises NodeError with the end of its output.

    It is killed, with its children, when `deadline` seconds have passed or the caller is cancelled.
    """
    program = Path(command[0]).name
    with tempfile.TemporaryFile() as output:
        async with _running(account, command, output, output, folder, env or {}) as process:
            try:
                async with asyncio.timeout(deadline):
                    with pidfd(process.pid) as handle:
                        if handle is not None:
                            await exited(handle)
            except TimeoutError:
                raise NodeError(f"{program} did not end within {deadline} s") from None
            status = process.wait()
        text = _written(output)
    if status != 0:
        raise NodeError(f"{program} failed with status {status}: {text[-OUTPUT_SHOWN:].strip()}")
    return text


async def run_through(
    account: Account,
    command: Sequence[str],
    take: Callable[[Iterable[str]], None],
    *,
    folder: Path,
    deadline: float,
) -> None:
    """The same, for a program that may write more than fits into memory: `take` gets its lines, in a thread."""
    program = Path(command[0]).name
    with tempfile.TemporaryFile() as errors:
        async with _running(account, command, subprocess.PIPE, errors, folder, {}) as process:
            reading = asyncio.create_task(asyncio.to_thread(_take_lines, process, take))
            try:
                async with asyncio.timeout(deadline):
                    await asyncio.shield(reading)
            except TimeoutError:
                raise NodeError(f"{program} did not end within {deadline} s") from None
            finally:
                if not reading.done():
                    process.kill()  # what it has written ends, and with it the thread
                    await asyncio.wait([reading])
            status = process.wait()
        text = _written(errors)
    if status != 0:
        raise NodeError(f"{program} failed with status {status}: {text[-OUTPUT_SHOWN:].strip()}")


def _take_lines(process: "subprocess.Popen[bytes]", take: Callable[[Iterable[str]], None]) -> None:
    assert process.stdout is not None, "asked for as a pipe"  # noqa: S101 # ours to keep
    with io.TextIOWrapper(process.stdout, errors="replace") as lines:
        take(lines)


def _written(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")


@contextlib.asynccontextmanager
async def _running(
    account: Account, command: Sequence[str], output: Any, errors: Any, folder: Path, env: Mapping[str, str]
) -> "AsyncIterator[subprocess.Popen[bytes]]":
    process = account.popen(command, stdout=output, stderr=errors, cwd=folder, env=env)
    try:
        yield process
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _all_processes() -> Iterator[int]:
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdecimal():
                yield int(entry.name)
