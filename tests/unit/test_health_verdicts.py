"""Verdicts: the table, and what holds over any row of words."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthcheck.verdicts import (
    TABLE,
    IllegalEventError,
    Limits,
    Standing,
    Verdict,
    Word,
    explain,
    step,
)
from tests.unit.health_scenes import patient

LOOKS = (Word.GOOD, Word.BAD, Word.SILENT)
limits = st.builds(Limits, rise=st.integers(1, 5), fall=st.integers(1, 5))
words = st.lists(st.sampled_from(LOOKS), max_size=60)


def walk(row: list[Word], bounds: Limits) -> list[Standing]:
    standing = Standing(since=0.0)
    passed = [standing]
    for now, word in enumerate(row, start=1):
        standing, _ = step(standing, word, bounds, float(now))
        passed.append(standing)
    return passed


def after(row: list[Word], *, rise: int = 2, fall: int = 3) -> Verdict:
    return walk(row, Limits(rise=rise, fall=fall))[-1].verdict


def test_every_verdict_knows_what_to_do_with_every_look() -> None:
    wanted = set(itertools.product(Verdict, LOOKS, (False, True)))
    assert wanted <= set(TABLE)


def test_every_row_carries_a_sentence() -> None:
    assert all(sentence.format(streak=1, rise=2, fall=3).strip() for _, sentence in TABLE.values())


def test_it_falls_after_fall_bad_looks_and_not_before() -> None:
    up = [Word.GOOD] * 2
    assert after([*up, Word.BAD]) is Verdict.GOING_DOWN
    assert after([*up, Word.BAD, Word.BAD]) is Verdict.GOING_DOWN
    assert after([*up, Word.BAD, Word.BAD, Word.BAD]) is Verdict.DOWN


def test_it_rises_after_rise_good_looks_and_not_before() -> None:
    down = [Word.BAD] * 3
    assert after([*down, Word.GOOD]) is Verdict.GOING_UP
    assert after([*down, Word.GOOD, Word.GOOD]) is Verdict.UP


def test_one_good_look_takes_back_all_bad_ones_before_the_fall() -> None:
    row = [Word.GOOD] * 2 + [Word.BAD, Word.BAD, Word.GOOD] * 20
    assert Verdict.DOWN not in {s.verdict for s in walk(row, Limits(rise=2, fall=3))}


def test_what_was_never_seen_is_unknown_until_enough_looks_agree() -> None:
    assert after([]) is Verdict.UNKNOWN
    assert after([Word.GOOD]) is Verdict.UNKNOWN
    assert after([Word.BAD, Word.BAD]) is Verdict.UNKNOWN
    assert after([Word.BAD, Word.BAD, Word.BAD]) is Verdict.DOWN


def test_silence_makes_it_unknown_and_never_down() -> None:
    assert after([Word.GOOD] * 2 + [Word.SILENT] * 2) is Verdict.UP
    assert after([Word.GOOD] * 2 + [Word.SILENT] * 3) is Verdict.UNKNOWN


@patient
@given(words, limits)
def test_down_is_only_reached_by_fall_bad_looks_in_a_row(row: list[Word], bounds: Limits) -> None:
    passed = walk(row, bounds)
    for index in range(1, len(passed)):
        before, now = passed[index - 1].verdict, passed[index].verdict
        if now is Verdict.DOWN and before not in {Verdict.DOWN, Verdict.GOING_UP}:
            assert row[index - bounds.fall : index] == [Word.BAD] * bounds.fall


@patient
@given(words, limits)
def test_up_is_only_reached_by_rise_good_looks_in_a_row(row: list[Word], bounds: Limits) -> None:
    passed = walk(row, bounds)
    for index in range(1, len(passed)):
        before, now = passed[index - 1].verdict, passed[index].verdict
        if now is Verdict.UP and before not in {Verdict.UP, Verdict.GOING_DOWN}:
            assert row[index - bounds.rise : index] == [Word.GOOD] * bounds.rise


@patient
@given(words, limits)
def test_a_transition_is_told_exactly_when_the_verdict_changes(row: list[Word], bounds: Limits) -> None:
    standing = Standing(since=0.0)
    for now, word in enumerate(row, start=1):
        then, transition = step(standing, word, bounds, float(now))
        assert (transition is not None) == (then.verdict is not standing.verdict)
        assert then.since == (float(now) if transition else standing.since)
        standing = then


@patient
@given(words, limits)
def test_enough_equal_looks_settle_any_verdict(row: list[Word], bounds: Limits) -> None:
    assert walk(row + [Word.GOOD] * bounds.rise, bounds)[-1].verdict is Verdict.UP
    assert walk(row + [Word.BAD] * bounds.fall, bounds)[-1].verdict is Verdict.DOWN
    assert walk(row + [Word.SILENT] * bounds.fall, bounds)[-1].verdict is Verdict.UNKNOWN


@patient
@given(words, words, limits)
def test_looks_during_maintenance_change_nothing_and_leave_nothing(
    before: list[Word], during: list[Word], bounds: Limits
) -> None:
    standing = walk(before, bounds)[-1]
    standing, _ = step(standing, Word.BEGIN, bounds, 100.0)
    for word in during:
        standing, transition = step(standing, word, bounds, 101.0)
        assert transition is None
    standing, _ = step(standing, Word.END, bounds, 102.0)
    assert (standing.verdict, standing.word, standing.streak) == (Verdict.UNKNOWN, None, 0)


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.MAINTENANCE])
def test_maintenance_that_never_began_cannot_end(verdict: Verdict) -> None:
    standing = Standing(verdict=verdict, since=1.0)
    with pytest.raises(IllegalEventError, match="cannot happen"):
        step(standing, Word.END, Limits(rise=2, fall=3), 2.0)
    assert standing == Standing(verdict=verdict, since=1.0)


def test_maintenance_cannot_begin_twice() -> None:
    with pytest.raises(IllegalEventError):
        step(Standing(verdict=Verdict.MAINTENANCE, since=1.0), Word.BEGIN, Limits(rise=2, fall=3), 2.0)


def test_the_way_to_a_verdict_is_told_in_words() -> None:
    bounds = Limits(rise=2, fall=3)
    assert explain(walk([Word.GOOD, Word.GOOD, Word.BAD, Word.BAD], bounds)[-1], bounds) == "2 of 3 bad looks"
    assert explain(Standing(since=0.0), bounds) == "not looked at yet"
