"""What `pg_controldata` says about a data directory, and where a clean shutdown ended.

The control file is the only thing that can be asked of a server that does not run. Two traps:

* its timeline is that of the last *checkpoint*; a server that was promoted and crashed before the next one
  shows the new timeline only as that of the minimum recovery end (`ControlData.timeline` takes both);
* "latest checkpoint location" is where the shutdown record *begins*. A standby holds everything only if it has
  flushed up to its *end*. `record_end` computes that from the record's length, as `pg_waldump` reads it from
  the WAL: records are laid over pages of `WAL block size` bytes, each with a header of 24 bytes (40 on the
  first page of a segment file), and positions are rounded up to 8 (PostgreSQL's access/xlog_internal.h).
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from replication import lsn
from replication.errors import NodeError

SHORT_PAGE_HEADER = 24
LONG_PAGE_HEADER = 40  # the first page of a segment file
ALIGNMENT = 8
SHUTDOWN_RECORD_MAX = 512  # bytes, with the headers of pages in between; about 120 in PostgreSQL 15 to 18


class ClusterState(StrEnum):
    """As the control file has it; of a server that runs or crashed it is the state it was last in."""

    STARTING_UP = "starting up"
    SHUT_DOWN = "shut down"  # cleanly, as a primary
    SHUT_DOWN_IN_RECOVERY = "shut down in recovery"  # cleanly, as a standby
    SHUTTING_DOWN = "shutting down"
    CRASH_RECOVERY = "in crash recovery"
    ARCHIVE_RECOVERY = "in archive recovery"  # runs, or died, as a standby
    IN_PRODUCTION = "in production"  # runs, or died, as a primary


@dataclass(frozen=True, kw_only=True)
class ControlData:
    system_id: str
    state: ClusterState
    checkpoint: int  # where the latest checkpoint record begins
    checkpoint_timeline: int
    redo: int
    min_recovery_end: int  # 0: none
    min_recovery_timeline: int  # 0: none
    segment_bytes: int
    block_bytes: int
    checksums: bool

    @property
    def timeline(self) -> int:
        """The newest timeline that this directory is known to have been on."""
        return max(self.checkpoint_timeline, self.min_recovery_timeline)

    @property
    def was_standby(self) -> bool:
        """Whether it last ran in recovery: then it must be promoted, never just started as a primary."""
        return self.state in {ClusterState.SHUT_DOWN_IN_RECOVERY, ClusterState.ARCHIVE_RECOVERY}


def parse(output: str) -> ControlData:
    """From the output of `pg_controldata` under LC_ALL=C. Raises NodeError when it is not whole."""
    if "WARNING" in output:  # the CRC does not fit, or the byte order
        raise NodeError(f"the control file is damaged: {output.partition('WARNING')[2][:200].strip(': ')}")
    fields = {
        name.strip(): value.strip() for name, _, value in (x.partition(":") for x in output.splitlines())
    }
    try:
        return ControlData(
            system_id=fields["Database system identifier"],
            state=ClusterState(fields["Database cluster state"]),
            checkpoint=lsn.parse(fields["Latest checkpoint location"]),
            checkpoint_timeline=int(fields["Latest checkpoint's TimeLineID"]),
            redo=lsn.parse(fields["Latest checkpoint's REDO location"]),
            min_recovery_end=lsn.parse(fields["Minimum recovery ending location"]),
            min_recovery_timeline=int(fields["Min recovery ending loc's timeline"]),
            segment_bytes=int(fields["Bytes per WAL segment"]),
            block_bytes=int(fields["WAL block size"]),
            checksums=fields["Data page checksum version"] != "0",
        )
    except (KeyError, ValueError) as error:
        raise NodeError(f"pg_controldata said something unexpected: {error}") from error


def shutdown_record_length(waldump: str) -> int:
    """The length of the one record in the output of `pg_waldump`, which must be that of a clean shutdown."""
    match = re.search(r"rmgr: XLOG\s+len \(rec/tot\):\s*\d+/\s*(\d+),.*CHECKPOINT_SHUTDOWN", waldump)
    if match is None:
        raise NodeError(f"the last checkpoint is not that of a clean shutdown: {waldump.strip()!r}")
    return int(match[1])


def segment_name(timeline: int, position: int, *, segment_bytes: int) -> str:
    """The file in pg_wal that holds `position`."""
    number, per_log = position // segment_bytes, (1 << 32) // segment_bytes
    return f"{timeline:08X}{number // per_log:08X}{number % per_log:08X}"


def record_end(begin: int, length: int, *, segment_bytes: int, block_bytes: int) -> int:
    """Where a record of `length` bytes that begins at `begin` ends: the position to be flushed up to."""
    end = begin
    while length > 0:
        if end % block_bytes == 0 and end != begin:
            end += LONG_PAGE_HEADER if end % segment_bytes == 0 else SHORT_PAGE_HEADER
        on_this_page = min(length, block_bytes - end % block_bytes)
        end += on_this_page
        length -= on_this_page
    return -(-end // ALIGNMENT) * ALIGNMENT
