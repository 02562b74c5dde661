"""How the files beside and in a data directory are written: whole or not at all, and off the event loop."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from replication import directory, histories
from replication.directory import write, write_durably


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    for text in ("first", "second"):
        write_durably(tmp_path / "a", text)
        assert (tmp_path / "a").read_text() == text
    assert names(tmp_path) == ["a"]


def test_a_write_that_fails_leaves_the_file_as_it_was_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError("no space left on device")

    write(tmp_path / "a", "first")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path / "a", "second", sync=True)
    assert (tmp_path / "a").read_text() == "first"
    assert names(tmp_path) == ["a"]


def test_what_a_write_left_that_was_cut_off_goes_with_the_next_one_and_nothing_else_does(
    tmp_path: Path,
) -> None:
    others = ["a.conf", "a.tmp.b", "b.0123.tmp", "xa.0123.tmp"]
    for name in ("a.0123456789abcdef.tmp", "a.tmp", *others):
        (tmp_path / name).touch()
    write(tmp_path / "a", "whole")
    assert names(tmp_path) == sorted(["a", *others])


def test_nobody_knows_beforehand_under_which_name_a_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    really_open = os.open

    def watched(path: Any, *how: Any) -> int:
        opened.append(Path(path).name)
        return really_open(path, *how)

    monkeypatch.setattr(directory.os, "open", watched)
    for _ in range(20):
        write(tmp_path / "a", "text")
    assert len(set(opened)) == 20
    assert all(len(name) == len("a.0123456789abcdef.tmp") for name in opened)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "pg_wal").mkdir()
    (tmp_path / "pg_wal" / "00000002.history").write_text("1\t0/3000148\tno recovery target specified\n")
    return tmp_path


async def test_a_promotion_is_named_off_the_event_loop_and_clears_what_an_earlier_try_left(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, at_work = threading.current_thread(), []
    really_read = Path.read_text

    def watched(path: Path, *how: Any, **options: Any) -> str:
        at_work.append(threading.current_thread())
        return really_read(path, *how, **options)

    monkeypatch.setattr(Path, "read_text", watched)
    wal = data_dir / "pg_wal"
    for left in ("00000002.history.0123456789abcdef.tmp", "00000001.history.tmp"):
        (wal / left).touch()
    promotion = await histories.name_next(data_dir, "b", at_least=2, owner=None)
    assert at_work
    assert here not in at_work
    assert names(wal) == ["00000002.history"]
    assert (wal / "00000002.history").read_text().endswith(f"# begun by {promotion}\n")


async def test_a_slow_disk_does_not_hold_the_event_loop_up_while_a_promotion_is_named(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = threading.Event()
    really_iterate = Path.iterdir

    def hangs(path: Path) -> Any:
        assert slow.wait(20)
        return really_iterate(path)

    monkeypatch.setattr(Path, "iterdir", hangs)
    naming = asyncio.create_task(histories.name_next(data_dir, "b", at_least=2, owner=None))
    await asyncio.sleep(0)
    assert not naming.done()  # and we are here
    slow.set()
    assert await naming
