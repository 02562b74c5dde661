"""The data directory seen from outside: who owns it, whether it is whole, and which one it is.

Everything is kept beside the data directory, never in it: `pg_basebackup` and `pg_rewind` copy what they find
there, and a clone would bring the identity of its source.

* **One owner.** A lock on `<data>.lock`. It ends with the process that holds it, and nothing inherits it.
* **Whole or unusable.** A marker, flushed to disk, brackets `pg_rewind`; one that is found means: clone anew.
  `initdb` and `pg_basebackup` work in a temporary directory that is renamed when it is complete.
* **Incarnation.** A random identity for as long as the contents are the continuation of themselves. Made anew
  by initdb, clone and rewind; and when the directory is found to be another than the one it was made for: other
  inodes (a swapped or restored volume), another system identifier, or an older position than it once had (a
  snapshot put back). A snapshot of the volume that holds both the data and this record cannot be told apart if
  nothing was remembered elsewhere; whoever relies on it compares positions as well.
"""

import ctypes
import fcntl
import glob
import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from replication.control import ControlData
from replication.errors import DataDirectoryInUse

UNFINISHED = ".tmp"  # ends the name of a file that is still being written


@dataclass(frozen=True, kw_only=True)
class Incarnation:
    """Who a data directory is, and what it was made sure by."""

    id: str
    directory_inode: int
    version_inode: int  # of PG_VERSION, which is written once
    system_id: str
    position: int  # the latest checkpoint that was seen; it never goes back

    def is_of(self, inodes: tuple[int, int], control: ControlData) -> bool:
        return (
            (self.directory_inode, self.version_inode) == inodes
            and self.system_id == control.system_id
            and self.position <= control.checkpoint
        )


class DataDirectory:
    """A data directory at `path`, with its records in `beside` (a folder of ours)."""

    def __init__(self, path: Path, beside: Path) -> None:
        self.path = path
        self._marker = beside / "unusable"
        self._record = beside / "incarnation.json"
        self._lock: int | None = None

    # -- one owner

    def lock(self) -> None:
        """Own the directory until `unlock` or the end of this process. Raises DataDirectoryInUse."""
        if self._lock is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._sibling("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise DataDirectoryInUse(f"{self.path} is used by another agent: stop that one first") from None
        self._lock = handle

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- whole or unusable

    def exists(self) -> bool:
        """Whether there is anything in it."""
        try:
            return any(self.path.iterdir())
        except FileNotFoundError:
            return False

    def whole(self) -> bool:
        """Whether there is a data directory that nothing was cut off in the middle of."""
        return not self._marker.exists() and (self.path / "global" / "pg_control").exists()

    def is_copy(self) -> bool:
        """Whether it was copied from another server, or made for a standby, and not promoted since."""
        return any((self.path / name).exists() for name in ("backup_label", "standby.signal"))

    def mark_unusable(self, why: str) -> None:
        """From now on, until `unmark`, only a clone helps. Returns when that is on disk."""
        write_durably(self._marker, why + "\n")

    def unmark(self) -> None:
        self._marker.unlink(missing_ok=True)
        sync_folder(self._marker.parent)

    def new_sibling(self) -> Path:
        """Where to build a new data directory."""
        return self._sibling(f"new-{secrets.token_hex(4)}")

    def clear_leftovers(self) -> None:
        """Remove what earlier attempts left behind. It may take a while: run it in a thread."""
        for suffix in ("new", "old"):
            for leftover in self.path.parent.glob(f"{self.path.name}.{suffix}-*"):
                shutil.rmtree(leftover, ignore_errors=True)  # one that is still being removed is no error

    def free_bytes(self) -> int:
        """How much room there is beside it for a new one."""
        return shutil.disk_usage(self.path.parent).free

    def replace_by(self, sibling: Path) -> Path | None:
        """Put `sibling`, complete and on disk, in the place of the data directory; return where the old one is."""
        old = None
        if self.path.exists():
            old = self._sibling(f"old-{secrets.token_hex(4)}")
            self.path.rename(old)
        sibling.rename(self.path)
        sync_folder(self.path.parent)
        return old

    def remove(self) -> None:
        """Remove what was never part of anything. The caller has made sure of that."""
        shutil.rmtree(self.path)

    # -- incarnation

    def incarnation(self, control: ControlData) -> str:
        """The identity of the directory as it is now, made anew if it is not the one it was."""
        known = self._recall()
        if known is None or not known.is_of(self._inodes(), control):
            return self.new_incarnation(control)
        if known.position < control.checkpoint:
            self._remember(replace(known, position=control.checkpoint))
        return known.id

    def new_incarnation(self, control: ControlData) -> str:
        directory, version = self._inodes()
        made = Incarnation(
            id=secrets.token_hex(8),
            directory_inode=directory,
            version_inode=version,
            system_id=control.system_id,
            position=control.checkpoint,
        )
        self._remember(made)
        return made.id

    def _recall(self) -> Incarnation | None:
        try:
            return Incarnation(**json.loads(self._record.read_text()))
        except (OSError, ValueError, TypeError):
            return None  # none, or damaged: a new one is the safe answer

    def _remember(self, incarnation: Incarnation) -> None:
        write_durably(self._record, json.dumps(asdict(incarnation)))

    def _inodes(self) -> tuple[int, int]:
        return self.path.stat().st_ino, (self.path / "PG_VERSION").stat().st_ino

    def _sibling(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")


def write(path: Path, text: str, *, owner: tuple[int, int] | None = None, sync: bool = False) -> None:
    """Replace a file's contents, all or nothing. Mode 600. A loss of power may undo it, or, without `sync`, leave the
    file empty.
    """
    _replace(path, text, owner=owner, sync=sync)


def write_durably(path: Path, text: str) -> None:
    """The same, and return when they are on disk."""
    _replace(path, text, owner=None, sync=True)
    sync_folder(path.parent)


def clear_unfinished(folder: Path, names: str) -> None:
    """Remove what writes of such files (a pattern) left behind that were cut off."""
    for suffix in (f".*{UNFINISHED}", UNFINISHED):  # the latter: an earlier version's
        for leftover in folder.glob(names + suffix):
            leftover.unlink(missing_ok=True)


def _replace(path: Path, text: str, *, owner: tuple[int, int] | None, sync: bool) -> None:
    clear_unfinished(path.parent, glob.escape(path.name))
    # Whose folder it is may put anything under a name that he knows beforehand.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}{UNFINISHED}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            if sync:
                os.fsync(handle)
            if owner is not None and os.geteuid() == 0:
                os.fchown(handle, *owner)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_file_system(folder: Path) -> None:
    """Make everything written to the file system of `folder` durable, and raise OSError if that failed.

    One call for a new data directory: its thousand files one by one take up to a hundred times as long.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make renames and new files in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
