"""docs/faults.md tells of every drill, and of nothing that is not there."""

import re
from pathlib import Path

from sitecontrol.drills.stories import DRILLS
from tests.drills.rehearsal import IDLE, OF_EACH_KIND

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text()
rows, _, after = PAGE.partition("## In the middle of a swap")
in_swap = after.partition("## Not drills")[0]


def test_every_drill_has_its_row_and_every_row_its_drill():
    assert set(re.findall(r"^\| `([\w-]+)` \|", rows, re.MULTILINE)) == set(DRILLS)


def test_every_test_that_the_page_names_is_there():
    named = re.findall(r"`((?:drills|integration|simulation|unit)/[\w./]*)`", PAGE)
    assert named
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []


def test_the_page_tells_of_each_drill_that_cannot_strike_in_a_swap_why():
    told = re.findall(r"^\| `([\w-]+)` \|", in_swap, re.MULTILINE)
    assert len(told) == len(set(told))
    assert set(told) == {name for name, known in DRILLS.items() if not known.in_swap}


def test_the_page_tells_which_drills_ci_runs_beside_no_traffic():
    told = re.search(r"at the end; so CI runs ([^)]*)\)", PAGE)
    assert told is not None
    assert tuple(re.findall(r"`([\w-]+)`", told[1])) == IDLE


def test_the_page_tells_which_drills_ci_runs_in_the_middle_of_a_swap():
    told = re.search(r"one of each kind \(([^)]*)\)", PAGE)
    assert told is not None
    assert set(re.findall(r"`([\w-]+)`", told[1])) == OF_EACH_KIND
