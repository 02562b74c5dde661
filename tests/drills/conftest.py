"""A lab for each module that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labs import free_base, left_of, sitectl


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("lab") / "lab"
    done = sitectl("lab", "up", "--detach", "--base-port", str(free_base()), folder=folder)
    assert done.returncode == 0, done.stderr
    yield folder
    sitectl("lab", "down", folder=folder)
    assert left_of(folder) == []
    sitectl("lab", "down", "--purge", folder=folder)
