"""A lab whose record is damaged or gone: found by what runs of it, ended, forgotten and made anew."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Exit
from sitecontrol.lab import ownership, render, startup
from sitecontrol.lab.errors import LabRefusedError
from sitecontrol.lab.remains import Remains
from tests.drills.test_configs import plan_in
from tests.labs import free_base

SLEEPER = "import sys, time; print('on', flush=True); time.sleep(600)"


@pytest.fixture(params=["damaged", "cut off", "gone"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A lab's folder with data in it, and a record that tells nothing."""
    plan = plan_in(tmp_path / "lab")
    render.write_all(plan, {})
    (plan.lab.installation.data_dir("columbus")).mkdir(parents=True)
    record = plan.directory.identity_file
    match request.param:
        case "damaged":
            record.write_text('{"id": 1}')
        case "cut off":
            record.write_bytes(record.read_bytes()[:40])
        case _:
            record.unlink()
    return tmp_path / "lab"


@contextmanager
def running(*words: str, mark: str) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", SLEEPER, *words]
    with subprocess.Popen(
        command, env={**os.environ, ownership.MARK: mark}, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has its own command line now
        try:
            yield process
        finally:
            process.kill()


def lab(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(sitectl, ["lab", *words, "--dir", str(folder)])


def test_fresh_forgets_it_when_nothing_of_it_runs(folder: Path) -> None:
    startup.remove(folder)
    assert not folder.exists()


def test_fresh_is_refused_while_something_of_it_runs_and_down_ends_that(folder: Path) -> None:
    mark = uuid.uuid4().hex
    with (
        running(f"--data-dir={folder / 'etcd' / 'columbus'}", mark=mark) as child,
        running(mark=mark) as grandchild,  # what the lab's processes start bears the mark, too
        running("--config", f"{folder}2/configs/columbus.toml", mark=uuid.uuid4().hex) as neighbour,
    ):
        with pytest.raises(LabRefusedError, match=r"2 processes of the lab .* `sitectl lab down"):
            startup.remove(folder)
        assert folder.exists()
        ended = lab(folder, "down", "--purge")
        assert ended.exit_code == Exit.DONE, ended.output
        assert "2 processes were left over" in ended.output
        assert child.wait(10)
        assert grandchild.wait(10)
        assert neighbour.poll() is None
    assert not folder.exists()


def test_a_lab_in_a_folder_below_is_another_lab(folder: Path) -> None:
    inner = plan_in(folder / "inner")
    render.write_all(inner, {})
    mark = uuid.uuid4().hex
    with running("--config", str(inner.directory.root / "configs" / "columbus.toml"), mark=mark):
        assert ownership.marks_in(folder) == ()
        assert ownership.marks_in(inner.directory.root) == (mark,)


def test_up_without_fresh_and_every_look_at_a_damaged_lab_say_what_to_do(tmp_path: Path) -> None:
    plan = plan_in(tmp_path / "lab")
    render.write_all(plan, {})
    plan.directory.identity_file.write_text("{")
    for words in (["up"], ["status"], ["logs", "wan"], ["fault", "wan-cut"], ["heal"]):
        told = lab(plan.directory.root, *words)
        assert told.exit_code == Exit.UNREACHABLE, (words, told.output)
        assert "lab.json is damaged" in told.stderr
        assert "sitectl lab up --fresh" in told.stderr


def test_a_whole_record_is_believed(tmp_path: Path) -> None:
    plan = plan_in(tmp_path / "lab")
    render.write_all(plan, {})
    found = Remains.of(plan.directory)
    assert found.marks == (plan.lab.id,)
    assert found.postgres_roots == (plan.lab.installation.postgres_root,)


def test_down_in_a_folder_without_a_lab_says_so(tmp_path: Path) -> None:
    told = lab(tmp_path, "down")
    assert told.exit_code == Exit.UNREACHABLE
    assert "no lab in" in told.stderr


def test_what_outlives_the_supervisor_is_to_be_ended_before_another_start(tmp_path: Path) -> None:
    plan = plan_in(tmp_path / "lab", base_port=free_base())
    render.write_all(plan, {})
    with running(mark=plan.lab.id):
        told = lab(plan.directory.root, "status")
        assert told.exit_code == Exit.UNREACHABLE
        assert "its processes run on: `sitectl lab down --dir" in told.stderr
    told = lab(plan.directory.root, "status")
    assert "does not run: `sitectl lab up` starts it" in told.stderr
