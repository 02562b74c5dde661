"""`make setup` where Python cannot make a virtual environment: a cure is told, and nothing half-made is left.

`make clean` while labs run: they are ended first, or nothing is removed.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
echo "$@" >> {folder}/calls
case "$*" in
  *"import ensurepip"*) exit {ensurepip} ;;
  "-m venv "*) mkdir -p "$3/bin"; printf '#!/bin/sh\\nexit 1\\n' > "$3/bin/python"; chmod +x "$3/bin/python"; exit 1 ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def setup(folder: Path, *, ensurepip: int) -> "subprocess.CompletedProcess[str]":
    """`make setup` in a folder with our Makefile, by a Python that lacks ensurepip, or fails while it makes .venv."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "clients/python/pyproject.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)
    python = folder / "python"
    python.write_text(PYTHON.format(folder=folder, ensurepip=ensurepip))
    python.chmod(0o755)
    command = ["make", "--no-print-directory", f"PYTHON={python}", "setup"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)


def test_without_ensurepip_the_package_is_named_and_no_environment_is_left(tmp_path: Path) -> None:
    done = setup(tmp_path, ensurepip=1)
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()
    assert "venv" not in (tmp_path / "calls").read_text()


def test_an_environment_that_was_not_finished_is_removed(tmp_path: Path) -> None:
    for _ in range(2):  # the second time as the first: nothing stands in the way
        done = setup(tmp_path, ensurepip=0)
        assert done.returncode != 0
        assert ".venv could not be made" in done.stderr
        assert "No module named pip" not in done.stderr
        assert not (tmp_path / ".venv").exists()


def test_an_environment_without_pip_is_made_anew(tmp_path: Path) -> None:
    leftover = tmp_path / ".venv" / "bin" / "python"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("#!/bin/sh\nexit 1\n")
    leftover.chmod(0o755)
    setup(tmp_path, ensurepip=0)
    assert "-m venv .venv" in (tmp_path / "calls").read_text()
    assert not leftover.exists()


SITECTL = """#!/bin/sh
echo "$@" >> {folder}/calls
exit {code}
"""
MADE = (".venv", ".lab", ".lab-demo", ".hypothesis", ".mypy_cache")


def clean(folder: Path, *, sitectl: int | None) -> "subprocess.CompletedProcess[str]":
    """`make clean` in a folder with both labs, by a sitectl that exits so, or by none."""
    shutil.copy(PROJECT / "Makefile", folder)
    for name in MADE:
        (folder / name).mkdir(exist_ok=True)
    for lab in (".lab", ".lab-demo"):
        (folder / lab / ".hotsite-lab").touch()
    if sitectl is not None:
        program = folder / ".venv" / "bin" / "sitectl"
        program.parent.mkdir()
        program.write_text(SITECTL.format(folder=folder, code=sitectl))
        program.chmod(0o755)
    command = ["make", "--no-print-directory", "clean"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} & set(MADE)


def test_clean_ends_both_labs_and_then_removes_all_that_was_made(tmp_path: Path) -> None:
    assert clean(tmp_path, sitectl=0).returncode == 0
    ended = [f"lab down --purge --dir {lab}" for lab in (".lab", ".lab-demo")]
    assert (tmp_path / "calls").read_text().splitlines() == ended
    assert left(tmp_path) == set()


def test_clean_removes_nothing_when_a_lab_cannot_be_ended(tmp_path: Path) -> None:
    done = clean(tmp_path, sitectl=5)
    assert done.returncode != 0
    assert "the lab in .lab could not be ended" in done.stderr
    assert left(tmp_path) == set(MADE)


def test_clean_without_sitectl_removes_labs_that_were_ended_and_refuses_one_that_may_run(
    tmp_path: Path,
) -> None:
    ended, running = tmp_path / "ended", tmp_path / "running"
    ended.mkdir()
    (running / ".lab" / "run").mkdir(parents=True)
    (running / ".lab" / "run" / "supervisor.json").write_text("{}")
    assert clean(ended, sitectl=None).returncode == 0
    assert left(ended) == set()
    done = clean(running, sitectl=None)
    assert done.returncode != 0
    assert "`make setup` first" in done.stderr
    assert left(running) == set(MADE)
