"""Who is who: a pid together with the moment when the process started, so that a reused pid fools nobody."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

_STATE, _START_TIME = 0, 19  # in /proc/<pid>/stat, counted from the field after the command's name


class PidRecord(BaseModel):
    model_config = ConfigDict(frozen=True)

    pid: int
    started: int  # clock ticks after boot
    boot: str


@dataclass(frozen=True, kw_only=True)
class Birth:
    started: int
    zombie: bool


def birth(pid: int) -> Birth | None:
    """When a process started, or None when there is none of that pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    return Birth(started=int(fields[_START_TIME]), zombie=fields[_STATE] == b"Z")


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def write_pid(file: Path, pid: int) -> None:
    """Record a process that runs now. Written beside and renamed, so that a reader never sees half of it."""
    born = birth(pid)
    record = PidRecord(pid=pid, started=born.started if born else -1, boot=boot_id())
    fresh = file.with_suffix(".new")
    fresh.write_text(record.model_dump_json())
    fresh.replace(file)


def read_pid(file: Path) -> int | None:
    """The recorded pid if that same process is still alive, else None."""
    try:
        record = PidRecord.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    born = birth(record.pid)
    same = (
        born is not None and born.started == record.started and not born.zombie and record.boot == boot_id()
    )
    return record.pid if same else None
