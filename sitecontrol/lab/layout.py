"""Where everything of a lab lies, below its folder.

```
.hotsite-lab          empty: this folder is a lab's, even one that never came up
lab.json              what the lab was made as: options, installation, identity
accounts.json         the lab's account and its key (mode 600)
configs/<place>.toml  each place's settings, wan.json the emulator's
secrets/              passwords and tokens, a file each (mode 600)
state/<place>/        what the place's agent keeps
etcd/<place>/         the members' data
postgres/<site>/      data and socket, or elsewhere (see `installation`)
volumes/<node>        images of the volumes, with --volume-mb
carriers/<name>.jsonl what a simulator received
logs/<process>.log    standard output and error of each process
run/                  pid files, the lock of the running supervisor
```
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sitecontrol.lab.errors import LabRefusedError
from sitecontrol.lab.ports import SITES


@dataclass(frozen=True)
class LabDir:
    root: Path

    @classmethod
    def at(cls, path: Path) -> Self:
        return cls(path.absolute())

    @property
    def identity_file(self) -> Path:
        return self.root / "lab.json"

    @property
    def accounts_file(self) -> Path:
        return self.root / "accounts.json"

    @property
    def key_file(self) -> Path:
        """The key of the lab's account, and nothing else."""
        return self.secrets / "account-key"

    @property
    def wan_config(self) -> Path:
        return self.root / "configs" / "wan.json"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def token_file(self) -> Path:
        """The token of the supervisor's and the WAN emulator's control."""
        return self.secrets / "lab-token"

    @property
    def supervisor_pidfile(self) -> Path:
        return self.pidfile("supervisor")

    def config(self, place: str) -> Path:
        return self.root / "configs" / f"{place}.toml"

    def state(self, place: str) -> Path:
        return self.root / "state" / place

    def etcd(self, place: str) -> Path:
        return self.root / "etcd" / place

    @property
    def etcd_filled(self) -> Path:
        """There as long as etcd's store may be full because a fault filled it."""
        return self.root / "etcd" / "filled"

    def volume(self, node: str) -> Path:
        return self.root / "volumes" / node

    def carrier_log(self, name: str) -> Path:
        return self.root / "carriers" / f"{name}.jsonl"

    def log(self, process: str) -> Path:
        return self.root / "logs" / f"{process}.log"

    def pidfile(self, process: str) -> Path:
        return self.root / "run" / f"{process}.json"

    @property
    def exists(self) -> bool:
        return self.identity_file.exists()

    @property
    def is_ours(self) -> bool:
        """Whether a lab was ever made here, so that everything below may be written or removed."""
        return (self.root / ".hotsite-lab").exists()

    def refuse_foreign(self) -> None:
        """A folder that holds something else is no place for a lab."""
        if self.root.exists() and not self.root.is_dir():
            raise LabRefusedError(f"{self.root} is no folder: choose another --dir")
        if self.root.exists() and not self.is_ours and any(self.root.iterdir()):
            raise LabRefusedError(f"{self.root} is not empty and not a lab: choose another --dir")

    def create(self) -> None:
        """Make the folders. Refuses a folder that holds something else."""
        self.refuse_foreign()
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / ".hotsite-lab").touch()
        for folder in ("configs", "state", "etcd", "volumes", "carriers", "logs", "run"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        self.secrets.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Held for as long as the supervisor runs; the kernel lets go when it dies."""
        descriptor = os.open(self.root / "run" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise LabRefusedError(f"the lab in {self.root} is running: `sitectl lab down` ends it") from error
        try:
            yield
        finally:
            os.close(descriptor)

    @property
    def is_running(self) -> bool:
        if not (self.root / "run" / "lock").exists():
            return False
        try:
            with self.running():
                return False
        except LabRefusedError:
            return True


def settings_for_operator(lab: Path) -> Path:
    """The settings by which `sitectl` reaches a lab: its preferred site's."""
    return LabDir.at(lab).config(SITES[0])
