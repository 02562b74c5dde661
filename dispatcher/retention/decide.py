"""What is to be done about partitions next, and what is wrong with them. Pure."""

from datetime import datetime, timedelta

from dispatcher.retention.model import TABLES, Period, Picture, Wanted
from sitecontrol.settings_retention import RetentionSettings

AT_ONCE = 8  # periods that one round makes


def to_make(picture: Picture, settings: RetentionSettings) -> list[Wanted]:
    """In the order of making. The bounds are those of `message`, so that the three tables of a period agree."""
    bounds: list[tuple[datetime, datetime]] = []
    have: dict[str, set[datetime]] = {table: set() for table in TABLES}
    for partition in picture.partitions:
        if partition.until is not None:
            have[partition.in_table].add(partition.until)
            if partition.in_table == "message" and partition.since is not None:
                bounds.append((partition.since, partition.until))
    if not have["message"]:
        return []
    newest = max(have["message"])
    for _ in range(AT_ONCE):
        if newest >= picture.now + timedelta(days=settings.ahead_days):
            break
        bounds.append((newest, newest + timedelta(days=settings.partition_days)))
        newest = bounds[-1][1]
    return [
        Wanted(in_table=table, since=since, until=until)
        for since, until in sorted(bounds)
        for table in TABLES
        if until not in have[table] and until > picture.now
    ]


def to_retire(picture: Picture, settings: RetentionSettings) -> list[Period]:
    """Periods that are over for `messages_days`, and those that a round has begun to take out; oldest first."""
    oldest_kept = picture.now - timedelta(days=settings.messages_days)
    return [period for period in picture.periods if period.until <= oldest_kept or not period.attached]


def problems(picture: Picture, settings: RetentionSettings) -> list[str]:
    """In sentences, for people."""
    found = []
    newest = max((period.until for period in picture.periods), default=None)
    if newest is None:
        found.append("No partitions are there: `python -m dispatcher migrate` makes them.")
    elif newest < picture.now + timedelta(days=settings.ahead_days) / 2:
        found.append(
            f"Partitions end at {newest:%Y-%m-%d}, less than half of ahead_days = {settings.ahead_days} from now:"
            " no new ones could be made."
        )
    if picture.odd_rows:
        more = "more than " if picture.odd_rows > 10_000 else ""
        found.append(
            f"{more}{min(picture.odd_rows, 10_000)} rows lie outside of every period, in the odd partitions:"
            " a clock was wrong, or partitions were not made in time. They are not archived, and never dropped."
        )
    if len(picture.periods) > settings.MOST_PARTITIONS:
        found.append(
            f"{len(picture.periods)} periods are kept: each call to the database takes the longer."
            " Raise partition_days in [retention], or lower messages_days."
        )
    return found


def forget_before(picture: Picture, settings: RetentionSettings) -> datetime:
    """References of messages of before then are forgotten, once their messages are gone."""
    return picture.now - timedelta(days=settings.references_days)


def forget_replies_before(picture: Picture, settings: RetentionSettings) -> datetime:
    """Customers' replies that were stored before then are deleted."""
    return picture.now - timedelta(days=settings.replies_days)


def forget_campaigns_before(picture: Picture, settings: RetentionSettings) -> datetime:
    """Campaigns that ended before then, or were made before then and never started, are deleted."""
    return picture.now - timedelta(days=settings.campaigns_days)
