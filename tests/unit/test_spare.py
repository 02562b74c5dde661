"""The session that is dialled ahead of a promotion."""

from typing import Any, cast

import pytest

from replication.session import Session, SessionLost
from sitecontrol.agent.spare import Spare


class Standing:
    closed = False


class Dial:
    def __init__(self, *outcomes: object) -> None:
        self.left = list(outcomes)

    async def __call__(self) -> Session:
        outcome = self.left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return cast("Session", outcome)


async def test_what_was_dialled_ahead_is_lent_and_then_taken_once() -> None:
    standing = Standing()
    spare = Spare(Dial(standing))
    assert spare.session is None
    await spare.prepare()
    await spare.prepare()  # it is there: nobody is dialled
    found: list[Any] = [spare.session, spare.session, spare.take(), spare.take()]
    assert found == [standing, standing, standing, None]


async def test_a_session_that_was_lost_is_not_lent_and_another_is_dialled() -> None:
    lost, other = Standing(), Standing()
    spare = Spare(Dial(lost, other))
    await spare.prepare()
    lost.closed = True
    assert spare.session is None
    await spare.prepare()
    taken: Any = spare.take()
    assert taken is other


@pytest.mark.parametrize("error", [SessionLost("no answer"), OSError("no socket")])
async def test_that_none_can_be_had_fails_nothing(error: Exception) -> None:
    spare = Spare(Dial(error))
    await spare.prepare()
    assert spare.take() is None
