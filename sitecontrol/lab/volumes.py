"""A file system of its own for each node's data, so that a lab's disks can be full: an image in a sparse file, mounted.

Only root mounts. What is mounted lies where a node's data lie anyway: nobody else needs to know of it. It is mounted
before the lab starts, and not any more after it was ended; the images keep the data, as the folders do elsewhere.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from sitecontrol.lab.errors import LabError, LabRefusedError

PROGRAMS = ("mkfs.ext4", "mount", "umount")
LOOP = Path("/dev/loop-control")
BALLAST = "ballast"  # the file that fills a volume
SMALLEST = 1_024  # MB: a node's data, a second copy of them, and the WAL that it keeps
MB = 1024 * 1024
BLOCK = 4096


def refuse_unless_possible() -> None:
    if os.geteuid() != 0:
        raise LabRefusedError(
            "volumes of its own for each node need root, who alone mounts file systems: start the lab as root, or"
            " without --volume-mb"
        )
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise LabRefusedError(f"volumes need {', '.join(missing)}: apt install e2fsprogs mount")
    if not LOOP.exists():
        raise LabRefusedError(f"volumes need loop devices, and there is no {LOOP}: start without --volume-mb")


def mount(home: Path, image: Path, *, megabytes: int, user: str | None) -> None:
    """The volume in `image`, made at first, at `home`. Mounting what is mounted changes nothing."""
    if is_one(home):
        return
    if not image.exists():
        fresh = image.with_name(image.name + ".new")
        with fresh.open("wb") as file:
            file.truncate(megabytes * MB)
        _run("mkfs.ext4", "-q", "-m", "0", str(fresh))
        fresh.rename(image)
    _run("mount", "-o", "loop", str(image), str(home))
    home.chmod(0o700)
    if user is not None:
        shutil.chown(home, user)
    make_room(home)


def unmount(homes: Iterable[Path]) -> None:
    """Those of them that are mounted; nothing may run there any more."""
    for home in homes:
        if is_one(home):
            _run("umount", str(home))


def is_one(home: Path) -> bool:
    return os.path.ismount(home)


def fill(home: Path) -> None:
    """Not one block is left to PostgreSQL."""
    with (home / BALLAST).open("ab") as file:
        size = os.statvfs(home).f_bavail * BLOCK
        while size >= BLOCK:
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
            except OSError:
                size //= 2


def make_room(home: Path) -> None:
    (home / BALLAST).unlink(missing_ok=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise LabError(f"{' '.join(command)}: {said[-1]}")
