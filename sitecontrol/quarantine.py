"""The files in which a node sets aside what it alone holds, before its history is thrown away.

`<state_dir>/quarantine/<UTC time>-<node>.jsonl`, mode 600: a header, then one JSON document a line. A row has `table`
and `row`; a message that could be sent again has `account` and `request`, ready for `POST /v1/messages`, or `withheld`:
why it must not be. Which tables there are is not known here (see `dispatcher.set_aside`).

A file is whole or not there. One that an operator has dealt with lies in `settled/`, and raises no alarm any more. A
file may tell that nothing could be set aside, and why (`error`): that is an alarm, too.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from replication.directory import sync_folder

SUFFIX = ".jsonl"
SETTLED = "settled"
BY = ".by"  # beside a settled file: who settled it


class Header(BaseModel):
    """What was set aside: on which node, since when its history is its own, and how much of it there is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: AwareDatetime
    node: str
    site: str
    system_id: str
    incarnation: str  # of the data directory, which is another one once it was rewound or cloned
    term: int | None  # the leader's, by its own row
    leader: str
    timeline: int
    leader_timeline: int | None
    fork_lsn: str | None  # where this node's history left the leader's
    end_lsn: str | None  # where it ended
    counts: dict[str, int]  # rows by table
    compared: bool  # whether the leader was asked which of them it has; else some may be there, too
    complete: bool  # whether nothing had to be left out for its size
    error: str | None  # why nothing, or not everything, could be set aside

    def is_about(self, other: "Header") -> bool:
        """Whether both tell of the same end of the same history."""
        mine, theirs = ((h.incarnation, h.timeline, h.fork_lsn) for h in (self, other))
        return mine == theirs

    @property
    def rows(self) -> int:
        return sum(self.counts.values())


class NotReadable(Exception):
    """This is no whole file of set-aside rows."""


@dataclass(frozen=True, kw_only=True)
class SetAside:
    path: Path
    header: Header
    settled: bool
    settled_by: str | None = None

    @property
    def name(self) -> str:
        return self.path.name

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each line after the header. Raises NotReadable."""
        with self.path.open(encoding="utf-8") as lines:
            next(lines, None)
            for line in lines:
                try:
                    yield dict(json.loads(line))
                except (ValueError, TypeError) as error:
                    raise NotReadable(f"{self.path} is damaged: {error}") from error


def folder_in(state_dir: Path) -> Path:
    return state_dir / "quarantine"


def write(folder: Path, header: Header, body: Path | None = None) -> Path:
    """Keep it, whole and on disk when this returns. `body`: the lines after the header."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _free_name(folder, f"{header.at:%Y-%m-%dT%H-%M-%SZ}-{header.node}")
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(header.model_dump_json().encode() + b"\n")
        if body is not None:
            with body.open("rb") as lines:
                shutil.copyfileobj(lines, file)
        file.flush()
        os.fsync(handle)
    temporary.rename(path)
    sync_folder(folder)
    sync_folder(folder.parent)
    return path


def _free_name(folder: Path, stem: str) -> Path:
    """Two within a second get a number."""
    taken = {path.name for path in (*folder.glob("*"), *(folder / SETTLED).glob("*"))}
    names = (f"{stem}{f'-{n}' if n else ''}{SUFFIX}" for n in range(len(taken) + 1))
    return folder / next(name for name in names if name not in taken)


def found(folder: Path) -> list[SetAside]:
    """Every file of the folder that can be read, oldest first; those that are settled, too."""
    files = []
    for path in (*folder.glob(f"*{SUFFIX}"), *(folder / SETTLED).glob(f"*{SUFFIX}")):
        try:
            files.append(read(path))
        except NotReadable:
            continue
    return sorted(files, key=lambda file: (file.header.at, file.name))


def read(path: Path) -> SetAside:
    """The file at `path`, of which only the header is read. Raises NotReadable."""
    try:
        with path.open(encoding="utf-8") as lines:
            header = Header.model_validate_json(next(lines, ""))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise NotReadable(f"{path} is no file of set-aside rows: {error}") from error
    settled = path.parent.name == SETTLED
    return SetAside(path=path, header=header, settled=settled, settled_by=_who(path) if settled else None)


def _who(path: Path) -> str | None:
    try:
        return path.with_suffix(BY).read_text(encoding="utf-8")[:100] or None
    except (OSError, UnicodeDecodeError):
        return None


def settled_path(file: SetAside) -> Path:
    """Where it lies once it is settled."""
    return file.path if file.settled else file.path.parent / SETTLED / file.name


def settle(file: SetAside, by: str) -> SetAside:
    """An operator has dealt with it: it is kept, and raises no alarm any more."""
    if file.settled:
        return file
    kept = settled_path(file)
    folder = kept.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    kept.with_suffix(BY).write_text(by, encoding="utf-8")
    path = file.path.rename(kept)
    sync_folder(folder)
    sync_folder(folder.parent)
    return read(path)
