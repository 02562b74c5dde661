"""Keys and programs in memory: fresh enough, and never read more often than needed."""

import asyncio

import pytest

from dispatcher.http.directory import Directory
from dispatcher.leadership import Unavailable
from sitecontrol.clock import SystemClock
from tests.api_server import KEY, HandHeldLeadership, furnished_store, key


@pytest.fixture
def store():
    return furnished_store()


@pytest.fixture
def leadership(store):
    return HandHeldLeadership(store)


@pytest.fixture
async def directory(leadership):
    made = Directory(leadership, SystemClock(), hold_for=0.2)
    await made.start()
    yield made
    await made.stop()


async def test_after_a_reading_known_keys_and_programs_cost_no_database(directory, leadership):
    await directory.refreshed()
    readings = len(leadership.lanes)
    for _ in range(1_000):
        assert directory.key(KEY).account_id == 1
        assert directory.program(1, "outages").id == 1
    assert len(leadership.lanes) == readings


async def test_what_is_asked_for_by_many_is_read_once(directory, leadership):
    await directory.refreshed()
    readings = len(leadership.lanes)
    await asyncio.gather(*(directory.refreshed() for _ in range(1_000)))
    assert len(leadership.lanes) == readings + 1


async def test_a_reading_that_began_before_the_question_does_not_answer_it(directory, leadership, store):
    leadership.gate.clear()
    await leadership.held.wait()
    question = asyncio.create_task(directory.refreshed())
    await asyncio.sleep(0)
    store.add_key(key("hs_new", 9))
    leadership.gate.set()
    await question
    assert directory.key("hs_new") is not None


async def test_bytes_that_are_no_text_are_an_unknown_key(directory):
    await directory.refreshed()
    assert directory.key("hs_\udcff") is None


async def test_a_revoked_key_is_known_as_such_after_the_next_reading(directory, store):
    await directory.refreshed()
    store.add_key(key(revoked=True))
    assert directory.key(KEY) is not None
    await directory.refreshed()
    assert directory.key(KEY) is None


async def test_a_program_belongs_to_its_account(directory):
    await directory.refreshed()
    assert directory.program(2, "outages") is None


async def test_when_nothing_can_be_read_the_old_picture_serves_and_a_question_is_unavailable(
    directory, leadership, monkeypatch
):
    monkeypatch.setattr("dispatcher.http.directory.READ_WITHIN_S", 0.05)
    await directory.refreshed()
    leadership.gate.clear()
    with pytest.raises(Unavailable):
        await directory.refreshed()
    assert directory.key(KEY) is not None


async def test_a_failure_of_any_kind_does_not_end_the_reading(directory, store, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(store, "api_keys", None)
        with pytest.raises(Unavailable):
            await directory.refreshed()
    await directory.refreshed()
    assert directory.key(KEY) is not None


async def test_stopping_answers_those_who_wait(directory, leadership):
    leadership.gate.clear()
    waiting = asyncio.create_task(directory.refreshed())
    await leadership.held.wait()
    await directory.stop()
    with pytest.raises(Unavailable):
        await waiting
