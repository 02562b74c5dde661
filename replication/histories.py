"""The histories of a data directory and of a running server, as their own files tell them.

Whoever is about to follow a server, or to be rewound to it, compares the two (`timelines.contradicted`): PostgreSQL
compares only the numbers of timelines, and streams from another one of the same number into what it takes for its own.

What reads or writes files here is called in a thread: a disk may be slow just when a node is promoted.
"""

import asyncio
import secrets
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from replication import timelines
from replication.directory import clear_unfinished, write
from replication.errors import NeedsClone, NodeError
from replication.session import Session, Target
from replication.timelines import Stretch

# In recovery it tells the timeline that is in the control file: it may be on a later one.
SAYS = """
    select s.system_identifier,
           pg_is_in_recovery() as in_recovery,
           case when pg_is_in_recovery() then greatest(c.timeline_id, r.min_recovery_end_timeline)
                else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int
           end as timeline
    from pg_control_system() s, pg_control_checkpoint() c, pg_control_recovery() r
"""


@dataclass(frozen=True, kw_only=True)
class Says:
    """What a running server tells of its history."""

    system_id: str
    in_recovery: bool  # it may begin another timeline, or receive one
    timeline: int  # of the history: it knows this one, and in recovery perhaps later ones
    history: tuple[Stretch, ...]


async def ask(source: Target, *, timeout: float) -> Says:
    """Raises SessionLost (it is not reached), and what `Session.read` raises."""
    async with aclosing(await Session.connect(source, timeout=timeout)) as session:
        [row] = await session.read(SAYS, timeout=timeout)
        timeline, text = int(row["timeline"]), ""
        if timeline > 1:
            file = timelines.HISTORY_OF.format(timeline=timeline)
            rows = await session.read("select pg_read_binary_file($1) as history", file, timeout=timeout)
            text = bytes(rows[0]["history"]).decode()
    return Says(
        system_id=str(row["system_identifier"] % 2**64),
        in_recovery=row["in_recovery"],
        timeline=timeline,
        history=timelines.parse(text, timeline),
    )


def own(data_dir: Path, timeline: int) -> tuple[Stretch, ...]:
    """How `timeline` came about, by the file in this data directory."""
    file = data_dir / timelines.HISTORY_OF.format(timeline=timeline)
    return timelines.parse(file.read_text() if file.exists() else "", timeline)


def all_own(data_dir: Path) -> frozenset[Stretch]:
    """All that any file of a history in this data directory tells, of later timelines than its own, too, and of those
    that were left. Raises NeedsClone when one of them is damaged.
    """
    found: set[Stretch] = set()
    for number, file in _files(data_dir).items():
        try:
            found.update(timelines.parse(file.read_text(), number))
        except FileNotFoundError:
            continue  # PostgreSQL took it away meanwhile
        except (NodeError, UnicodeDecodeError) as error:
            raise NeedsClone(f"{file.name} cannot be read, so nobody can be followed: {error}") from error
    return frozenset(found)


async def name_next(data_dir: Path, node: str, *, at_least: int, owner: tuple[int, int] | None) -> str:
    """Give the timeline that `node` is about to begin a name; returns it.

    Which one it will be begun from is known to PostgreSQL alone: `at_least` the one in its control file, or any later
    one of which there is a file already. A loss of power leaves each file as it was, or as it shall be.
    """
    promotion = f"{node}, promotion {secrets.token_hex(8)}"
    await asyncio.to_thread(_name_next, data_dir, promotion, at_least, owner)
    return promotion


def _name_next(data_dir: Path, promotion: str, at_least: int, owner: tuple[int, int] | None) -> None:
    clear_unfinished(data_dir / "pg_wal", "*.history")
    files = {number: file for number, file in _files(data_dir).items() if number >= at_least}
    if at_least == 1:
        files[1] = data_dir / timelines.HISTORY_OF.format(timeline=1)
    for file in files.values():
        text = timelines.naming_next(file.read_text() if file.exists() else "", promotion)
        write(file, text, owner=owner, sync=True)


def _files(data_dir: Path) -> dict[int, Path]:
    """None where all WAL is lost: PostgreSQL does not start there, and pg_rewind refuses; that leads to a clone."""
    folder = data_dir / "pg_wal"
    files = folder.iterdir() if folder.is_dir() else ()
    found = ((timelines.FILE_NAME.fullmatch(file.name), file) for file in files)
    return {int(name[1], 16): file for name, file in found if name is not None}
