"""Volumes of a lab: refused with the cure where they cannot be had, and what needs them is told of."""

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

from sitecontrol.cli.root import sitectl
from sitecontrol.drills import cli
from sitecontrol.drills.run import Order
from sitecontrol.drills.stories import DRILLS
from sitecontrol.lab import faults, startup, volumes
from sitecontrol.lab.control import LabControl
from sitecontrol.lab.errors import LabRefusedError
from sitecontrol.lab.plan import LabOptions
from tests.drills.test_configs import plan_in
from tests.labs import no_volumes


@pytest.mark.skipif(bool(no_volumes()), reason=no_volumes() or "can be had")
def test_a_volume_is_full_to_the_last_block_until_there_is_room_again_and_keeps_what_is_on_it(tmp_path):
    home, image = tmp_path / "home", tmp_path / "image"
    home.mkdir()
    volumes.mount(home, image, megabytes=16, user=None)
    try:
        volumes.fill(home)
        with pytest.raises(OSError, match="No space left"):
            (home / "more").write_bytes(b"more")
        volumes.make_room(home)
        (home / "more").write_bytes(b"more")
        volumes.unmount([home])
        assert list(home.iterdir()) == []
        volumes.mount(home, image, megabytes=16, user=None)
        volumes.mount(home, image, megabytes=16, user=None)
        assert (home / "more").read_bytes() == b"more"
    finally:
        volumes.unmount([home])
    assert not volumes.is_one(home)


def orders(*names: str) -> list[Order]:
    return [Order(drill=DRILLS[name], site=None, rate=1, seed=1) for name in names]


def test_an_ordinary_user_is_refused_volumes_with_the_cure_before_anything_is_made(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabRefusedError, match=r"need root.*without --volume-mb") as refused:
        startup.prepare(tmp_path / "lab", {"volume_mb": 2048}, {})
    assert refused.value.exit_code == 3
    assert not (tmp_path / "lab").exists()


def test_a_volume_that_a_node_would_fill_by_itself_is_refused():
    told = CliRunner().invoke(sitectl, ["lab", "up", "--volume-mb", "100"])
    assert told.exit_code == 2
    assert str(volumes.SMALLEST) in told.stderr


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LabRefusedError, match=r"mkfs\.ext4.*apt install"):
        volumes.refuse_unless_possible()


def test_a_drill_that_needs_volumes_is_refused_on_a_lab_without_and_left_out_of_all(capsys):
    wanted = orders("swap", "disk-full")
    with pytest.raises(LabRefusedError, match=r"disk-full: only for labs.*--volume-mb 2048"):
        cli._refuse_unfit(LabOptions(), wanted)
    assert cli._without_those_that_need_volumes(LabOptions(), wanted) == wanted[:1]
    assert "left out: disk-full" in capsys.readouterr().err
    with_volumes = LabOptions(volume_mb=2048)
    assert cli._without_those_that_need_volumes(with_volumes, wanted) == wanted
    cli._refuse_unfit(with_volumes, wanted)


async def test_the_fault_is_refused_where_a_node_has_no_volume_and_fills_nothing(tmp_path):
    plan = plan_in(tmp_path / "lab")
    home = plan.lab.installation.postgres_home("columbus")
    home.mkdir(parents=True)
    control: Any = SimpleNamespace(plan=plan)
    with pytest.raises(LabRefusedError, match="--volume-mb 2048"):
        await faults.FAULTS["disk-full"].strike(cast("LabControl", control), "columbus")
    assert list(home.iterdir()) == []


def test_a_lab_does_not_change_between_volumes_and_none(tmp_path, monkeypatch):
    plan = plan_in(tmp_path / "lab")
    plan.directory.identity_file.write_text(plan.lab.model_dump_json())
    monkeypatch.setattr(startup, "refuse_if_running", lambda _: None)
    with pytest.raises(LabRefusedError, match=r"made without --volume-mb.*--fresh"):
        startup.prepare(tmp_path / "lab", {"volume_mb": 2048}, {})
