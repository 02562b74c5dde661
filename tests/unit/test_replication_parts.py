"""The pure parts of `replication`: positions, control data, rendered configuration, versions."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication import binaries, configuration, control, lsn
from replication.configuration import Primary, Standby
from replication.control import ClusterState, record_end
from replication.errors import CommitUnknown, NodeError, ToolsMissing
from replication.session import Target

CONTROL = """\
pg_control version number:            1300
Database system identifier:           7412345678901234567
Database cluster state:               shut down
Latest checkpoint location:           0/3000028
Latest checkpoint's REDO location:    0/3000028
Latest checkpoint's TimeLineID:       1
Minimum recovery ending location:     0/0
Min recovery ending loc's timeline:   0
WAL block size:                       8192
Bytes per WAL segment:                16777216
Data page checksum version:           1
"""
SEGMENT, BLOCK = 16 * 1024 * 1024, 8192
UPSTREAM = Target(host="10.0.0.1", port=5432, user="follower", password="se:cr\\et")


# -- positions


@given(st.integers(0, 2**64 - 1))
def test_a_position_reads_as_it_is_written(position: int) -> None:
    assert lsn.parse(lsn.show(position)) == position


def test_positions_look_as_postgresql_writes_them() -> None:
    assert lsn.show(0x16_B374D848) == "16/B374D848"
    assert lsn.parse("0/0") == 0


@pytest.mark.parametrize("text", ["", "16", "16/", "x/y", "123456789/0", "0/123456789"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        lsn.parse(text)


# -- control data


def test_control_data_is_read() -> None:
    found = control.parse(CONTROL)
    assert found.system_id == "7412345678901234567"
    assert found.state is ClusterState.SHUT_DOWN
    assert found.checkpoint == 0x3000028
    assert found.timeline == 1
    assert found.checksums
    assert not found.was_standby


def test_the_timeline_of_a_server_that_crashed_after_its_promotion_is_that_of_its_recovery() -> None:
    text = CONTROL.replace("loc's timeline:   0", "loc's timeline:   2")
    assert control.parse(text).timeline == 2


@pytest.mark.parametrize(
    "text", ["", "WARNING: Calculated CRC checksum does not match", CONTROL.replace("shut down", "dreaming")]
)
def test_control_data_that_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(NodeError):
        control.parse(text)


def test_the_length_of_a_shutdown_record_is_read_and_that_of_any_other_is_not() -> None:
    line = "rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/03000028, prev 0/02000100, desc: "
    assert control.shutdown_record_length(line + "CHECKPOINT_SHUTDOWN redo 0/3000028") == 114
    with pytest.raises(NodeError):
        control.shutdown_record_length(line + "CHECKPOINT_ONLINE redo 0/3000028")


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (0x3000028, 0x30000A0),  # inside of a page: 114 bytes, rounded up to 8
        (0x3001F88, 0x3002000),  # fits exactly, up to the end of the page
        (0x3001F90, 0x3002020),  # 112 bytes, then 24 of a page header, then 2, rounded up
        (0x3FFFF90, 0x4000030),  # the same into the next segment file, whose header has 40
    ],
)
def test_a_record_ends_after_the_headers_of_the_pages_that_it_crosses(begin: int, end: int) -> None:
    assert record_end(begin, 114, segment_bytes=SEGMENT, block_bytes=BLOCK) == end


@given(st.integers(0, SEGMENT * 4 // 8), st.integers(24, 100_000))
def test_a_record_takes_its_length_and_not_much_more(eighth: int, length: int) -> None:
    begin = eighth * 8
    taken = record_end(begin, length, segment_bytes=SEGMENT, block_bytes=BLOCK) - begin
    assert length <= taken <= length + 7 + 40 + 24 * (length // (BLOCK - 24) + 1)


# -- configuration


def test_a_primary_waits_for_every_one_of_its_standbys() -> None:
    assert configuration.standby_names(()) == ""
    assert configuration.standby_names(("b", "c")) == 'FIRST 2 ("b", "c")'
    with pytest.raises(NodeError, match="twice"):
        configuration.standby_names(("b", "b"))


def test_a_standby_waits_for_nobody_and_tells_its_name_but_not_its_password() -> None:
    text = configuration.role_conf(Standby(upstream=UPSTREAM), name="b", passfile="/etc/pass")
    assert "synchronous_standby_names = ''" in text
    assert "primary_slot_name = ''" in text
    assert "application_name=''b''" in text
    assert "se:cr" not in text


def test_a_primary_follows_nobody() -> None:
    text = configuration.role_conf(Primary(waits_for=("b",)), name="a", passfile="/etc/pass")
    assert "primary_conninfo = ''" in text
    assert "synchronous_standby_names = 'FIRST 1 (\"b\")'" in text


def test_a_passfile_quotes_colons_and_backslashes() -> None:
    assert configuration.passfile_line(UPSTREAM) == "*:*:*:follower:se\\:cr\\\\et\n"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("synchronous_commit", "is always on"),
        ("fsync", "is always on"),
        ("restart_after_crash", "is always off"),
        ("synchronous_standby_names", "set by the node itself"),
        ("recovery_target_time", "set by the node itself"),
        ("port = 1\nfsync", "not the name of a PostgreSQL setting"),
    ],
)
def test_a_parameter_that_a_guarantee_rests_on_cannot_be_set_by_hand(name: str, why: str) -> None:
    with pytest.raises(NodeError, match=why):
        configuration.check_parameters({name: "x"})


def test_other_parameters_win_over_our_defaults() -> None:
    text = configuration.postgresql_conf(
        listen="10.0.0.1",
        port=5432,
        socket_dir="/run/it's here",
        cluster_name="a/1",
        parameters={"shared_buffers": "4GB", "jit": True},
        major=17,
    )
    assert "shared_buffers = '4GB'" in text
    assert "jit = 'on'" in text
    assert "unix_socket_directories = '/run/it''s here'" in text
    assert "allow_alter_system = 'off'" in text


def test_a_setting_is_one_line() -> None:
    with pytest.raises(NodeError, match="one line"):
        configuration.quote("a\nfsync = off")


# -- programs


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((15, 12), False),
        ((15, 13), True),
        ((16, 8), False),
        ((17, 5), True),
        ((18, 0), True),
        ((19, 0), True),
        ((14, 99), False),
    ],
)
def test_versions_before_the_fixed_start_up_race_are_refused(version: tuple[int, int], *, safe: bool) -> None:
    assert binaries.is_safe(*version) is safe


def test_a_version_is_read_from_what_a_distribution_writes() -> None:
    assert binaries.parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n") == (15, 18)
    with pytest.raises(ToolsMissing, match="not a released version"):
        binaries.parse_version("postgres (PostgreSQL) 19devel\n")


def test_a_folder_that_lacks_programs_is_refused_with_their_names_and_a_cure(tmp_path: Path) -> None:
    (tmp_path / "postgres").touch(mode=0o755)
    with pytest.raises(ToolsMissing, match=r"lacks initdb, .*pg_rewind.* install PostgreSQL"):
        binaries.find(tmp_path)


def test_an_error_without_a_message_has_its_docstring_for_one() -> None:
    assert str(CommitUnknown()).startswith("The statement may have committed")
