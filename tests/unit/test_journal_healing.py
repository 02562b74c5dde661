"""A journal that could not be written begins anew by itself; a copy that was put back, and a slow disk, are noticed."""

import asyncio
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher import journal as module
from dispatcher.engine.engine import heal_forever
from dispatcher.engine.predecessors import never_written
from dispatcher.journal import HEAL_EVERY_S, SLOW_S, Journal, Key, key_of, remains
from tests.unit.held_clock import HeldClock
from tests.unit.test_journal import (
    CARRIER,
    IDENTITY,
    answer,
    die,
    full,
    held,
    in_files_of_their_own,
    left_by,
    numbered,
    read_only,
)


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal", IDENTITY)
    journal.begin()
    yield journal
    die(journal)


def blocked(journal: Journal, monkeypatch: pytest.MonkeyPatch, *, claim_id: int = 2) -> None:
    """It can neither be written nor removed while a text is to go."""
    with monkeypatch.context() as patched:
        patched.setattr(module, "_write", full)
        patched.setattr(Path, "unlink", read_only)
        assert not journal.about_to_write([numbered(claim_id)], CARRIER)
        journal.heal()
        assert journal.blocks, "it still cannot"
        assert not journal.about_to_write([numbered(claim_id)], CARRIER)


# -- healing --------


def test_one_that_blocks_heals_when_the_disk_takes_it_again(
    living: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    living.about_to_write([numbered(1)], CARRIER)
    blocked(living, monkeypatch)
    living.heal()
    assert (living.broken, living.blocks) == (None, False)
    assert living.about_to_write([numbered(3)], CARRIER)
    left = left_by(living)
    assert [key_of(r) for r in left.unanswered] == [key_of(numbered(3))]
    assert left.same_boot


def test_of_what_was_in_hand_before_it_healed_it_proves_nothing_and_of_the_rest_all(
    living: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written before, refused while it blocked, written without a journal: each may have been sent for all it knows."""
    living.about_to_write([numbered(1)], CARRIER)
    blocked(living, monkeypatch)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_write", full)
        living.heal()
    assert not living.blocks, "its files are gone"
    assert living.about_to_write([numbered(3)], CARRIER), "sent without a journal"
    living.heal()
    returned = never_written(left_by(living), held(*(numbered(n) for n in range(1, 6))))
    assert [key_of(r) for r in returned] == [key_of(numbered(4)), key_of(numbered(5))]


def test_one_that_could_not_be_begun_begins_later(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.write_text("a file")
    journal = Journal(folder, IDENTITY)
    journal.begin()
    assert journal.about_to_write([numbered(1)], CARRIER)
    journal.heal()
    assert journal.broken is not None
    folder.unlink()
    journal.heal()
    journal.about_to_write([numbered(2)], CARRIER)
    left = left_by(journal)
    assert left.whole_above == 1
    assert left.named == {key_of(numbered(2))}


def test_a_new_lock_is_made_only_when_all_old_files_are_gone(
    living: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it, those that are left would look whole."""
    in_files_of_their_own(living, numbered(1), numbered(2))
    unlink = Path.unlink

    def but_the_last(path: Path, *, missing_ok: bool = False) -> None:
        if module.number_of(path) == 3:
            raise OSError(errno.EIO, "Input/output error")
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(module, "_write", full)
        patched.setattr(Path, "unlink", but_the_last)
        assert not living.about_to_write([numbered(3)], CARRIER)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", but_the_last)
        living.heal()
    assert living.blocks
    assert never_written(left_by(living), held(numbered(1), numbered(2), numbered(3))) == []


def test_healing_in_vain_leaves_nothing_open(living: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_write", full)
    living.about_to_write([numbered(1)], CARRIER)
    living.heal()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        living.heal()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_whole_journal_is_left_as_it_is(living: Journal) -> None:
    living.about_to_write([numbered(1)], CARRIER)
    before = dict(living._files)
    living.heal()
    assert living._files == before
    assert left_by(living).whole_above == 0


async def test_a_dispatcher_that_runs_tries_again_and_again(
    living: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked(living, monkeypatch)
    clock = HeldClock()
    task = asyncio.create_task(heal_forever(living, clock))
    async with asyncio.timeout(5.0):
        while living.blocks:
            await clock.advance(HEAL_EVERY_S)
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert living.broken is None


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["write", "answer", "store", "rotate", "break", "block", "heal"]),
            st.integers(1, 6),
        ),
        max_size=25,
    )
)
def test_however_often_it_breaks_and_heals_nothing_that_was_sent_counts_as_never_written(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    journal = Journal(tmp_path_factory.mktemp("heals"), IDENTITY)
    journal.begin()
    sent: set[Key] = set()
    claims = iter(range(1, 1_000))
    with pytest.MonkeyPatch.context() as patched:
        for what, number in steps:
            with pytest.MonkeyPatch.context() as sick:
                if what in ("break", "block"):
                    sick.setattr(module, "_write", full)
                if what == "block":
                    sick.setattr(Path, "unlink", read_only)
                if what in ("write", "break", "block"):
                    one = numbered(next(claims))
                    if journal.about_to_write([one], CARRIER):
                        sent.add(key_of(one))
            if what == "answer" and key_of(numbered(number)) in sent:
                journal.learned(answer(numbered(number)))
            elif what == "store":
                journal.stored([answer(numbered(number))])
            elif what == "rotate":
                journal._octets = module.ROTATE_AT + 1
            elif what == "heal":
                journal.heal()
        del patched
    die(journal)
    for left in remains(journal._folder, "columbus-1"):
        unwritten = {key_of(r) for r in never_written(left, held(*(numbered(n) for n in range(1, 30))))}
        assert unwritten.isdisjoint(sent)


# -- a copy that was put back --------


def copied_and_gone_on(living: Journal) -> Path:
    """A copy of when one text was written; then a second one was, and the process died."""
    living.about_to_write([numbered(1)], CARRIER)
    copy = living._folder.with_name("copy")
    shutil.copytree(living._folder, copy)
    living.about_to_write([numbered(2)], CARRIER)
    die(living)
    return copy


def in_place_of_the_folder(copy: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)


def moved_to_its_place(copy: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    copy.rename(folder)


def over_the_files(copy: Path, folder: Path) -> None:
    """As `cp -a`: the files stay the same ones."""
    for file in copy.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
        shutil.copystat(file, folder / file.name)


def beside_and_renamed(copy: Path, folder: Path) -> None:
    """As `rsync -a`, which leaves alone what looks the same: the lock's file."""
    for file in copy.iterdir():
        old = folder / file.name
        if file.read_bytes() != old.read_bytes():
            shutil.copy2(file, folder / "new")
            (folder / "new").rename(old)


@pytest.mark.parametrize(
    "put_back", [in_place_of_the_folder, moved_to_its_place, over_the_files, beside_and_renamed]
)
def test_a_copy_that_was_put_back_proves_nothing(living: Journal, put_back: Any) -> None:
    put_back(copied_and_gone_on(living), living._folder)
    left = left_by(living)
    assert [key_of(r) for r in left.unanswered] == [key_of(numbered(1))], "what it tells is true all the same"
    assert never_written(left, held(numbered(1), numbered(2), numbered(3))) == []


def test_a_folder_that_was_moved_away_and_back_is_the_one_that_it_was(living: Journal) -> None:
    copied_and_gone_on(living)
    living._folder.rename(living._folder.with_name("away"))
    living._folder.with_name("away").rename(living._folder)
    returned = never_written(left_by(living), held(numbered(1), numbered(2), numbered(3)))
    assert [key_of(r) for r in returned] == [key_of(numbered(3))]


def test_an_older_copy_of_one_file_before_the_last_proves_nothing(living: Journal) -> None:
    """Even if it is the very same file: it does not tell of the next one, in which there are lines."""
    living.about_to_write([numbered(1)], CARRIER)
    before = living._files[2].stat().st_size
    living.about_to_write([numbered(2)], CARRIER)
    living._octets = module.ROTATE_AT + 1
    living.about_to_write([numbered(3)], CARRIER)
    os.truncate(living._files[2], before)
    assert never_written(left_by(living), held(*(numbered(n) for n in range(1, 5)))) == []


def test_a_journal_of_the_version_before_which_told_less_proves_nothing(living: Journal) -> None:
    living.about_to_write([numbered(1)], CARRIER)
    path = living._files[2]
    header, *rows = path.read_bytes().splitlines(keepends=True)
    told = module.orjson.loads(header)
    path.write_bytes(module.orjson.dumps(told[:3]) + b"\n" + b"".join(rows))
    assert not left_by(living).same_boot


# -- a slow disk --------


class SlowDisk:
    """Its time passes only in writes."""

    def __init__(self, takes: float) -> None:
        self.now, self.takes = 100.0, takes

    def write(self, fd: int, octets: bytes) -> None:
        self.now += self.takes
        os.write(fd, octets)


def on(disk: SlowDisk, patched: pytest.MonkeyPatch) -> None:
    patched.setattr(module, "_write", disk.write)
    patched.setattr(module, "monotonic", lambda: disk.now)


@pytest.mark.parametrize("takes", [0.01, SLOW_S / 4, SLOW_S, 3.0])
def test_a_slow_disk_keeps_the_loop_waiting_for_no_more_than_its_share_and_one_line(
    living: Journal, monkeypatch: pytest.MonkeyPatch, takes: float
) -> None:
    disk = SlowDisk(takes)
    on(disk, monkeypatch)
    for number in range(1, 100):
        assert living.about_to_write([numbered(number)], CARRIER), "the text is sent, without a journal"
    assert disk.now - 100.0 <= SLOW_S + takes + 0.001
    assert "more than 0.25 s of a second" in str(living.broken)
    disk.takes = 0.0
    living.heal()
    assert living.broken is None


def test_a_disk_that_is_slow_now_and_then_ends_nothing(
    living: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(SLOW_S * 0.9)
    on(disk, monkeypatch)
    for number in range(1, 20):
        living.about_to_write([numbered(number)], CARRIER)
        disk.now += 1.0
    assert living.broken is None
