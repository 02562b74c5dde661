"""A link on a real socket as the tests of it use one: bound, written to, its socket filled; on both kinds of loop.

`script` (fixture): a carrier that does what the test says.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from dispatcher.smpp.link import Link, Submission
from dispatcher.smpp.pdu import SubmitSm, Tag
from tests.smpp_scenes import SUBMIT, ScriptedCarrier, scripted_carrier, soon

# When octets leave depends on the loop's transports, so what is certain about that is tested on both loops.
on_both_loops = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


def run(new_loop: Callable[[], asyncio.AbstractEventLoop], story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(story)


@pytest.fixture
async def script() -> AsyncIterator[ScriptedCarrier]:
    async with scripted_carrier() as script:
        yield script


def numbered(count: int) -> list[SubmitSm]:
    return [replace(SUBMIT, short_message=b"text %d" % n) for n in range(count)]


async def bound(link: Link) -> Link:
    assert await link.wait_bound(soon()), link.last_error
    return link


async def write(link: Link, count: int) -> list[Submission]:
    """Write so many, all of them."""
    assert await link.room(count, soon()) == count
    submissions = link.write(numbered(count), soon())
    assert all(submission.written for submission in submissions)
    return submissions


LARGE = replace(SUBMIT, short_message=b"", tlvs=((Tag.MESSAGE_PAYLOAD, bytes(60_000)),))


async def fill_the_socket(link: Link, deadline: float) -> int:
    """Write to a carrier that does not read, until octets lie in our own buffer; how many submits."""
    for count in range(1, 2000):
        (submission,) = link.write((LARGE,), deadline)
        if not submission.written:
            return count - 1
    raise AssertionError("a socket without end")


class Never:
    def now(self) -> float:
        return 0.0
