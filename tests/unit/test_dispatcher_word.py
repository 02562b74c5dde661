"""What a dispatcher says of itself: in etcd, and to load balancers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from dispatcher import registration as registration_module
from dispatcher.condition import Condition
from dispatcher.leadership import LeadershipState
from dispatcher.registration import Registration
from sitecontrol.clock import SystemClock
from sitecontrol.etcd.memory import Fault, MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore as EtcdData
from sitecontrol.records import DispatcherRecord
from tests.waiting import eventually

OPEN = LeadershipState(
    leader_node="columbus-a",
    leader_site="columbus",
    term=3,
    open=True,
    may_send=True,
    holding=0,
    durability=None,
    rule="open",
    sentence="The leader columbus-a is open.",
)
HELD = replace(OPEN, open=False, may_send=False, rule="swap", sentence="Production moves.")
HERE = Condition(name="columbus-1", site="columbus", state=OPEN, links_bound=2, links=2, in_step=False)
THERE = replace(HERE, name="denver-1", site="denver", in_step=True)


def test_a_dispatcher_whose_schema_is_awaited_is_not_ready_and_says_why():
    assert replace(HERE, schema_awaited="The schema is not in place yet.").reasons == (
        "The schema is not in place yet.",
    )


def test_the_live_sites_dispatcher_is_live_and_ready():
    assert HERE.live
    assert HERE.reasons == ()


def test_while_production_moves_nobody_is_live():
    assert not replace(HERE, state=HELD).live
    assert replace(HERE, state=HELD).reasons == ("Production moves.",)


def test_the_other_site_is_not_live_and_could_take_over():
    assert not THERE.live
    assert THERE.standby_reasons == ()


@pytest.mark.parametrize(
    ("condition", "word"),
    [
        (replace(THERE, in_step=False), "in step"),
        (replace(THERE, links_bound=0), "carrier links"),
        (replace(HERE, in_step=True), "live site"),
    ],
)
def test_what_keeps_a_site_from_taking_over_is_named(condition: Condition, word: str):
    assert any(word in reason for reason in condition.standby_reasons)


class Word:
    """A dispatcher's record that a test changes."""

    def __init__(self) -> None:
        self.record = HERE.record(held_for=None, unanswered=0)
        self.urgent = False


@asynccontextmanager
async def registered() -> AsyncIterator[tuple[MemoryEtcd, Word, Registration]]:
    word, etcd = Word(), MemoryEtcd(EtcdData(SystemClock()))
    registration = Registration(
        etcd=etcd,
        key="/d/columbus-1",
        describe=lambda: word.record,
        urgent=lambda: word.urgent,
        clock=SystemClock(),
    )
    await registration.start()
    yield etcd, word, registration
    await registration.stop()
    assert not registration.tasks.died.is_set()
    await etcd.aclose()


async def in_etcd(etcd: MemoryEtcd) -> DispatcherRecord | None:
    found = (await etcd.get("/d/columbus-1")).one
    return DispatcherRecord.decode(found.value) if found else None


async def until_told(etcd: MemoryEtcd, record: DispatcherRecord) -> None:
    async with asyncio.timeout(5):
        while await in_etcd(etcd) != record:  # noqa: ASYNC110 # a value in etcd has no event
            await asyncio.sleep(0.005)


async def test_a_change_is_told_at_once_when_woken():
    async with registered() as (etcd, word, registration):
        await until_told(etcd, word.record)
        word.record = HERE.record(held_for="s1", unanswered=4)
        registration.wake.set()
        await until_told(etcd, word.record)


async def test_a_swap_that_waits_is_told_without_being_woken():
    async with registered() as (etcd, word, registration):
        word.urgent = True
        registration.wake.set()
        word.record = HERE.record(held_for="s1", unanswered=0)
        await until_told(etcd, word.record)


async def test_a_lost_lease_or_a_failing_etcd_is_met_by_registering_anew():
    async with registered() as (etcd, word, registration):
        await until_told(etcd, word.record)
        etcd.fail(Fault.LOST)
        word.record = HERE.record(held_for="s2", unanswered=0)
        registration.wake.set()
        await until_told(etcd, word.record)
        lease = registration._lease
        await etcd.revoke(lease)
        word.record = HERE.record(held_for="s3", unanswered=0)
        registration.wake.set()
        await until_told(etcd, word.record)
        await eventually(lambda: registration._lease != lease)


async def test_a_word_that_somebody_has_written_over_is_told_again(monkeypatch):
    monkeypatch.setattr(registration_module, "RENEW_EVERY_S", 0.05)
    monkeypatch.setattr(registration_module, "REPEAT_EVERY_S", 0.1)
    async with registered() as (etcd, word, _):
        await until_told(etcd, word.record)
        forged = word.record.model_copy(update={"ready": not word.record.ready})
        await etcd.put("/d/columbus-1", forged.encode())
        await until_told(etcd, word.record)
        found = (await etcd.get("/d/columbus-1")).one
        assert found is not None
        assert found.lease != 0


async def test_a_stop_withdraws_the_record():
    async with registered() as (etcd, word, registration):
        await until_told(etcd, word.record)
        await registration.stop()
        assert await in_etcd(etcd) is None
