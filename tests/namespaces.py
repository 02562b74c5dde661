"""Commands that see another machine than we do, for as long as they run: folders hidden, closed ones opened.

By a private mount namespace, which only root gets, and not in every container.
"""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from sitecontrol.etcd.binaries import FOLDERS

PROJECT = Path(__file__).parents[1]
POSTGRES = Path("/usr/lib/postgresql")  # where Debian keeps every version


@cache
def are_permitted() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def within(mounts: Sequence[str], command: Sequence[str]) -> list[str]:
    """`command`, for which these lines of shell were carried out. It has the process of what starts it."""
    script = "\n".join(["set -eu", *mounts, 'exec "$@"'])
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command]


def without_servers() -> list[str]:
    """Mounts that hide PostgreSQL and etcd as the system brought them; those of the wheels stay."""
    on_path = os.environ.get("PATH", "").split(os.pathsep)
    programs = [Path(folder) / "etcd" for folder in (*on_path, *FOLDERS)]
    programs += [Path(folder) / "postgres" for folder in on_path]
    ours = Path(sys.prefix)
    hidden = {p.resolve() for p in programs if p.exists() and not p.is_relative_to(ours)}
    mounts = [f"mount --bind /dev/null {program}" for program in sorted(hidden)]
    return [*mounts, *([f"mount -t tmpfs none {POSTGRES}"] if POSTGRES.exists() else [])]


def closed_to_others() -> dict[Path, Path]:
    """What a process of ours needs and others cannot reach -> the outermost folder that is closed to them."""
    needed = [Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), PROJECT]
    closed = {}
    for path in needed:
        for folder in reversed(path.parents):
            if not folder.stat().st_mode & 0o001:
                closed[path] = folder
                break
    return closed


def opened(stash: Path) -> list[str]:
    """Mounts by which others reach what is `closed_to_others`, and nothing else in those folders."""
    closed = closed_to_others()
    before, after = [], []
    for number, path in enumerate(sorted(closed)):
        aside = stash / str(number)
        before += [f"mkdir -p {aside}", f"mount --bind {path} {aside}"]
        after += [f"mkdir -p {path}", f"mount --bind {aside} {path}"]
    return [
        *before,
        *(f"mount -t tmpfs -o mode=755 none {folder}" for folder in set(closed.values())),
        *after,
    ]


def as_user(name: str, command: Sequence[str]) -> list[str]:
    entry = pwd.getpwnam(name)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", *command]
