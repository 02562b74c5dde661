"""The tasks: looks on time, publishing through etcd's troubles, the feed of the page."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from healthcheck.board import Board
from healthcheck.history import History
from healthcheck.noc.feed import Feed
from healthcheck.noc.panels import PANELS
from healthcheck.noc.render import Renderer
from healthcheck.observation import observe
from healthcheck.probes.result import Result
from healthcheck.publisher import LEASE_TTL, Publisher
from healthcheck.scheduler import Scheduler, look
from healthcheck.targets import Kind, Target, What
from healthcheck.verdicts import Limits, Verdict
from sitecontrol.clock import SystemClock
from sitecontrol.etcd.memory import MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore
from sitecontrol.records import Observation
from sitecontrol.view import LogEnd
from tests.unit.health_scenes import HISTORY, HeldClock, Stage, past, snapshot_of

KEY = "/hotsite/test/observations/columbus"


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def target_of(name: str, **changes: Any) -> Target:
    values: dict[str, Any] = {
        "name": name,
        "what": What.DEVICE,
        "kind": Kind.TCP,
        "address": name,
        "place": "columbus",
        "every": 0.01,
        "timeout": 0.5,
        "limits": Limits(rise=1, fall=1),
    }
    return Target(**(values | changes))


class Scripted:
    """A probe that hangs at the named targets and counts its looks elsewhere."""

    def __init__(self, *hangs: str) -> None:
        self.hangs = set(hangs)
        self.seen: list[str] = []
        self.under_way: dict[str, int] = {}
        self.most = 0
        self.enough = asyncio.Event()

    async def __call__(self, target: Target, deadline: float) -> Result:
        self.under_way[target.name] = self.under_way.get(target.name, 0) + 1
        self.most = max(self.most, self.under_way[target.name])
        try:
            if target.name in self.hangs:
                await asyncio.Event().wait()
            self.seen.append(target.name)
            if len(self.seen) >= 20:
                self.enough.set()
            return Result(ok=True, detail="fine")
        finally:
            self.under_way[target.name] -= 1


# ---- the scheduler ------------------------------------------------------------------------------------------


async def test_a_target_that_hangs_delays_no_other() -> None:
    probe, clock = Scripted("slow"), SystemClock()
    targets = [target_of("slow", timeout=30.0), target_of("quick")]
    board = Board(targets, clock)
    async with running(Scheduler(targets, {Kind.TCP: probe}, board, clock).run()), asyncio.timeout(10):
        await probe.enough.wait()
    assert set(probe.seen) == {"quick"}


async def test_looks_at_one_target_never_pile_up() -> None:
    probe, clock = Scripted("slow"), SystemClock()
    targets = [target_of("slow", timeout=0.05), target_of("quick")]
    board = Board(targets, clock)
    async with running(Scheduler(targets, {Kind.TCP: probe}, board, clock).run()), asyncio.timeout(10):
        await probe.enough.wait()
    assert probe.most == 1


async def test_a_look_is_cut_off_at_its_deadline_and_is_bad() -> None:
    result = await look(Scripted("slow"), target_of("slow", timeout=0.02))
    assert (result.ok, result.detail) == (False, "no answer within 0.02 s")


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (ValueError("nonsense\x00 from\nafar"), "ValueError: nonsense from afar"),
        (RuntimeError(), "RuntimeError"),
    ],
)
async def test_whatever_a_probe_raises_is_bad_news_about_its_target(error: Exception, detail: str) -> None:
    async def probe(target: Target, deadline: float) -> Result:
        raise error

    result = await look(probe, target_of("x"))
    assert (result.ok, result.detail) == (False, detail)


async def test_what_is_derived_is_looked_at_right_after_its_source() -> None:
    clock = HeldClock()
    targets = [target_of("source"), target_of("derived", source="source")]
    board = Board(targets, clock)
    probe = Scripted()
    await Scheduler(targets, {Kind.TCP: probe}, board, clock).beat(targets[0])
    assert probe.seen == ["source", "derived"]


async def test_a_change_of_verdict_is_told_and_equal_looks_are_not() -> None:
    clock, target = HeldClock(), target_of("x", limits=Limits(rise=1, fall=2))
    board = Board([target], clock)
    assert board.record(target, Result(ok=True, detail="fine")) is not None
    board.changed.clear()
    assert board.record(target, Result(ok=True, detail="fine")) is None
    assert not board.changed.is_set()
    transition = board.record(target, Result(ok=False, detail="gone"))
    assert transition is not None
    assert transition.after is Verdict.GOING_DOWN
    assert board.changed.is_set()


# ---- the publisher ------------------------------------------------------------------------------------------


def observation(*bad: str) -> Observation:
    settings, board, clock = Stage(bad=dict.fromkeys(bad, "refused")).board()
    return observe(settings.site.name, settings.place, list(board.rows()), "columbus-a", clock.wall())


async def until(store: MemoryStore, condition: Callable[[], bool], within: float = 10.0) -> None:
    """Wait for a condition on what is stored."""
    changed = asyncio.Event()
    unlisten = store.listen(changed.set)
    try:
        async with asyncio.timeout(within):
            while not condition():
                changed.clear()
                await changed.wait()
    finally:
        unlisten()


def stored(store: MemoryStore) -> Observation | None:
    kv = store.get(KEY).one
    return Observation.decode(kv.value) if kv else None


async def test_an_observation_is_published_with_a_lease_of_its_own() -> None:
    clock = SystemClock()
    store = MemoryStore(clock)
    publisher = Publisher(MemoryEtcd(store), KEY, clock)
    publisher.offer(observation())
    async with running(publisher.run()):
        await until(store, lambda: stored(store) is not None)
        kv = store.get(KEY).one
        assert kv is not None
        assert kv.lease != 0
        assert publisher.published
    await publisher.aclose()
    assert stored(store) is None  # it does not grow old: it disappears at once


async def test_news_is_published_at_once_and_equal_words_are_not_written_again() -> None:
    clock = SystemClock()
    store = MemoryStore(clock)
    publisher = Publisher(MemoryEtcd(store), KEY, clock)
    first = observation()
    publisher.offer(first)
    async with running(publisher.run()):
        await until(store, lambda: stored(store) is not None)
        revision = store.get(KEY).one.mod_revision  # type: ignore[union-attr] # it was just seen
        publisher.offer(first.model_copy(update={"at": clock.wall()}))
        worse = observation("agent/denver")
        publisher.offer(worse)
        await until(
            store, lambda: (found := stored(store)) is not None and found.fit == worse.fit, within=1.0
        )
        assert store.get(KEY).one.mod_revision == revision + 1  # type: ignore[union-attr] # same


async def test_a_lost_lease_is_granted_anew_by_itself() -> None:
    clock = SystemClock()
    store = MemoryStore(clock)
    publisher = Publisher(MemoryEtcd(store), KEY, clock)
    publisher.offer(observation())
    async with running(publisher.run()):
        await until(store, lambda: stored(store) is not None)
        lost = store.get(KEY).one.lease  # type: ignore[union-attr] # it was just seen
        store.revoke(lost)
        await until(store, lambda: stored(store) is not None)
        assert store.get(KEY).one.lease != lost  # type: ignore[union-attr] # same


async def test_losing_etcd_ends_nothing_and_its_return_is_noticed() -> None:
    clock = SystemClock()
    store = MemoryStore(clock)
    etcd = MemoryEtcd(store)
    etcd.cut()
    publisher = Publisher(etcd, KEY, clock)
    publisher.offer(observation())
    async with running(publisher.run()):
        await asyncio.sleep(0)
        assert not publisher.published
        etcd.mend()
        await until(store, lambda: stored(store) is not None)
    assert publisher.published
    assert LEASE_TTL == 5


# ---- the last swaps -----------------------------------------------------------------------------------------


async def test_the_last_swaps_are_kept_when_etcd_is_lost_and_bad_records_are_left_out() -> None:
    clock = HeldClock()
    store = MemoryStore(clock)
    etcd = MemoryEtcd(store)
    for entry in HISTORY:
        await etcd.put(f"/hotsite/test/history/{entry.term}", entry.encode())
    await etcd.put("/hotsite/test/history/9", b'{"term": "<script>"}')
    history = History(etcd, "/hotsite/test/", clock, snapshot_of)
    assert await history.refresh()
    assert [e.term for e in history.entries] == [4, 3, 2, 1]
    assert history.bad == 1
    etcd.cut()
    clock.seconds += 60
    assert not await history.refresh()
    assert len(history.entries) == 4


async def test_how_long_a_failover_took_is_read_as_soon_as_the_log_tells_that_it_is_over() -> None:
    clock = HeldClock()
    etcd = MemoryEtcd(MemoryStore(clock))
    before = past(5, "denver", "failover", "nobody led")
    await etcd.put("/hotsite/test/history/5", before.encode())
    seen = [snapshot_of()]
    history = History(etcd, "/hotsite/test/", clock, lambda: seen[0])
    assert await history.refresh()
    timed = before.model_copy(update={"durations_ms": {"detection": 2100}})
    await etcd.put("/hotsite/test/history/5", timed.encode())
    assert not await history.refresh()  # nothing tells of it yet
    seen[0] = replace(seen[0], log_end=LogEnd(number=7))
    assert await history.refresh()
    assert history.entries[0].durations_ms == {"detection": 2100}


# ---- the feed -------------------------------------------------------------------------------------------------


class Scenes:
    def __init__(self) -> None:
        self.scene = Stage().scene()
        self.made = 0

    def __call__(self) -> Any:
        self.made += 1
        return self.scene


def feed_of(scenes: Scenes, clock: Any) -> Feed:
    return Feed(scenes, Renderer(), clock, asyncio.Event())


async def test_a_watcher_that_comes_back_gets_only_what_changed_since() -> None:
    scenes, clock = Scenes(), HeldClock()
    feed = feed_of(scenes, clock)
    feed.refresh()
    everything = feed.since("")
    assert {c.panel for c in everything} == set(PANELS)
    last = everything[-1].id
    assert feed.since(last) == []
    scenes.scene = Stage(bad={"carrier/alto": "refused"}).scene()
    clock.seconds += 1
    feed.refresh()
    assert {c.panel for c in feed.since(last)} == {"attention", "links", "probes"}


@pytest.mark.parametrize(
    "last", ["", "x", "-", "0-0", "deadbeef-99999", "-99999999999999999999", "é-1", "1" * 9000]
)
async def test_an_id_that_is_not_ours_means_send_everything(last: str) -> None:
    feed = feed_of(Scenes(), HeldClock())
    feed.refresh()
    assert {c.panel for c in feed.since(last)} == set(PANELS)


async def test_a_panel_that_did_not_change_is_not_sent_again() -> None:
    scenes, clock = Scenes(), HeldClock()
    feed = feed_of(scenes, clock)
    feed.refresh()
    last = feed.since("")[-1].id
    clock.seconds += 1
    feed.refresh()
    assert feed.since(last) == []


async def test_nothing_is_rendered_while_nobody_watches() -> None:
    scenes = Scenes()
    feed = feed_of(scenes, SystemClock())
    async with running(feed.run()):
        await asyncio.sleep(0)
        assert scenes.made == 0
        following = feed.follow("")
        assert {c.panel for c in await anext(following)} == set(PANELS)
        assert feed.watchers == 1
        await following.aclose()
        assert feed.watchers == 0


async def test_news_reaches_a_watcher_before_the_next_beat() -> None:
    scenes, news = Scenes(), asyncio.Event()
    feed = Feed(scenes, Renderer(), SystemClock(), news)
    async with running(feed.run()), asyncio.timeout(10):
        following = feed.follow("")
        await anext(following)
        scenes.scene = Stage(bad={"carrier/alto": "refused"}).scene()
        news.set()
        changed: set[str] = set()
        while not changed:
            changed = {c.panel for c in await anext(following)}
        await following.aclose()
    assert "attention" in changed


async def test_a_panel_that_cannot_be_made_does_not_take_the_others_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: Any) -> Any:
        raise KeyError("a bug")

    monkeypatch.setitem(PANELS, "queue", broken)  # type: ignore[arg-type] # a Mapping by declaration, a dict by nature
    feed = feed_of(Scenes(), HeldClock())
    feed.refresh()
    bodies = feed.bodies()
    assert "cannot be shown" in bodies["queue"]
    assert "Columbus" in bodies["overview"]
