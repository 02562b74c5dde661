"""A whole lab: it comes up, the drills that come first hold on it, and nothing of it is left afterwards.

The rest of the fault matrix is in `test_matrix`.

Everything goes through `sitectl`, as an operator would do it.
"""

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from sitecontrol.lab.control import read_lab
from sitecontrol.lab.installation import postgres_roots
from sitecontrol.lab.ports import SITES
from tests.drills.rehearsal import EVERYWHERE, everything_holds
from tests.labs import left_of, sitectl

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]
FIRST = {"swap", "site-loss"}  # the others run where CI does


def test_the_status_names_every_process_and_the_account(lab: Path) -> None:
    status = json.loads(sitectl("lab", "status", "--json", folder=lab).stdout)
    assert set(status["sites"]) == {"columbus", "denver", "witness"}
    for site in SITES:
        told = status["sites"][site]
        pids = [
            told["agent"]["pid"],
            told["healthcheck"]["pid"],
            told["postgres"]["pid"],
            told["etcd"]["pid"],
        ]
        pids += [dispatcher["pid"] for dispatcher in told["dispatchers"]]
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert status["accounts"][0]["key"].startswith("hs_")
    assert status["durability"] == "two-site"
    assert status["term"] >= 1


def test_a_second_start_in_the_same_folder_is_refused_in_one_line(lab: Path) -> None:
    done = sitectl("lab", "up", "--detach", folder=lab)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "lab down" in done.stderr


def test_another_lab_on_the_same_ports_is_refused_and_told_the_cure(lab: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    done = sitectl("lab", "up", "--detach", "--base-port", str(read_lab(lab).ports.base), folder=other)
    assert done.returncode == 3
    assert "--base-port" in done.stderr
    assert not any(root.exists() for root in postgres_roots(other))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FIRST else pytest.mark.long) for name in EVERYWHERE]
)
def test_everything_holds_in_the_drill(name: str, lab: Path, tmp_path: Path) -> None:
    everything_holds(name, lab, tmp_path)


def test_a_lab_whose_supervisor_was_killed_is_ended_all_the_same(lab: Path) -> None:
    status = json.loads(sitectl("lab", "status", "--json", folder=lab).stdout)
    os.kill(status["supervisor"]["pid"], signal.SIGKILL)
    assert left_of(lab)
    again = sitectl("lab", "up", "--detach", folder=lab)
    assert again.returncode == 3
    assert "lab down" in again.stderr
    assert sitectl("lab", "down", folder=lab).returncode == 0
    assert left_of(lab) == []
