"""The demo's outage list: made by the script in configs/demo, read here, one text a customer."""

import csv
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from sitecontrol.drills.ledger import Text
from sitecontrol.lab.child import PROJECT
from sitecontrol.lab.errors import LabError, LabRefusedError

SCRIPT = PROJECT / "configs" / "demo" / "make_outages.py"
COLUMNS = ("account", "name", "phone", "premises", "circuit", "cause", "restored_by")
ONE_SEGMENT = 160  # characters of the GSM alphabet


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
        said = made.stderr.strip().splitlines() or [f"exit status {made.returncode}"]
        raise LabError(f"{SCRIPT.name}: {said[-1]}")


def read_outages(file: Path) -> list[Text]:
    """A text of one segment for each customer. The account number makes each of them unique.

    Raises LabError with the line of the first row that is not as it must be: the demo counts every customer.
    """
    texts: dict[str, Text] = {}
    with file.open(newline="") as lines:
        rows = csv.DictReader(lines)
        for row in rows:
            try:
                text = _text(row)
            except ValueError as error:
                raise LabError(f"{file}, line {rows.line_num}: {error}") from error
            if text.reference in texts:
                raise LabError(f"{file}, line {rows.line_num}: account {row['account']} is there twice")
            texts[text.reference] = text
    if not texts:
        raise LabError(f"{file}: there is no customer in it")
    return list(texts.values())


def _text(row: Mapping[str | None, str | None]) -> Text:
    """Raises ValueError with what is wrong."""
    given = {column: (row.get(column) or "").strip() for column in COLUMNS}
    for column, value in given.items():
        if not value:
            raise ValueError(f"{column} is missing")
    if None in row:
        raise ValueError("there are more columns than the header names")
    try:
        by = datetime.fromisoformat(given["restored_by"]).strftime("%H:%M")
    except ValueError as error:
        raise ValueError(
            f"restored_by is no time, as in 2026-03-14T18:30: {given['restored_by']!r}"
        ) from error
    body = (
        f"{given['name'].split()[0]}, your power at {given['premises']} is out ({given['cause']}, "
        f"circuit {given['circuit']}). We expect it back by {by}. Account {given['account']}"
    )
    if len(body) > ONE_SEGMENT:
        raise ValueError(f"the text has {len(body)} characters, one segment has {ONE_SEGMENT}")
    return Text(reference=f"outage-{given['account']}", to=given["phone"], body=body)
