"""One drill on a lab, as an operator would run it, and everything that must hold afterwards."""

import json
from pathlib import Path

from tests.labs import sitectl

PAUSE = "pause-within-limit"  # drills and benches measure it; no test depends on how busy the machine is


def everything_holds(name: str, lab: Path, reports: Path) -> None:
    done = sitectl(
        "drill", "run", name, "--rate", "60", "--quick", "--json", "--report", str(reports), folder=lab
    )
    assert done.stdout, done.stderr
    outcome = json.loads(done.stdout)
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
