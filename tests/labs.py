"""Whole labs for tests, by `sitectl`, as an operator starts and ends them.

Their ports lie below those of other tests' servers; each worker of a parallel run has a stretch of its own.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from sitecontrol.cli import SITECTL
from sitecontrol.lab import ownership, ports, volumes
from sitecontrol.lab.control import read_lab
from sitecontrol.lab.errors import LabRefusedError
from sitecontrol.lab.installation import HOMES
from sitecontrol.lab.ports import SPAN
from tests import ports as ports_of_tests
from tests import schemas

FIRST_BASE = 17_100
LABS = 4  # side by side in one run of tests
WITHIN = 850.0  # seconds; the longest drill, on a machine that others have too


def free_base(*, above: int = 0) -> int:
    """Where the ports of a lab may begin, beyond those of one that begins at `above`. None free is a failure: a skipped
    drill looks like one that held.
    """
    first = FIRST_BASE + ports_of_tests.NUMBER * LABS * SPAN % (
        ports_of_tests.FIRST - FIRST_BASE - LABS * SPAN
    )
    return ports.free_base(max(first, above + SPAN), first + LABS * SPAN)


def environment(**more: str) -> dict[str, str]:
    """Ours without the project's variables; wide enough for any table."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HOTSITE_")}
    return {**clean, "COLUMNS": "200", **more}


def sitectl(
    *words: str, folder: Path, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [*SITECTL, *words, "--dir", str(folder)],
        capture_output=True,
        text=True,
        timeout=WITHIN,
        env=env or environment(),
        check=False,
    )
    if "--json" in words and done.stdout:
        schemas.check(words, json.loads(done.stdout))
    return done


def no_volumes() -> str:
    """Why a lab can have no volumes of its own here; empty: it can."""
    try:
        volumes.refuse_unless_possible()
    except LabRefusedError as error:
        return str(error)
    return ""


def left_of(folder: Path) -> list[psutil.Process]:
    """What still runs of the lab in a folder."""
    lab = read_lab(folder).lab
    return ownership.processes_of([lab.id], [lab.installation.data_dir(home) for home in HOMES])


@contextmanager
def running_lab(folder: Path, *words: str) -> Iterator[Path]:
    """A lab that is up, and of which nothing is left afterwards. Also one that did not come up is ended: it would take
    the machine away from every test after it.
    """
    try:
        done = sitectl("lab", "up", "--detach", "--base-port", str(free_base()), *words, folder=folder)
        assert done.returncode == 0, done.stderr
        yield folder
    finally:
        sitectl("lab", "down", folder=folder)
        left = left_of(folder)
        sitectl("lab", "down", "--purge", folder=folder)
        assert left == []
