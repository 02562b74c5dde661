"""What is done about partitions, and what is told of them, follows from a picture of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from dispatcher.retention.decide import problems, to_make, to_retire
from dispatcher.retention.model import TABLES, Partition, Picture
from sitecontrol.settings_retention import RetentionSettings

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
TODAY = datetime(2026, 11, 27, tzinfo=UTC)
WEEKLY = RetentionSettings()


def partition(table: str, since: datetime | None, until: datetime | None, **changed: Any) -> Partition:
    period = "odd" if until is None else "first" if since is None else f"{since:%Y%m%d}"
    return Partition(
        **{
            "in_table": table,
            "period": period,
            "since": since,
            "until": until,
            "attached": True,
            "bytes": 8_192,
            "rows_estimated": 0,
            **changed,
        }
    )


def picture(*bounds: tuple[int | None, int], odd_rows: int = 0, **changed: Any) -> Picture:
    """Periods by their bounds in days from today, and the odd partitions."""
    return Picture(
        now=NOW,
        partitions=[
            partition(
                table,
                None if since is None else TODAY + timedelta(days=since),
                TODAY + timedelta(days=until),
                **changed,
            )
            for since, until in bounds
            for table in TABLES
        ]
        + [partition("message", None, None, rows_estimated=odd_rows)],
        retired=[],
    )


def test_partitions_are_made_until_the_last_one_ends_far_enough_ahead_a_table_after_the_other() -> None:
    made = to_make(picture((None, 2), (2, 9)), WEEKLY)
    assert [wanted.in_table for wanted in made[:3]] == list(TABLES)
    assert [(one.since - TODAY).days for one in made if one.in_table == "message"] == [9, 16, 23]
    assert max(one.until for one in made) >= NOW + timedelta(days=WEEKLY.ahead_days)


def test_a_table_that_a_round_did_not_reach_gets_the_partition_that_the_others_have() -> None:
    seen = picture((None, 2), (2, 40))
    without = [one for one in seen.partitions if (one.in_table, one.period) != ("event", "20261129")]
    [wanted] = to_make(Picture(now=NOW, partitions=without, retired=[]), WEEKLY)
    assert (wanted.in_table, (wanted.since - TODAY).days, (wanted.until - TODAY).days) == ("event", 2, 40)


def test_a_clock_that_runs_a_year_ahead_makes_a_few_partitions_and_no_more() -> None:
    seen = picture((None, 2))
    ahead = Picture(now=NOW + timedelta(days=365), partitions=seen.partitions, retired=[])
    assert len({one.since for one in to_make(ahead, WEEKLY)}) <= 8


def test_a_period_is_due_when_all_of_it_is_older_than_what_is_kept() -> None:
    days = WEEKLY.messages_days
    seen = picture((None, -days - 7), (-days - 7, -days), (-days, -days + 7), (0, 30))
    assert [(period.until - TODAY).days for period in to_retire(seen, WEEKLY)] == [-days - 7, -days]


def test_a_period_that_was_detached_is_gone_on_with_whatever_is_kept() -> None:
    assert [period.name for period in to_retire(picture((-7, 0), attached=False), WEEKLY)] == ["20261120"]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (picture((None, 2), (2, 9)), "Partitions end at 2026-12-06"),
        (picture((None, 40), odd_rows=3), "3 rows lie outside of every period"),
        (picture((None, 40), odd_rows=10_001), "more than 10000 rows lie outside"),
        (picture(), "No partitions are there"),
        (picture(*((day, day + 1) for day in range(-90, 40))), "130 periods are kept"),
    ],
)
def test_what_is_wrong_is_told(seen: Picture, said: str) -> None:
    assert [one for one in problems(seen, WEEKLY) if said in one]


def test_a_healthy_store_has_no_problems() -> None:
    assert problems(picture((None, 2), (2, 40)), WEEKLY) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"references_days": 30}, "a repeat would be sent a second time"),
        ({"campaigns_days": 30}, "a report would be gone while its messages are still there"),
        ({"replies_days": 29}, "greater than or equal to 30"),
        ({"messages_days": 3}, "greater than or equal to 4"),
        ({"partition_days": 1, "messages_days": 365}, "use 4 or more"),
        ({"ahead_days": 10}, "use 14 or more"),
        ({"archive": False, "folder": "/var/archive"}, "is of use only with archive = true"),
        ({"archive": False, "command": ["/bin/keep"]}, "is of use only with archive = true"),
        ({"command": ["keep"]}, "by its whole path"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_one_that_does(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RetentionSettings.model_validate(given)
