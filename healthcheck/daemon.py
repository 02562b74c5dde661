"""The daemon put together: what it knows, and the tasks that keep it so.

Everything that can hang has a task of its own. The page and the health endpoints answer from memory, so they
answer whatever else is down.
"""

import asyncio

from healthcheck.board import Board
from healthcheck.history import History
from healthcheck.noc.feed import Feed
from healthcheck.noc.render import Renderer
from healthcheck.noc.scene import Scene
from healthcheck.observation import observe
from healthcheck.picture import Held, Live, LiveState, live, remember
from healthcheck.probes.catalog import Catalog
from healthcheck.publisher import Publisher
from healthcheck.reports import DispatcherReport, tolerant
from healthcheck.scheduler import Scheduler
from healthcheck.targets import What, targets_of
from healthcheck.traffic import Meter, Reading
from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Etcd
from sitecontrol.records import Observation
from sitecontrol.settings import HealthSettings, PlaceKind, Secrets, Settings
from sitecontrol.tls import client_context
from sitecontrol.view import ClusterView

ETCD_SILENT = (
    3.0  # seconds without a linearizable read, or a word about who leads: then what etcd said is called old
)
PULSE = 1.0  # seconds between observations, and between samples of the traffic


class Daemon:
    """`run` until cancelled, then `aclose`."""

    def __init__(
        self, settings: Settings, health: HealthSettings, etcd: Etcd, secrets: Secrets, clock: Clock
    ) -> None:
        targets = targets_of(settings, health)
        self.settings = settings
        self._clock = clock
        self.view = ClusterView(etcd, settings.prefix, clock)
        self.board = Board(targets, clock)
        self._catalog = Catalog(
            {t.kind for t in targets},
            self.board,
            etcd,
            secrets,
            clock,
            settings.failover.canary_max_age,
            client_context(settings.security),
        )
        self._scheduler = Scheduler(targets, self._catalog.probes, self.board, clock)
        self._publisher = Publisher(etcd, f"{settings.prefix}observations/{settings.site.name}", clock)
        self._history = History(etcd, settings.prefix, clock, lambda: self.view.snapshot)
        self._meter = Meter()
        self._durability: Held | None = None
        self._news = asyncio.Event()
        self.renderer = Renderer()
        self.feed = Feed(self.scene, self.renderer, clock, self._news)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.view.run(), name="cluster view")
            group.create_task(self.view.confirm(), name="who leads")
            group.create_task(self._scheduler.run(), name="scheduler")
            group.create_task(self._publisher.run(), name="publisher")
            group.create_task(self.feed.run(), name="feed")
            group.create_task(self._every_pulse(), name="pulse")
            group.create_task(self._read_history(), name="history")
            group.create_task(self._tell_of_verdicts(), name="news: verdicts")
            group.create_task(self._tell_of_records(), name="news: records")

    async def aclose(self) -> None:
        await self._publisher.aclose()
        await self._catalog.aclose()

    # ---- what is known -----------------------------------------------------------------------------------------

    def scene(self) -> Scene:
        rows = list(self.board.rows())
        answers, silent = self._etcd()
        shown = self.live()
        return Scene(
            settings=self.settings,
            at=self._clock.wall(),
            snapshot=self.view.snapshot,
            etcd_answers=answers,
            etcd_silent_s=silent,
            live=shown,
            durability=remember(self._durability, shown.durability.value, self._clock.wall()),
            rows=rows,
            own=self._observation(),
            history=self._history.entries,
            series={flow: tuple(values) for flow, values in self._meter.series.items()},
        )

    def live(self) -> Live:
        answers, _ = self._etcd()
        told_at = self.view.leader_at
        told = told_at is not None and self._clock.now() - told_at < ETCD_SILENT
        return live(self.settings, self.view.snapshot, list(self.board.rows()), etcd_answers=answers and told)

    def reasons(self) -> list[str]:
        """Why this daemon cannot do its part; empty when it can."""
        found = []
        if self.view.snapshot.read_at is None:
            found.append("etcd was not read yet")
        if not self._publisher.published:
            found.append("the observation is not published")
        if self._observation().blind:
            found.append("nothing outside this place is reached")
        return found

    @property
    def site_is_live(self) -> bool:
        shown = self.live()
        return shown.state is LiveState.LIVE and shown.site == self.settings.site.name

    @property
    def site_stands_by(self) -> bool:
        """Whether a node of this site, which is not live, is in step."""
        sync = self.view.snapshot.sync
        if self.settings.here.kind is PlaceKind.WITNESS or sync is None or self.site_is_live:
            return False
        return any(self.settings.site_of(s.node) == self.settings.site.name for s in sync.record.standbys)

    def _etcd(self) -> tuple[bool, float | None]:
        """Whether etcd answers, and for how long it has been silent (None: it never spoke)."""
        row = self.board.row(What.ETCD)
        if row is None or self.view.snapshot.read_at is None:
            return False, None
        now = self._clock.now()
        good = next((k.at for k in reversed(row.looks) if k.result.ok), self.view.snapshot.read_at)
        return now - good < ETCD_SILENT, now - good

    def _observation(self) -> Observation:
        snapshot = self.view.snapshot
        return observe(
            self.settings.site.name,
            self.settings.place,
            list(self.board.rows()),
            snapshot.leader.record.node if snapshot.leader else None,
            self._clock.wall(),
        )

    # ---- tasks -------------------------------------------------------------------------------------------------

    async def _every_pulse(self) -> None:
        while True:
            self._publisher.offer(self._observation())
            self._durability = remember(self._durability, self.live().durability.value, self._clock.wall())
            self._meter.sample(self._readings(), self._clock.now())
            await self._clock.sleep(PULSE)

    def _readings(self) -> dict[str, Reading]:
        found = {}
        for row in self.board.rows():
            raw = row.last.evidence.get("report") if row.last and row.last.ok else None
            if row.target.what is What.DISPATCHER and isinstance(raw, dict):
                counters = tolerant(DispatcherReport, raw).counters
                found[row.target.of] = Reading(at=row.looks[-1].at, counters=counters)
        return found

    async def _read_history(self) -> None:
        while True:
            if await self._history.refresh():
                self._news.set()
            await self._clock.sleep(PULSE)

    async def _tell_of_verdicts(self) -> None:
        while True:
            await self.board.changed.wait()
            self.board.changed.clear()
            self._publisher.offer(self._observation())
            self._news.set()

    async def _tell_of_records(self) -> None:
        seen = 0
        while True:
            seen = (await self.view.changed(seen)).serial
            self._news.set()
