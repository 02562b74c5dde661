"""A lab or demo that is refused has changed nothing: no earlier lab is gone, and no new folder is left behind."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Exit
from sitecontrol.lab import render, startup
from sitecontrol.lab.errors import LabRefusedError
from tests.drills.test_configs import plan_in
from tests.labs import free_base


@pytest.fixture
def base() -> Iterator[int]:
    """The first of a hundred ports, one of them in use."""
    base = free_base()
    with socket.create_server(("127.0.0.1", base + 30)):
        yield base


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """What an earlier lab left, its logs among it."""
    plan = plan_in(tmp_path / "lab")
    render.write_all(plan, {})
    plan.directory.log("supervisor").write_text("what had happened\n")
    return tmp_path / "lab"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("words", [["demo"], ["lab", "up", "--fresh", "--detach"]])
def test_a_port_in_use_costs_nothing_of_the_lab_before(earlier: Path, base: int, words: list[str]) -> None:
    before = contents(earlier)
    told = CliRunner().invoke(sitectl, [*words, "--base-port", str(base), "--dir", str(earlier)])
    assert told.exit_code == Exit.REFUSED, told.output
    assert f"port {base + 30} (the WAN emulator) is in use" in told.stderr
    assert contents(earlier) == before


@pytest.mark.parametrize("words", [["demo"], ["lab", "up", "--detach"]])
def test_a_port_in_use_leaves_no_new_folder(tmp_path: Path, base: int, words: list[str]) -> None:
    folder = tmp_path / "new" / "lab"
    told = CliRunner().invoke(sitectl, [*words, "--base-port", str(base), "--dir", str(folder)])
    assert told.exit_code == Exit.REFUSED, told.output
    assert list(tmp_path.iterdir()) == []


def test_data_that_have_no_place_leave_no_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(_folder: Path) -> None:
        raise LabRefusedError("it belongs to somebody else")

    monkeypatch.setattr(startup, "install", nowhere)
    with pytest.raises(LabRefusedError):
        startup.prepare(tmp_path / "lab", {"base_port": free_base()}, {})
    assert list(tmp_path.iterdir()) == []
