"""Where two histories parted, and which rows the WAL shows to have been written since."""

from dataclasses import replace

import pytest

from replication import lsn, timelines
from replication.changes import Changes
from replication.errors import NodeError
from replication.timelines import Stretch

FIRST = "1\t0/3000148\tno recovery target specified\n"
SECOND = FIRST + "\n# a remark\n2\t0/5000000\tno recovery target specified\n"
FORK, LATER = lsn.parse("0/3000148"), lsn.parse("0/5000000")

WAL = """\
rmgr: Heap        len (rec/tot):     54/   150, tx:        742, lsn: 0/03000148, prev 0/03000110, desc: INSERT off 3 flags 0x00, blkref #0: rel 1663/16384/16390 blk 7 FPW
rmgr: Btree       len (rec/tot):     64/    64, tx:        742, lsn: 0/030001E0, prev 0/03000148, desc: INSERT_LEAF off 3, blkref #0: rel 1663/16384/16399 blk 1
rmgr: Heap        len (rec/tot):     54/    54, tx:        743, lsn: 0/03000220, prev 0/030001E0, desc: UPDATE off 3 xmax 743 flags 0x00 ; new off 4 xmax 0, blkref #0: rel 1663/16384/16390 blk 8, blkref #1: rel 1663/16384/16390 blk 9
rmgr: Heap2       len (rec/tot):     58/    58, tx:          0, lsn: 0/03000260, prev 0/03000220, desc: PRUNE latestRemovedXid 741 nredirected 0 ndead 1, blkref #0: rel 1663/16384/16395 blk 2
rmgr: Heap2       len (rec/tot):     58/    58, tx:        744, lsn: 0/03000290, prev 0/03000260, desc: VISIBLE cutoff xid 0 flags 0x03, blkref #0: rel 1663/16384/16391 fork vm blk 0, blkref #1: rel 1663/16384/16391 blk 5
rmgr: Transaction len (rec/tot):     34/    34, tx:        742, lsn: 0/030002C0, prev 0/03000290, desc: COMMIT 2026-11-26 11:30:00.000000 UTC
"""  # noqa: E501 (as pg_waldump writes it)


def test_a_history_is_read_from_its_file() -> None:
    assert timelines.parse("", 1) == (Stretch(timeline=1, begin=0, end=None),)
    assert timelines.parse(SECOND, 3) == (
        Stretch(timeline=1, begin=0, end=FORK),
        Stretch(timeline=2, begin=FORK, end=LATER),
        Stretch(timeline=3, begin=LATER, end=None),
    )
    with pytest.raises(NodeError, match="not a line of a timeline's history: 'what'"):
        timelines.parse("what\n", 2)


def test_histories_part_where_the_first_of_the_two_left_their_last_common_timeline() -> None:
    first, second, third = timelines.parse("", 1), timelines.parse(FIRST, 2), timelines.parse(SECOND, 3)
    assert timelines.fork(first, second) == timelines.fork(first, third) == FORK
    assert timelines.fork(second, third) == LATER
    assert timelines.fork(third, first) == FORK
    assert timelines.fork(second, second) is None


def test_a_timeline_of_the_same_number_that_was_begun_elsewhere_is_another_one() -> None:
    elsewhere = timelines.parse("1\t0/3000200\tno recovery target specified\n", 2)
    assert timelines.fork(elsewhere, timelines.parse(FIRST, 2)) == FORK


def named(text: str, promotion: str, line: str) -> str:
    """As PostgreSQL writes the file of a new timeline: its parent's as it is, and a line."""
    return timelines.naming_next(text, promotion) + "\n" + line


def test_a_name_is_that_of_the_timeline_which_the_next_line_tells_to_have_been_begun() -> None:
    third = named(named("", "b, promotion 1", FIRST), "c, promotion 2", SECOND.splitlines()[-1])
    stretches = timelines.parse(third, 3)
    assert [(s.timeline, s.begin) for s in stretches] == [(1, 0), (2, FORK), (3, LATER)]
    assert [s.begun_by for s in stretches] == [None, "b, promotion 1", "c, promotion 2"]


def test_what_is_named_below_the_last_line_was_not_begun_and_the_next_name_takes_its_place() -> None:
    file = timelines.naming_next(FIRST, "b, promotion 1")
    assert timelines.parse(file, 2) == timelines.parse(FIRST, 2)
    again = timelines.naming_next(file, "b, promotion 2")
    assert again == FIRST + "# begun by b, promotion 2\n"
    assert timelines.naming_next("", "b") == "# begun by b\n"


def test_a_timeline_that_was_begun_at_the_same_position_by_another_promotion_is_another_one() -> None:
    ours, theirs = [timelines.parse(named("", by, FIRST), 2) for by in ("b, promotion 1", "c, promotion 1")]
    without = timelines.parse(FIRST, 2)
    assert timelines.fork(ours, theirs) == timelines.fork(ours, without) == FORK
    assert timelines.contradicted(ours, theirs) == timelines.contradicted(without, ours) == 2
    assert timelines.fork(ours, ours) is None
    assert timelines.contradicted(ours, ours) is None


def test_what_only_one_of_two_histories_knows_contradicts_nothing() -> None:
    first, second, third = timelines.parse("", 1), timelines.parse(FIRST, 2), timelines.parse(SECOND, 3)
    assert timelines.contradicted(third, second) is timelines.contradicted(first, third) is None
    elsewhere = timelines.parse("1\t0/3000200\tno recovery target specified\n", 2)
    assert timelines.contradicted({*third, *elsewhere}, second) == 2


def test_what_lies_since_a_fork_may_be_spread_over_timelines() -> None:
    third = timelines.parse(SECOND, 3)
    assert timelines.since(third, FORK, LATER + 8) == (
        Stretch(timeline=2, begin=FORK, end=LATER),
        Stretch(timeline=3, begin=LATER, end=LATER + 8),
    )
    assert timelines.since(third, LATER, LATER) == ()


def test_the_wal_tells_which_blocks_of_tables_were_written_to_and_by_which_transactions() -> None:
    found = Changes()
    found.read(WAL.splitlines(keepends=True))
    assert found.transactions == {742, 743, 744}
    assert found.blocks == {(16384, 16390): {7, 8, 9}, (16384, 16391): {5}}


def test_what_is_alike_behind_the_first_difference_is_not_common() -> None:
    first = Stretch(timeline=1, begin=0, end=100)
    of_a = Stretch(timeline=2, begin=100, end=200, begun_by="a, promotion 1")
    of_b = replace(of_a, begun_by="b, promotion 1")
    alike = Stretch(timeline=3, begin=200, end=None)
    assert timelines.fork((first, of_a, alike), (first, of_b, alike)) == 100
