"""What a lab needs from the machine: the programs, the user that runs PostgreSQL, a place for its data.

- etcd and PostgreSQL come from the system when present, else from the wheels of the `lab` extra.
- PostgreSQL refuses to run as root. A lab started by root gives it to an ordinary user (`postgres`, else
  `nobody`), who must be able to reach its data: when the lab's folder is not open to that user (below a home
  of mode 0700, say), or its path is too long for a socket, the data live in /var/tmp/hotsite-<hash>.
  A PostgreSQL that comes from a wheel which that user cannot read is copied to the same place.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from replication.binaries import Binaries
from replication.binaries import find as find_postgres
from replication.errors import ToolsMissing
from sitecontrol.etcd.binaries import EtcdBinary, EtcdMissing, find_etcd
from sitecontrol.lab.errors import LabRefusedError
from sitecontrol.lab.ports import SITES

HOMES = (*SITES, *(f"{site}-b" for site in SITES))  # of the nodes that a lab may have
SOCKET_DIR_MAX = 90  # bytes; the kernel takes 107 with the socket's own name


class Installation(BaseModel):
    """What was found and decided when the lab was started; recorded with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    etcd: Path
    etcd_from_wheel: bool
    postgres_bin: Path
    run_as: str | None  # the user of PostgreSQL, when the lab runs as root
    postgres_root: Path  # holds a folder for each node

    def postgres_home(self, key: str) -> Path:
        """Of a node, by its key (`plan.LabNode`)."""
        return self.postgres_root / key

    def data_dir(self, key: str) -> Path:
        return self.postgres_home(key) / "data"


def look(lab_dir: Path) -> Installation:
    """What `install` will find, as far as it can be told before there is a folder. Changes nothing."""
    etcd, postgres, user = _find()
    return Installation(
        etcd=etcd.path,
        etcd_from_wheel=etcd.lab_only,
        postgres_bin=postgres.folder,
        run_as=user,
        postgres_root=_postgres_root(lab_dir, user),
    )


def install(lab_dir: Path) -> Installation:
    """Decide and prepare everything of the above for a lab in `lab_dir`, which exists."""
    etcd, postgres, user = _find()
    root = _postgres_root(lab_dir, user)
    _prepare(root, user)
    bin_dir = postgres.folder
    if user is not None and not postgres.usable_by(user):
        bin_dir = _copy_postgres(bin_dir, root)
    return Installation(
        etcd=etcd.path, etcd_from_wheel=etcd.lab_only, postgres_bin=bin_dir, run_as=user, postgres_root=root
    )


def _find() -> tuple[EtcdBinary, Binaries, str | None]:
    try:
        etcd = find_etcd()
        postgres = find_postgres()
    except (EtcdMissing, ToolsMissing) as error:
        raise LabRefusedError(str(error)) from error
    return etcd, postgres, _postgres_user() if os.geteuid() == 0 else None


def _postgres_user() -> str:
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise LabRefusedError(
        "PostgreSQL cannot run as root, and there is neither a user postgres nor nobody: add one"
    )


def postgres_roots(lab_dir: Path) -> tuple[Path, Path]:
    """Where the data of a lab in `lab_dir` may lie: inside, and elsewhere."""
    digest = hashlib.sha256(os.fsencode(lab_dir)).hexdigest()[:12]
    return lab_dir / "postgres", Path("/var/tmp") / f"hotsite-{digest}"  # noqa: S108 # ours is checked by _prepare


def _postgres_root(lab_dir: Path, user: str | None) -> Path:
    inside, elsewhere = postgres_roots(lab_dir)
    longest = max(len(os.fsencode(inside / key / "socket")) for key in HOMES)
    reachable = user is None or _succeeds(user, ["test", "-x", str(lab_dir)])
    if reachable and longest <= SOCKET_DIR_MAX:
        return inside
    return elsewhere


def _prepare(root: Path, user: str | None) -> None:
    """Make the root, refusing one that somebody else put there, and each node's folder."""
    root.mkdir(mode=0o755, exist_ok=True)
    root.chmod(0o755)
    if root.is_symlink() or root.stat().st_uid != os.geteuid():
        raise LabRefusedError(f"{root} belongs to somebody else: remove it, or choose another --dir")
    for key in HOMES:
        home = root / key
        home.mkdir(mode=0o700, exist_ok=True)
        if user is not None:
            shutil.chown(home, user)


def _copy_postgres(bin_dir: Path, root: Path) -> Path:
    target = root / "pginstall"
    if not target.exists():
        shutil.copytree(bin_dir.parent, target, symlinks=True)
        for path in [target, *target.rglob("*")]:
            if not path.is_symlink():
                path.chmod(
                    path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444)
                )
    return target / "bin"


def _succeeds(user: str, command: list[str]) -> bool:
    try:
        done = subprocess.run(
            command,
            user=user,
            group=pwd.getpwnam(user).pw_gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=False,
        )
    except PermissionError:
        return False
    return done.returncode == 0
