"""Files of set-aside rows: whole or not there, for their owner only, and kept when they are dealt with."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sitecontrol import quarantine
from sitecontrol.quarantine import Header, NotReadable


def header(**changed: object) -> Header:
    values: dict[str, object] = {
        "at": datetime(2026, 11, 26, 12, 0, tzinfo=UTC), "node": "denver-a", "site": "denver", "system_id": "7",
        "incarnation": "disk", "term": 4, "leader": "columbus-a", "timeline": 1, "leader_timeline": 2,
        "fork_lsn": "0/3000148", "end_lsn": "0/3000800", "counts": {"message": 1, "event": 2}, "compared": True,
        "complete": True, "error": None,
    }  # fmt: skip
    return Header.model_validate(values | changed)


@pytest.fixture
def body(tmp_path: Path) -> Path:
    path = tmp_path / "body"
    path.write_text('{"table": "message", "row": {}}\n')
    return path


def test_a_file_is_named_by_its_time_and_node_and_read_as_it_was_written(tmp_path: Path, body: Path) -> None:
    folder = quarantine.folder_in(tmp_path)
    path = quarantine.write(folder, header(), body)
    assert path.name == "2026-11-26T12-00-00Z-denver-a.jsonl"
    assert (path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    [file] = quarantine.found(folder)
    assert (file.header, file.header.rows, file.settled) == (header(), 3, False)
    assert list(file.rows()) == [{"table": "message", "row": {}}]
    assert [entry.name for entry in folder.iterdir()] == [path.name]


def test_a_second_file_of_the_same_moment_replaces_none(tmp_path: Path) -> None:
    first = quarantine.write(tmp_path, header())
    quarantine.settle(quarantine.read(first), "anna")
    second = quarantine.write(tmp_path, header())
    assert first.name != second.name
    assert [file.settled for file in quarantine.found(tmp_path)].count(True) == 1


def test_one_that_is_settled_is_kept_and_may_be_settled_again(tmp_path: Path, body: Path) -> None:
    settled = quarantine.settle(quarantine.read(quarantine.write(tmp_path, header(), body)), "anna")
    assert settled.path.parent.name == "settled"
    assert quarantine.settle(settled, "joe") == settled
    assert settled.settled_by == "anna"
    assert list(settled.rows()) == [{"table": "message", "row": {}}]


def test_what_is_no_such_file_is_not_listed_and_is_named_when_it_is_read(tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("{}\n")
    (tmp_path / "2026-11-26T12-00-00Z-denver-a.tmp").write_text("cut off")
    assert quarantine.found(tmp_path) == []
    with pytest.raises(NotReadable, match=r"other\.jsonl is no file of set-aside rows"):
        quarantine.read(other)


def test_two_tell_of_the_same_rows_if_disk_timeline_and_fork_are_the_same() -> None:
    assert header().is_about(header(end_lsn="0/4000000", counts={}))
    assert not header().is_about(header(incarnation="rewound"))
    assert not header().is_about(header(fork_lsn="0/3000200"))
