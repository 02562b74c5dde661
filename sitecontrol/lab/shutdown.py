"""Ending a lab so that nothing of it runs any more, also when its supervisor is gone; and nothing else ends."""

import contextlib
import os
import signal

import psutil

from sitecontrol.lab import volumes
from sitecontrol.lab.layout import LabDir
from sitecontrol.lab.pidfiles import read_pid
from sitecontrol.lab.remains import Remains

SUPERVISOR_WITHIN = 20.0  # seconds for its own orderly end
STRAGGLERS_WITHIN = 3.0


def bring_down(lab_dir: LabDir) -> int:
    """End the lab. Returns how many processes had to be ended beside the supervisor's own work."""
    pid = read_pid(lab_dir.supervisor_pidfile)
    remains = Remains.of(lab_dir)  # while what bears the mark still runs
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(
            psutil.TimeoutExpired, psutil.NoSuchProcess
        ):  # what it left is ended below, itself included
            psutil.Process(pid).wait(SUPERVISOR_WITHIN)
    ended = remains.end(within=STRAGGLERS_WITHIN)
    volumes.unmount(remains.homes)
    for file in (lab_dir.root / "run").glob("*.json"):
        file.unlink(missing_ok=True)
    return ended
