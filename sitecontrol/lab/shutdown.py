"""Ending a lab so that nothing of it runs any more, also when its supervisor is gone; and nothing else ends."""

import contextlib
import os
import signal

import psutil

from sitecontrol.lab import ownership
from sitecontrol.lab.pidfiles import read_pid
from sitecontrol.lab.plan import Plan
from sitecontrol.lab.ports import SITES

SUPERVISOR_WITHIN = 20.0  # seconds for its own orderly end
STRAGGLERS_WITHIN = 3.0


def bring_down(plan: Plan) -> int:
    """End the lab. Returns how many processes had to be ended beside the supervisor's own work."""
    pid = read_pid(plan.directory.supervisor_pidfile)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(
            psutil.TimeoutExpired, psutil.NoSuchProcess
        ):  # what it left is ended below, itself included
            psutil.Process(pid).wait(SUPERVISOR_WITHIN)
    data_dirs = [plan.lab.installation.data_dir(site) for site in SITES]
    ended = ownership.end(plan.lab.id, data_dirs, within=STRAGGLERS_WITHIN)
    for file in (plan.directory.root / "run").glob("*.json"):
        file.unlink(missing_ok=True)
    return ended
