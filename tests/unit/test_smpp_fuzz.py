"""The promises of tests/fuzz, for a moment: `make fuzz` keeps at it for longer."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import changed
from tests.fuzz.smpp import one, seeds

SEEDS = list(seeds())


def test_every_example_keeps_the_promises():
    for octets in SEEDS:
        one(octets)


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_octets_of_any_kind_keep_the_promises(octets):
    one(octets)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(SEEDS) | st.binary(max_size=20), max_size=6), st.integers(0, 255))
def test_pieces_of_examples_keep_the_promises(pieces, how):
    one(bytes((how,)) + b"".join(pieces))


@settings(max_examples=300)
@given(st.integers(0, 2**32))
def test_changed_examples_keep_the_promises(seed):
    chance = random.Random(seed)
    one(changed(bytearray(chance.choice(SEEDS)), SEEDS, chance))
