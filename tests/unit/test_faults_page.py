"""docs/faults.md tells of every drill, and of nothing that is not there."""

import re
from pathlib import Path

from sitecontrol.drills.stories import DRILLS
from tests.drills.rehearsal import IDLE, IN_SWAP

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text()


def test_every_drill_has_its_row_and_every_row_its_drill():
    assert re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE) != []
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)) == set(DRILLS)


def test_every_test_that_the_page_names_is_there():
    named = re.findall(r"`((?:drills|integration|simulation|unit)/[\w./]*)`", PAGE)
    assert named
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []


def test_the_page_tells_which_drills_can_strike_in_a_swap_and_which_of_them_ci_runs():
    told = dict(re.findall(r"^\| `--in-swap ([\w-]+)` \| (yes|no) \|", PAGE, re.MULTILINE))
    able = [name for name, known in DRILLS.items() if known.in_swap]
    assert told == {name: "yes" if name in IN_SWAP else "no" for name in able}
    assert set(IN_SWAP) <= set(able)


def test_the_page_tells_which_drills_ci_runs_beside_no_traffic():
    told = re.search(r"at the end; so CI runs ([^)]*)\)", PAGE)
    assert told is not None
    assert tuple(re.findall(r"`([\w-]+)`", told[1])) == IDLE
