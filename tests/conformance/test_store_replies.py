"""What every store promises of replies in parts; the same tests on PostgreSQL and in memory."""

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest

from dispatcher.model import ReplyPart
from dispatcher.replies import GAP
from tests.message_scenes import CARRIER, CUSTOMER, SHORT_CODE, Stage

TEXTS = ("The line is down ", "at 12 Main Street, ", "and it sparks.")
MINUTE = timedelta(minutes=1)


def parts(stage: Stage, *texts: str, reference: int = 7, source: str = CUSTOMER) -> list[ReplyPart]:
    return [
        ReplyPart(
            carrier=CARRIER,
            source=source,
            destination=SHORT_CODE,
            reference=reference,
            total=len(texts),
            number=number,
            coding=0,
            octets=text.encode(),
            received_at=stage.now(),
            fingerprint=hashlib.sha256(
                f"{source}/{reference}/{len(texts)}/{number}/{text}".encode()
            ).digest(),
        )
        for number, text in enumerate(texts, 1)
    ]


async def stored(stage: Stage) -> list[str]:
    assert stage.replies
    return [text for _, text in await stage.replies()]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)], ids=["in order", "out of order"])
@pytest.mark.parametrize("at_once", [3, 1], ids=["at once", "one by one"])
async def test_a_reply_in_parts_is_stored_as_one_when_it_is_whole(
    stage: Stage, order: tuple[int, ...], at_once: int
) -> None:
    arriving = [parts(stage, *TEXTS)[n] for n in order]
    for batch in [arriving[n : n + at_once] for n in range(0, 3, at_once)]:
        assert await stored(stage) == []
        await stage.store.reply_parts(batch)
    assert await stored(stage) == ["".join(TEXTS)]


async def test_a_character_that_was_cut_in_two_is_whole_again(stage: Stage) -> None:
    octets = "sparks ⚡😀".encode("utf-16-be")
    first, second = parts(stage, "a", "b")
    await stage.store.reply_parts(
        [replace(second, octets=octets[-2:], coding=8), replace(first, octets=octets[:-2], coding=8)]
    )
    assert await stored(stage) == ["sparks ⚡😀"]


async def test_parts_brought_again_change_nothing_before_or_after_the_whole(stage: Stage) -> None:
    whole = parts(stage, *TEXTS)
    for batch in ([whole[0]], [whole[0], whole[0]], whole[1:], whole, [whole[2]]):
        await stage.store.reply_parts(batch)
    await stage.pass_time(4 * MINUTE)
    await stage.store.reply_parts([whole[1]])
    await stage.store.finish_received(120.0, 10)
    assert await stored(stage) == ["".join(TEXTS)]


async def test_what_came_of_a_reply_is_stored_when_the_rest_has_been_waited_for(stage: Stage) -> None:
    first, _, third = parts(stage, *TEXTS)
    await stage.store.reply_parts([third])
    await stage.pass_time(MINUTE)
    await stage.store.reply_parts([first])
    assert await stage.store.finish_received(120.0, 10) == 0
    await stage.pass_time(1.5 * MINUTE)
    assert await stage.store.finish_received(120.0, 10) == 0  # counted from the last that came
    await stage.pass_time(MINUTE)
    assert await stage.store.finish_received(120.0, 10) == 1
    assert await stage.store.finish_received(120.0, 10) == 0
    assert await stored(stage) == [f"{TEXTS[0]}{GAP}{TEXTS[2]}"]


async def test_the_next_text_under_the_same_reference_ends_the_one_that_lacks_a_part(stage: Stage) -> None:
    old, new = parts(stage, "old 1", "old 2"), parts(stage, "new 1 ", "new 2")
    await stage.store.reply_parts([old[0]])
    await stage.store.reply_parts(new)
    await stage.store.finish_received(120.0, 10)
    assert sorted(await stored(stage)) == ["new 1 new 2", "old 1 […]"]


async def test_a_reference_may_be_used_again_once_its_text_is_whole(stage: Stage) -> None:
    await stage.store.reply_parts(parts(stage, "one ", "two"))
    await stage.store.reply_parts(parts(stage, "three ", "four"))
    assert await stored(stage) == ["one two", "three four"]


async def test_parts_of_different_people_and_texts_are_kept_apart(stage: Stage) -> None:
    mine, other = parts(stage, "a", "b"), parts(stage, "c", "d", source="+12025550199")
    longer = parts(stage, "e", "f", "g")
    await stage.store.reply_parts([mine[0], other[0], longer[0]])
    await stage.store.reply_parts([other[1], mine[1]])
    assert sorted(await stored(stage)) == ["ab", "cd"]
    await stage.store.reply_parts(longer[1:])
    assert sorted(await stored(stage)) == ["ab", "cd", "efg"]


async def test_nothing_received_is_finished_quietly(stage: Stage) -> None:
    await stage.store.reply_parts([])
    assert await stage.store.finish_received(120.0, 10) == 0
