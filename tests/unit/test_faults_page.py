"""docs/faults.md tells of every drill, and of nothing that is not there."""

import re
from pathlib import Path

from sitecontrol.drills.stories import DRILLS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text()


def test_every_drill_has_its_row_and_every_row_its_drill():
    assert re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE) != []
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)) == set(DRILLS)


def test_every_test_that_the_page_names_is_there():
    named = re.findall(r"`((?:integration|simulation)/[\w./]*)`", PAGE)
    assert named
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []
