"""A lab's wall clock is off by what a file says; a site's that is no lab's never is."""

from datetime import UTC, datetime

import pytest

from sitecontrol import lab_clock
from sitecontrol.clock import SystemClock
from sitecontrol.lab_clock import WALL_OFFSET, LabClock, clock_of
from sitecontrol.settings import load
from tests.drills.test_configs import CONFIGS, plan_in, rendered

NEAR = 5.0  # seconds


@pytest.fixture(autouse=True)
def looked_at_each_time(monkeypatch):
    monkeypatch.setattr(lab_clock, "LOOK_EVERY", 0.0)


def off(clock: SystemClock) -> float:
    return (clock.wall() - datetime.now(UTC)).total_seconds()


def test_it_is_off_by_what_the_file_says_for_as_long_as_it_is_there(tmp_path):
    file = tmp_path / "offset"
    clock = LabClock(file)
    assert abs(off(clock)) < NEAR
    for seconds in (3_600, -3_600):
        file.write_text(f"{seconds}\n")
        assert abs(off(clock) - seconds) < NEAR
    file.unlink()
    assert abs(off(clock)) < NEAR


@pytest.mark.parametrize("text", ["", "an hour", "nan", "inf", "-1e300"])
def test_what_is_no_offset_is_none(text, tmp_path):
    file = tmp_path / "offset"
    file.write_text(text)
    assert abs(off(LabClock(file))) < NEAR


def test_the_clock_that_leases_are_reckoned_by_is_never_off(tmp_path):
    file = tmp_path / "offset"
    before = SystemClock().now()
    file.write_text("3600")
    assert abs(LabClock(file).now() - before) < NEAR


def test_only_a_lab_has_it(tmp_path):
    for place, settings in rendered(plan := plan_in(tmp_path / "lab")).items():
        clock = clock_of(settings)
        [file, *_] = plan.wall_offsets(place)
        file.write_text("3600")
        assert abs(off(clock) - 3_600) < NEAR
    production = load(CONFIGS / "columbus.toml")
    elsewhere = production.model_copy(
        update={"site": production.site.model_copy(update={"state_dir": tmp_path})}
    )
    (tmp_path / WALL_OFFSET).write_text("3600")
    assert abs(off(clock_of(elsewhere))) < NEAR
