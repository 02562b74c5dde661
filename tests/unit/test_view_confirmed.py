"""A picture of etcd whose watch hangs: who leads is asked for, and a leader that is not in the picture is found."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import count

import pytest

from healthcheck.daemon import Daemon
from healthcheck.picture import LiveState
from sitecontrol import view as module
from sitecontrol.clock import SystemClock
from sitecontrol.etcd.api import EtcdUnknown, WatchBatch
from sitecontrol.etcd.memory import MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore
from sitecontrol.records import Leader, Member, Role
from sitecontrol.settings import Secrets
from sitecontrol.view import ClusterView
from tests.unit.health_scenes import settings_of
from tests.unit.held_clock import HeldClock
from tests.unit.leadership_facts import WALL
from tests.waiting import eventually

PREFIX = "/p/"


class HangingWatch(MemoryEtcd):
    """All its calls are answered but the watch, which says nothing and does not end."""

    async def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch, None]:
        await asyncio.Event().wait()
        yield WatchBatch(revision=start_revision)

    async def lead(self, node: str, term: int) -> None:
        lease = await self.grant(600)
        site = node.removesuffix("-a")
        told = Member(node=node, site=site, role=Role.LEADER, term=term, timeline=1, wall=WALL)
        leads = Leader(node=node, incarnation="i", site=site, term=term)
        await self.put(f"{PREFIX}members/{node}", told.encode(), lease=lease)
        await self.put(f"{PREFIX}leader", leads.encode(), lease=lease)


@asynccontextmanager
async def pictured(
    made: type[HangingWatch] = HangingWatch,
) -> AsyncIterator[tuple[HangingWatch, ClusterView]]:
    """A view that has read that Columbus leads in term 1, and whose watch tells of nothing new."""
    etcd = made(MemoryStore(SystemClock()))
    await etcd.lead("columbus-a", 1)
    view = ClusterView(etcd, PREFIX, SystemClock())
    following = asyncio.create_task(view.run())
    await eventually(lambda: leader_in(view) == ("columbus-a", 1))
    try:
        yield etcd, view
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await etcd.aclose()


def leader_in(view: ClusterView) -> tuple[str, int] | None:
    leader = view.snapshot.leader
    return (leader.record.node, leader.record.term) if leader else None


async def test_a_leader_that_the_watch_does_not_tell_of_is_found_by_a_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "QUIET", 0.05)
    async with pictured() as (etcd, view):
        confirming = asyncio.create_task(view.confirm())
        await etcd.lead("denver-a", 2)
        await eventually(lambda: leader_in(view) == ("denver-a", 2))
        confirming.cancel()


class LaggingWatch(HangingWatch):
    """Speaks all the time, of what was long ago: as a member does that is far behind."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.far_behind = asyncio.Event()

    async def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch, None]:
        await self.far_behind.wait()
        for revision in count(start_revision):
            yield WatchBatch(revision=revision)
            await asyncio.sleep(0.02)


async def test_a_watch_that_tells_old_news_without_a_pause_hides_no_leader_for_long(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(module, "READ_EVERY", 0.2)
    async with pictured(LaggingWatch) as (etcd, view):
        assert isinstance(etcd, LaggingWatch)
        for _ in range(1_000):  # twenty seconds, at its pace
            await etcd.put(f"{PREFIX}observations/x", b"old news")
        await etcd.lead("denver-a", 2)
        etcd.far_behind.set()
        confirming = asyncio.create_task(view.confirm())
        await eventually(lambda: leader_in(view) == ("denver-a", 2), within=5.0)
        confirming.cancel()


async def test_a_leader_that_is_as_in_the_picture_is_confirmed_and_nothing_else_is():
    async with pictured() as (_, view):
        read_at, serial = view.snapshot.read_at, view.snapshot.serial
        assert view.leader_at == read_at
        await view.confirm_leader()
        assert view.leader_at is not None
        assert read_at is not None
        assert view.leader_at > read_at
        assert (view.snapshot.read_at, view.snapshot.serial) == (read_at, serial)


async def test_an_etcd_that_does_not_answer_confirms_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "QUIET", 0.05)
    async with pictured() as (etcd, view):
        known = view.leader_at
        etcd.cut()
        with pytest.raises(EtcdUnknown):
            await view.confirm_leader()
        assert view.leader_at == known


async def test_an_etcd_that_began_anew_confirms_no_picture_of_the_one_before():
    """Its revisions are lower, so what is read counts as older than the picture, until the watch begins again."""
    async with pictured() as (etcd, view):
        known = view.leader_at
        view.snapshot = replace(view.snapshot, revision=view.snapshot.revision + 1_000)
        await etcd.lead("denver-a", 2)
        await view.confirm_leader()
        assert leader_in(view) == ("columbus-a", 1)
        assert view.leader_at == known


async def test_a_health_daemon_goes_by_its_picture_only_while_etcd_confirms_who_leads(
    monkeypatch: pytest.MonkeyPatch,
):
    settings, clock = settings_of(), HeldClock()
    assert settings.healthcheck is not None
    async with pictured() as (etcd, view):
        daemon = Daemon(settings, settings.healthcheck, etcd, Secrets(settings.site.secrets_dir, {}), clock)
        monkeypatch.setattr(daemon, "_etcd", lambda: (True, 0.1))  # its reads of another key are answered
        daemon.view.snapshot = replace(view.snapshot, read_at=clock.now())
        assert daemon.live().state is LiveState.LIVE
        await clock.advance(4.0)
        assert daemon.live().state is LiveState.OLD
        daemon.view._leader_read_at = clock.now() - 0.5
        assert daemon.live().state is LiveState.LIVE
        await daemon.aclose()
