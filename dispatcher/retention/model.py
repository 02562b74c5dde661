"""What there is of partitions and periods, as the database tells it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dispatcher.store import DispatcherError

TABLES = (
    "message",
    "delivery",
    "event",
)  # in the order of leaving: without its message nobody asks for a delivery
ODD = "odd"  # the period of what no other takes


class RetentionError(DispatcherError):
    """A period cannot be retired now; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    in_table: str
    period: str
    since: datetime | None  # none: from the beginning
    until: datetime | None  # none: of the odd one
    attached: bool
    bytes: int
    rows_estimated: int  # of the odd one: counted, up to 10,001


@dataclass(frozen=True, kw_only=True)
class Retired:
    """A period that has left or is about to."""

    period: str
    since: datetime | None
    until: datetime
    noted_at: datetime
    site: str
    folder: str | None
    manifest: str | None
    dropped_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Period:
    """A partition of each table, those that are (still) there."""

    name: str
    since: datetime | None
    until: datetime
    tables: Mapping[str, Partition]

    @property
    def attached(self) -> bool:
        return all(partition.attached for partition in self.tables.values())

    @property
    def bytes(self) -> int:
        return sum(partition.bytes for partition in self.tables.values())


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A partition that is to be made."""

    in_table: str
    since: datetime
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Everything at one moment, by the leader's clock."""

    now: datetime
    partitions: Sequence[Partition]
    retired: Sequence[Retired]

    @property
    def periods(self) -> list[Period]:
        """Oldest first; without the odd one."""
        found: dict[str, dict[str, Partition]] = {}
        for partition in self.partitions:
            if partition.period != ODD:
                found.setdefault(partition.period, {})[partition.in_table] = partition
        made = []
        for name, tables in found.items():
            first = next(iter(tables.values()))
            if first.until is not None:
                made.append(Period(name=name, since=first.since, until=first.until, tables=tables))
        return sorted(made, key=lambda period: period.until)

    @property
    def odd_rows(self) -> int:
        return sum(partition.rows_estimated for partition in self.partitions if partition.period == ODD)


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round did, and what is wrong."""

    made: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    forgotten: int = 0  # references
    replies: int = 0  # deleted
    campaigns: int = 0  # deleted
    problems: tuple[str, ...] = ()
    waiting: tuple[str, ...] = field(default=())  # periods that are due and not done yet
