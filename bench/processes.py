"""CPU time by kind of process: what a message costs, whatever else the machine is doing.

A rate says little on a busy machine; CPU seconds are the same, but for caches. A server's backends come and go,
so what a process that ended has used is taken from its parent's account of waited-for children.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import psutil

Json = dict[str, Any]


def usage(kinds: Mapping[int, str]) -> dict[str, float]:
    """CPU seconds since each process began, by kind. `kinds`: the roots of process trees, by pid."""
    processes = {process.pid: process for process in psutil.process_iter()}
    parents = {pid: _parent(process) for pid, process in processes.items()}
    total: defaultdict[str, float] = defaultdict(float)
    for pid, process in processes.items():
        above: int | None = pid
        while above is not None and above not in kinds:
            above = parents.get(above)
        if above is not None:
            total[kinds[above]] += _used(process)
    return dict(total)


def kinds_of(status: Json) -> dict[int, str]:
    """The processes of a lab, as `sitectl lab status --json` tells them."""
    kinds = {process["pid"]: process["kind"] for process in status["processes"] if process["pid"]}
    for place in status["sites"].values():
        if postgres := place.get("postgres"):
            kinds[postgres["pid"]] = "PostgreSQL, live site" if place["live"] else "PostgreSQL, hot site"
    return kinds


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid() or None
    except psutil.NoSuchProcess:
        return None


def _used(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # it ended while we looked: from now on its parent answers for it
        return 0.0
    return times.user + times.system + times.children_user + times.children_system
