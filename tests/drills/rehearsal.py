"""One drill on a lab, as an operator would run it, and everything that must hold afterwards."""

import json
from pathlib import Path
from typing import Any

from sitecontrol.drills.stories import DRILLS
from tests.labs import sitectl

EVERYWHERE = (
    "swap",
    "site-loss",
    "standby-loss",
    "postgres-crash",
    "dispatcher-crash",
    "carrier-loss",
    "wan-cut",
    "live-isolated",
    "etcd-quorum-loss",
)
FULL = ("disk-full", "etcd-full")  # on a lab with volumes and a store that are soon full
REST = [name for name in DRILLS if name not in (*EVERYWHERE, *FULL)]
# In the middle of a swap: a process, a node, a site, a line, etcd, what hangs, and what takes longer than a swap may.
OF_EACH_KIND = {
    "site-loss",
    "site-hang",
    "standby-loss",
    "postgres-crash",
    "dispatcher-crash",
    "agent-crash",
    "wan-cut",
    "live-isolated",
    "etcd-quorum-loss",
    "cancelled-commit",
}
IN_SWAP = [name for name, drill in DRILLS.items() if drill.in_swap and name not in FULL]
# Beside no traffic: one of each kind. A swap, a loss, a cut that has to be fenced, etcd lost under a leader that nobody
# writes to but its own canary.
IDLE = ("swap", "site-loss", "live-isolated", "etcd-quorum-loss")
PATIENT = ("--patience", "4")  # other programs may have the machine
PAUSE = "pause-within-limit"  # drills and benches measure it; no test depends on how busy the machine is


def everything_holds(name: str, lab: Path, reports: Path, *more: str) -> dict[str, Any]:
    """What was measured."""
    done = sitectl(
        "drill",
        "run",
        name,
        "--rate",
        "60",
        "--quick",
        *PATIENT,
        *more,
        "--json",
        "--report",
        str(reports),
        folder=lab,
    )
    assert done.stdout, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    assert [note for note in outcome["notes"] if not note.startswith(PAUSE)] == []
    assert all(held for invariant, held in outcome["held"].items() if invariant != PAUSE)
    assert outcome["accepted"] > 0
    assert outcome["unanswered"] == outcome["not_final"] == 0
    assert outcome["quick"] is True
    assert outcome["series"]["runs"] == 1
    assert done.returncode == (0 if outcome["held"].get(PAUSE, True) else 1)
    [page] = reports.glob("*.html")
    assert "<svg" in page.read_text()
    assert "http://" not in page.read_text()
    return outcome
