"""A lab for each module that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labs import running_lab

pytest.register_assert_rewrite("tests.drills.rehearsal")

# A second in which other programs have the machine must not move production by itself: with the lab's own profile it
# may. How fast things go is measured elsewhere, with that profile.
FOR_A_BUSY_MACHINE = """
[lab]
[failover]
profile = "cross-country"
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("lab") / "lab"
    settings = folder.with_name("lab.toml")
    settings.write_text(FOR_A_BUSY_MACHINE)
    with running_lab(folder, "--config", str(settings)):
        yield folder
