import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.smpp.framing import MAX_FRAME, Broken, Framer

FRAMES = st.lists(
    st.binary(max_size=80).map(lambda body: struct.pack(">I", 16 + len(body)) + bytes(12) + body)
)


@given(FRAMES, st.data())
def test_frames_come_out_whole_however_the_stream_was_cut(frames, data):
    stream = b"".join(frames)
    framer = Framer()
    found = []
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, 50))
        found += framer.feed(stream[at : at + step])
        at += step
    assert found == frames
    assert framer.broken is None


@pytest.mark.parametrize("length", [0, 1, 15, MAX_FRAME + 1, 0x47455420, 0xFFFFFFFF])
def test_an_impossible_length_breaks_the_stream_for_good(length):
    framer = Framer()
    good = struct.pack(">IIII", 16, 0x15, 0, 1)
    assert framer.feed(good + struct.pack(">IIII", length, 4, 0, 77)) == [good]
    assert framer.broken == Broken(length=length, sequence=77)
    assert framer.feed(good) == []


def test_an_impossible_length_is_seen_before_the_header_is_whole():
    framer = Framer()
    assert framer.feed(b"\0\0") == []
    assert framer.feed(b"\0\x05") == []
    assert framer.broken == Broken(length=5, sequence=0)


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_never_more_than_one_frame_is_kept(pieces):
    framer = Framer(max_frame=64)
    for piece in pieces:
        framer.feed(piece)
        assert len(framer._rest) < 64
