"""Until when a key opens, as an operator says it."""

from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from dispatcher.__main__ import main
from dispatcher.keys import expiry

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90d", NOW + timedelta(days=90)),
        ("12h", NOW + timedelta(hours=12)),
        ("2027-01-31T18:00:00Z", datetime(2027, 1, 31, 18, tzinfo=UTC)),
        ("2027-01-31T18:00:00-05:00", datetime(2027, 1, 31, 23, tzinfo=UTC)),
    ],
)
def test_days_hours_and_times_with_an_offset_are_understood(text: str, moment: datetime) -> None:
    assert expiry(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "90", "d", "0d", "-1d", "1.5d", "90 d", "tomorrow", "2027-01-31", "2027-01-31T18:00:00"]
)
def test_anything_else_is_refused_with_what_would_do_and_a_time_without_offset_too(text: str) -> None:
    with pytest.raises(ValueError, match="for example: 90d, 12h, 2027-01-31T18:00:00Z"):
        expiry(text, NOW)


@pytest.mark.parametrize("text", ["2020-01-01T00:00:00Z", NOW.isoformat()])
def test_a_time_that_is_past_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is past"):
        expiry(text, NOW)


def test_the_command_refuses_it_as_a_usage_error() -> None:
    words = ["account", "add", "--account", "a", "--program", "p", "--source", "1", "--expires", "soon"]
    told = CliRunner().invoke(main, words)
    assert told.exit_code == 2
    assert "--expires" in told.stderr
    assert "for example: 90d" in told.stderr
    for command in (["account", "list"], ["account", "revoke", "17"]):
        told = CliRunner().invoke(main, command)
        assert told.exit_code == 2
        assert "--config is missing" in told.stderr
