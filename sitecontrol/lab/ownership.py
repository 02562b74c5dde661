"""Which running processes belong to a lab, and how to end all of them without touching anything else.

A process is the lab's when it was started with the lab's mark in its environment (`HOTSITE_LAB_ID`, inherited
by whatever it starts in turn), or when it is a PostgreSQL whose working directory is one of the lab's data
directories. Both survive a crash of the supervisor, which no list of children would.
"""

import os
import signal
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "HOTSITE_LAB_ID"
POLL = 0.05  # seconds


def belongs(process: psutil.Process, marks: Collection[str], data_dirs: Sequence[Path]) -> bool:
    if is_postgres_of(process, data_dirs):
        return True
    try:
        return process.environ().get(MARK) in marks and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):  # gone, or somebody else's
        return False


def is_postgres_of(process: psutil.Process, data_dirs: Sequence[Path]) -> bool:
    try:
        return process.name() == "postgres" and Path(process.cwd()) in data_dirs
    except (psutil.Error, OSError):
        return False


def processes_of(marks: Collection[str], data_dirs: Sequence[Path]) -> list[psutil.Process]:
    """Every living process of the lab, the caller excepted. `marks`: of one lab there is more than one only when
    its record was lost between two starts.
    """
    return [p for p in psutil.process_iter() if p.pid != os.getpid() and belongs(p, marks, data_dirs)]


def marks_in(folder: Path) -> tuple[str, ...]:
    """The marks of running processes that were started with a path in `folder`: whose lab that is, by itself."""
    found = set()
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK)
            if (
                mark
                and process.pid != os.getpid()
                and any(_names(word, folder) for word in process.cmdline())
            ):
                found.add(mark)
        except (psutil.Error, OSError):  # gone, or somebody else's
            continue
    return tuple(sorted(found))


def _names(word: str, folder: Path) -> bool:
    """Whether an argument is the folder or lies in it, and not in another lab below it: PATH or --option=PATH."""
    path = Path(word.partition("=")[2] if word.startswith("--") else word)
    if not path.is_absolute() or not path.is_relative_to(folder):
        return False
    below = (path, *path.parents)
    return not any((other / "lab.json").is_file() for other in below[: below.index(folder)])


def postgres_of(data_dir: Path) -> list[psutil.Process]:
    """The postmaster of a data directory, if it runs, then its backends."""
    postmaster = postmaster_of(data_dir)
    found = [process for process in psutil.process_iter() if is_postgres_of(process, [data_dir])]
    return sorted(found, key=lambda process: process.pid != postmaster)


def postmaster_of(data_dir: Path) -> int | None:
    """The pid in postmaster.pid, if that process lives and works in this directory."""
    try:
        pid = int((data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
        return pid if is_postgres_of(psutil.Process(pid), [data_dir]) else None
    except (OSError, ValueError, psutil.Error):
        return None


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def send_to(pids: Iterable[int], number: signal.Signals) -> None:
    """The same by number; a backend may end between being found and being signalled."""
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            send([psutil.Process(pid)], number)


def end(marks: Collection[str], data_dirs: Sequence[Path], *, within: float) -> int:
    """End whatever is left of a lab: ask, then kill. Returns how many there were."""
    left = processes_of(marks, data_dirs)
    count = len(left)
    send((p for p in left if not is_postgres_of(p, data_dirs)), signal.SIGTERM)
    postmasters = [pid for data_dir in data_dirs if (pid := postmaster_of(data_dir)) is not None]
    send_to(postmasters, signal.SIGQUIT)  # immediate: recovery is PostgreSQL's daily bread
    deadline = time.monotonic() + within
    while left and time.monotonic() < deadline:
        time.sleep(POLL)
        left = processes_of(marks, data_dirs)
    while left:
        send(left, signal.SIGKILL)
        time.sleep(POLL)
        left = processes_of(marks, data_dirs)
    return count
