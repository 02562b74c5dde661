"""A connection that nobody gets to know of is cut."""

import asyncio
from typing import Any

import pytest

from dispatcher import dial
from dispatcher.metrics import Metrics
from dispatcher.postgres_store import PostgresStore
from tests.api_server import settings


class OneSession:
    """Stands for a session that was just made."""

    terminated = False

    def terminate(self) -> None:
        self.terminated = True


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> OneSession:
    made = OneSession()

    async def connect(_name: str) -> OneSession:
        return made

    monkeypatch.setattr(dial, "connector", lambda *_, **__: connect)
    return made


def dialling() -> Any:
    nothing: Any = None  # is asked of no secrets: the connector is another
    return dial.dialler(settings(), nothing, "test", Metrics())


async def test_one_that_breaks_while_it_is_made_warm(session: OneSession, monkeypatch: pytest.MonkeyPatch):
    async def breaks(_self: PostgresStore) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(PostgresStore, "warm_up", breaks)
    with pytest.raises(ConnectionResetError):
        await dialling()("columbus-a")
    assert session.terminated


async def test_one_whose_dispatcher_is_stopped_while_it_is_made_warm(
    session: OneSession, monkeypatch: pytest.MonkeyPatch
):
    warming = asyncio.Event()

    async def goes_on(_self: PostgresStore) -> None:
        warming.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(PostgresStore, "warm_up", goes_on)
    task = asyncio.create_task(dialling()("columbus-a"))
    await warming.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert session.terminated
