"""The demo's outage list: made by the script in configs/demo, read here, one text a customer."""

import csv
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from sitecontrol.drills.ledger import Text
from sitecontrol.lab.child import PROJECT
from sitecontrol.lab.errors import LabError, LabRefusedError

SCRIPT = PROJECT / "configs" / "demo" / "make_outages.py"


def make_outages(file: Path, *, customers: int, seed: int) -> None:
    if not SCRIPT.exists():
        raise LabRefusedError(f"{SCRIPT} is missing: the demo runs from a checkout of the repository")
    made = subprocess.run(
        [sys.executable, SCRIPT, "--customers", str(customers), "--seed", str(seed), "--output", file],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    if made.returncode != 0:
        raise LabError(f"{SCRIPT.name}: {made.stderr.strip().splitlines()[-1]}")


def read_outages(file: Path) -> list[Text]:
    """A text of at most 160 characters for each customer. The account number makes each of them unique."""
    with file.open(newline="") as lines:
        return [_text(row) for row in csv.DictReader(lines)]


def _text(row: dict[str, str]) -> Text:
    by = datetime.fromisoformat(row["restored_by"]).strftime("%H:%M")
    first_name = row["name"].split()[0]
    body = (
        f"{first_name}, your power at {row['premises']} is out ({row['cause']}, circuit {row['circuit']}). "
        f"We expect it back by {by}. Account {row['account']}"
    )
    return Text(reference=f"outage-{row['account']}", to=row["phone"], body=body[:160])
