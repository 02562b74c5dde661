"""The rows of the fault matrix in which something is full: on a lab whose volumes and whose etcd are soon full."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sitecontrol.drills.stories import DRILLS
from sitecontrol.lab import volumes
from sitecontrol.lab.control import read_lab
from tests.drills.conftest import FOR_A_BUSY_MACHINE
from tests.drills.rehearsal import FULL, everything_holds
from tests.labs import no_volumes, running_lab, sitectl

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900), pytest.mark.long]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("lab") / "lab"
    sizes = "" if no_volumes() else "\nvolume_mb = 2048"
    settings = folder.with_name("lab.toml")
    settings.write_text(FOR_A_BUSY_MACHINE.replace("[lab]", f"[lab]\netcd_quota_mb = 16{sizes}"))
    with running_lab(folder, "--config", str(settings)):
        plan = read_lab(folder)
        homes = [plan.lab.installation.postgres_home(node.key) for node in plan.all_nodes]
        yield folder
        sitectl("lab", "down", folder=folder)
        assert not any(volumes.is_one(home) for home in homes)


@pytest.mark.parametrize(("name", "more"), [*((name, ()) for name in FULL), ("disk-full", ("--in-swap",))])
def test_everything_holds_in_the_drill(
    name: str, more: tuple[str, ...], narrow: Path, tmp_path: Path
) -> None:
    if DRILLS[name].needs_volumes and (reason := no_volumes()):
        pytest.skip(reason)
    everything_holds(name, narrow, tmp_path, *more)
