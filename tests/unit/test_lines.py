"""Cutting a stream into lines."""

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.http.lines import LineCutter, Overlong

CHUNKS = st.lists(st.text("ab\n", max_size=12).map(str.encode))


def cut(chunks: list[bytes], at_most: int) -> list[bytes | Overlong]:
    cutter = LineCutter(at_most)
    lines = [line for chunk in chunks for line in cutter.feed(chunk)]
    last = cutter.end()
    return lines if last is None else [*lines, last]


@given(CHUNKS)
def test_however_the_stream_is_cut_into_chunks_the_lines_are_the_same(chunks):
    whole = b"".join(chunks).split(b"\n")
    assert cut(chunks, 1_000) == (whole if whole[-1] else whole[:-1])


@given(CHUNKS, st.integers(1, 6))
def test_an_overlong_line_is_told_by_its_size_and_the_others_are_whole(chunks, at_most):
    for line, plain in zip(cut(chunks, at_most), cut(chunks, 1_000), strict=True):
        assert line == (plain if len(plain) <= at_most else Overlong(len(plain)))


def test_no_more_of_a_line_is_held_than_a_line_may_have():
    cutter = LineCutter(100)
    for _ in range(1_000):
        cutter.feed(b"x" * 60)
        assert sum(map(len, cutter._begun)) <= 100
    assert cutter.feed(b"\n") == [Overlong(60_000)]
