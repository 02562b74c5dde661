"""`sitectl demo` as `make demo` runs it, with fewer customers: every check holds, and it ends by itself."""

from pathlib import Path

import pytest

from tests.labs import free_base, left_of, sitectl

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900), pytest.mark.long]

PAUSE = "longest pause that a client saw"  # no test depends on how busy the machine is


def checks(printed: str) -> dict[str, str]:
    """The table of the report: what -> whether it holds; a dash where it is only told."""
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if "│" in line
    ]
    return {what: check for what, _, check in rows}


def test_every_check_of_the_demo_holds_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = sitectl("demo", "--customers", "300", "--base-port", str(free_base()), folder=folder)
    assert done.stdout, done.stderr
    found = checks(done.stdout)
    assert PAUSE in found, done.stdout
    assert {
        what: check for what, check in found.items() if check not in ("holds", "-") and what != PAUSE
    } == {}
    assert sum(check == "holds" for check in found.values()) >= 9
    assert done.returncode == (0 if found[PAUSE] == "holds" else 1), done.stdout
    assert "every process of" in done.stdout
    assert left_of(folder) == []
    sitectl("lab", "down", "--purge", folder=folder)
