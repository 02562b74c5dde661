"""The agent's lease: its end is reckoned from before a renewal was sent, and only an answer moves it."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sitecontrol.agent.keeper import Keeper, place_of
from sitecontrol.clock import SystemClock
from sitecontrol.etcd.memory import Fault, MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore
from sitecontrol.settings import FailoverSettings
from tests.unit.held_clock import HeldClock

TTL = 3
SETTINGS = FailoverSettings(lease_ttl=TTL, renew_every=0.5)


class SlowEtcd(MemoryEtcd):
    """Takes its time on the clock: `on_the_way` seconds before a call is applied, and as many for its answer."""

    def __init__(self, clock: HeldClock) -> None:
        super().__init__(MemoryStore(clock))
        self.clock = clock
        self.on_the_way = 0.0
        self.granted = 0
        self.renewed = 0

    async def grant(self, ttl: int, *, timeout: float | None = None) -> int:
        await self.clock.advance(self.on_the_way)
        lease = await super().grant(ttl)
        await self.clock.advance(self.on_the_way)
        self.granted += 1
        return lease

    async def keep_alive(self, lease: int, *, timeout: float | None = None) -> int:
        await self.clock.advance(self.on_the_way)
        ttl = await super().keep_alive(lease)
        await self.clock.advance(self.on_the_way)
        self.renewed += 1
        return ttl


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def etcd(clock: HeldClock) -> SlowEtcd:
    return SlowEtcd(clock)


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    return tmp_path / "lease"


@asynccontextmanager
async def keeping(etcd: SlowEtcd, state_file: Path, place: str = "") -> AsyncIterator[Keeper]:
    keeper = Keeper(etcd, etcd.clock, SETTINGS, state_file, place=place)
    running = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def kept(state_file: Path) -> str | None:
    """What it says, or None when there is none."""
    return state_file.read_text() if state_file.exists() else None


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds; only turns of the loop pass, no time on the clock."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 # it is looked at after every turn
            await asyncio.sleep(0)


async def settle() -> None:
    """Let everything run that does not wait for the clock."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_slow_grant_counts_from_before_it_was_sent(etcd: SlowEtcd, state_file: Path):
    etcd.on_the_way, sent_at = 0.4, etcd.clock.now()
    async with keeping(etcd, state_file) as keeper:
        await until(lambda: keeper.lease.id)
        assert keeper.lease.ends_at == sent_at + TTL
        assert keeper.heard_at == pytest.approx(sent_at + 0.8)


async def test_a_slow_renewal_counts_from_before_it_was_sent_and_ends_before_etcds_own_reckoning(
    etcd: SlowEtcd, state_file: Path
):
    async with keeping(etcd, state_file) as keeper:
        await until(lambda: keeper.lease.id)
        etcd.on_the_way = 0.4
        await settle()
        await etcd.clock.advance(SETTINGS.renew_every)
        sent_at = etcd.clock.now()
        await until(lambda: etcd.renewed == 1)
        assert keeper.lease.ends_at == sent_at + TTL
        in_etcd = etcd.store.next_expiry
        assert in_etcd is not None
        assert keeper.lease.ends_at < in_etcd


async def test_a_renewal_without_an_answer_moves_nothing_and_is_tried_again(etcd: SlowEtcd, state_file: Path):
    async with keeping(etcd, state_file) as keeper:
        await until(lambda: keeper.lease.id)
        before = keeper.lease
        heard_at = keeper.heard_at
        await settle()
        etcd.cut()
        await etcd.clock.advance(SETTINGS.renew_every)
        await settle()
        assert keeper.lease == before
        assert keeper.heard_at == heard_at
        etcd.mend()
        await etcd.clock.advance(0.1)
        await until(lambda: etcd.renewed == 1)
        assert keeper.lease.id == before.id
        assert keeper.lease.ends_at == etcd.clock.now() + TTL


async def test_a_lease_that_etcd_lost_is_no_lease_at_once_and_another_is_taken(
    etcd: SlowEtcd, state_file: Path
):
    async with keeping(etcd, state_file) as keeper:
        await until(lambda: keeper.lease.id)
        first = keeper.lease.id
        await settle()
        await etcd.revoke(first)
        etcd.fail(Fault.LOST)  # of the next grant, so that there is a moment without a lease
        await etcd.clock.advance(SETTINGS.renew_every)
        await until(lambda: etcd.renewed == 1)
        await settle()
        assert (keeper.lease.id, keeper.lease.former) == (0, first)
        await etcd.clock.advance(0.1)
        await until(lambda: keeper.lease.id)
        assert keeper.lease.id != first
        await etcd.clock.advance(SETTINGS.renew_every)
        await until(lambda: etcd.renewed == 2)
        await settle()
        assert keeper.lease.former == first  # a record of ours may still be seen under it
        assert (kept(state_file) or "").split()[0] == f"{keeper.lease.id:x}"


async def test_a_grant_without_an_answer_is_no_lease(etcd: SlowEtcd, state_file: Path):
    etcd.fail(Fault.APPLIED)
    async with keeping(etcd, state_file) as keeper:
        await settle()
        assert keeper.lease.id == 0
        assert kept(state_file) is None


async def test_a_restarted_agent_takes_its_lease_up_again_and_trusts_it_only_when_it_was_renewed(
    etcd: SlowEtcd, state_file: Path
):
    async with keeping(etcd, state_file) as keeper:
        await until(lambda: keeper.lease.id)
        kept = keeper.lease.id
    await etcd.clock.advance(1.0)
    etcd.cut()
    async with keeping(etcd, state_file) as keeper:
        await settle()
        assert (keeper.lease.id, keeper.lease.ends_at) == (kept, etcd.clock.now())
        etcd.mend()
        await etcd.clock.advance(0.1)
        await until(lambda: etcd.renewed == 1)
        assert (keeper.lease.id, keeper.lease.ends_at) == (kept, etcd.clock.now() + TTL)
    assert etcd.granted == 1


async def test_a_lease_kept_on_disk_that_has_run_out_meanwhile_is_replaced(etcd: SlowEtcd, state_file: Path):
    async with keeping(etcd, state_file) as keeper:
        await until(lambda: keeper.lease.id)
        old = keeper.lease.id
    await etcd.clock.advance(TTL + 1)
    async with keeping(etcd, state_file) as keeper:
        await until(lambda: etcd.granted == 2)
        assert keeper.lease.id not in (0, old)


@pytest.mark.parametrize("content", ["", "no number"])
async def test_a_broken_file_is_no_lease(etcd: SlowEtcd, state_file: Path, content: str):
    await asyncio.to_thread(state_file.write_text, content)
    async with keeping(etcd, state_file) as keeper:
        await until(lambda: keeper.lease.id)
        assert etcd.granted == 1


def test_the_clock_that_leases_are_counted_on_goes_on_through_a_suspend(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: 12.5}.__getitem__)
    assert SystemClock().now() == 12.5


async def test_a_copy_of_the_disk_does_not_take_up_the_lease_of_what_it_is_a_copy_of(
    etcd: SlowEtcd, tmp_path: Path
):
    ours, copied = tmp_path / "ours", tmp_path / "copied"
    ours.mkdir()
    here = place_of(ours)
    async with keeping(etcd, ours / "lease", here) as keeper:
        await until(lambda: keeper.lease.id)
        first = keeper.lease.id
    shutil.copytree(ours, copied)
    async with keeping(etcd, ours / "lease", place_of(ours)) as keeper:
        await until(lambda: keeper.lease.ends_at > etcd.clock.now())
        assert keeper.lease.id == first
    for elsewhere in (place_of(copied), here.replace(here.partition("/")[0], "another-start")):
        shutil.copy(ours / "lease", copied / "lease")
        async with keeping(etcd, copied / "lease", elsewhere) as keeper:
            await until(lambda: keeper.lease.ends_at > etcd.clock.now())
            assert keeper.lease.id not in {0, first}
