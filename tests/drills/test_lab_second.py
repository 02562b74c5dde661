"""The drills that `test_lab` leaves to a lab of their own."""

from pathlib import Path

import pytest

from sitecontrol.drills.stories import DRILLS
from tests.drills.rehearsal import everything_holds

pytestmark = [pytest.mark.drill, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", list(DRILLS)[1::2])
def test_everything_holds_in_the_drill(name: str, lab: Path, tmp_path: Path) -> None:
    everything_holds(name, lab, tmp_path)
