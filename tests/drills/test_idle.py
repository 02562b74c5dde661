"""A drill beside no traffic: nothing is measured of a pause, and all else is held against it."""

import pytest
from click.testing import CliRunner
from rich.console import Console

from sitecontrol.cli.root import sitectl
from sitecontrol.drills.checks import check
from sitecontrol.drills.measure import Gap
from sitecontrol.drills.report import outcome_table, summary_table, write_html
from sitecontrol.drills.series import series_of
from tests.drills.test_measure import evidence
from tests.drills.test_report import outcome

PAUSE = "pause-within-limit"
LONG = Gap(client="columbus", start=0, end=60)


def test_idle_no_pause_is_held_against_a_drill_and_everything_else_is():
    held, notes = check(evidence(idle=True, pause=None))
    assert PAUSE not in held
    assert notes == []
    for wrong, name in (({"lost": ["a"]}, "acked-survives"), ({"two_site_again": False}, "converges")):
        held, _ = check(evidence(idle=True, pause=None, **wrong))
        assert held[name] is False
    assert check(evidence(idle=False, pause=LONG))[0][PAUSE] is False


@pytest.mark.parametrize(
    ("pauses", "median", "measured"), [((None, None), None, False), ((None, 2.0, 4.0), 3.0, True)]
)
def test_a_series_takes_the_pauses_of_the_runs_that_were_not_idle(pauses, median, measured):
    runs = [outcome(pause) for pause in pauses]
    (series,) = series_of(runs)
    assert (series.runs, series.pause_median_s, PAUSE in series.held) == (len(runs), median, measured)


def test_of_an_idle_run_every_report_says_that_no_pause_was_measured(tmp_path):
    idle, console = outcome(None, rate=0.0), Console(record=True, width=200)
    console.print(outcome_table(idle), summary_table([idle, idle]))
    assert console.export_text().count("not measured") == 4
    assert "nobody sent anything" in write_html(idle, tmp_path).read_text()


def test_a_rate_below_nothing_is_refused():
    told = CliRunner().invoke(sitectl, ["drill", "run", "swap", "--rate", "-1"])
    assert told.exit_code == 2
