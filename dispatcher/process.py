"""Puts a dispatcher together from the settings and runs it until SIGTERM, SIGINT, or a defect. SIGHUP: `reload`.

Everything starts at once and waits for what it needs: HTTP is answered (requests are held, then 503) and links
are bound also while no leader is known. A stop goes the other way round, within two seconds: nothing new comes
in and nothing is claimed; answers are awaited, links unbound, results stored; then connections are closed.
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

import structlog

from dispatcher.clocks import Clocks
from dispatcher.dial import DATABASE, connector, dialler
from dispatcher.engine.changes import Change
from dispatcher.engine.engine import Engine
from dispatcher.exposition import Exposition
from dispatcher.http.app import DIRECTORY, FEEDER, INTAKE, create_app
from dispatcher.http.health import Health
from dispatcher.http.server import DOOR, serve
from dispatcher.leadership import Leadership
from dispatcher.metrics import Metrics
from dispatcher.observed import Observed
from dispatcher.owned import Tasks, together
from dispatcher.registration import Registration
from dispatcher.reload import Reload
from dispatcher.retention.carry_out import Place
from dispatcher.retention.upkeep import Upkeep
from dispatcher.store import DispatcherError
from dispatcher.webhooks.deliverer import Deliverer
from dispatcher.webhooks.exposition import WebhookExposition
from dispatcher.webhooks.poster import Poster
from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Etcd
from sitecontrol.etcd.connect import connect
from sitecontrol.lab_clock import clock_of
from sitecontrol.records import DispatcherRecord
from sitecontrol.settings import DispatcherInstance, Environment, Secrets, Settings, SettingsError
from sitecontrol.view import ClusterView

log = structlog.get_logger()

CLOSE_WITHIN_S = 0.3  # for connections that are not needed any more


class Defect(DispatcherError):  # it says what is the case
    """A part of the dispatcher died; the log says which, and how."""


def instance(settings: Settings, name: str) -> DispatcherInstance:
    """Our own entry. Raises SettingsError that names the others."""
    known = {one.name: one for one in settings.dispatcher.instances}
    if name not in known:
        raise SettingsError(
            f"--name {name!r}: no [[dispatcher.instances]] has that name; there are {sorted(known) or 'none'}"
        )
    return known[name]


class Dispatcher:
    """All parts of one dispatcher; `etcd` is closed by whoever made it. Made inside a running event loop."""

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        name: str,
        etcd: Etcd,
        clock: Clock,
        *,
        file: Path | None = None,
        database: str = DATABASE,
    ) -> None:
        """`file`: what `settings` were read from, and will be again when `reload` is called."""
        self._instance = instance(settings, name)
        self._view = ClusterView(etcd, settings.prefix, clock)
        self._following = Tasks("cluster view")
        metrics = Metrics()
        self._leadership = Leadership(
            settings=settings,
            view=self._view,
            dial=dialler(settings, secrets, name, metrics, database=database),
            clock=clock,
            metrics=metrics,
        )
        self._clocks = Clocks(view=self._view, settings=settings, clock=clock)
        self._engine = Engine(
            name=name,
            leadership=self._leadership,
            settings=settings,
            password_of=lambda carrier: secrets.get(f"carrier-{carrier.name}"),
            clock_agrees=self._clocks.agree,
            clock=clock,
            metrics=metrics,
            program_name=self._program_name,
        )
        self._upkeep = Upkeep(
            leadership=self._leadership,
            connect=connector(settings, secrets, f"{name} upkeep", database=database),
            settings=settings.retention,
            place=Place.of(settings, os.environ),
            clock_agrees=self._clocks.agree,
            clock=clock,
        )
        self._reload = Reload(file=file, running=settings, change=self._change, clock=clock)
        self._observed = Observed(leadership=self._leadership, totals=metrics.totals, clock=clock)
        self._app = create_app(self._leadership, settings, clock, router=self._engine.router)
        self._app[FEEDER].clock_agrees = lambda: self._clocks.agree(self._leadership.gate.node)
        deliverer = Deliverer(
            allowed=[ip_network(network) for network in settings.dispatcher.webhook_networks],
            plain=settings.site.environment is Environment.LAB,
        )
        self._poster = Poster(
            identity=self._engine.identity,
            leadership=self._leadership,
            deliverer=deliverer,
            clock=clock,
            clock_agrees=lambda: self._clocks.agree(self._leadership.gate.node),
        )
        webhooks = WebhookExposition(self._poster, deliverer)
        metrics.registry.register(webhooks)
        self._exposition = Exposition(
            name=name,
            settings=settings,
            leadership=self._leadership,
            engine=self._engine,
            reload=self._reload,
            clocks=self._clocks,
            observed=self._observed,
            upkeep=self._upkeep,
            door=self._app[DOOR],
            webhooks=webhooks,
            metrics=metrics,
            clock=clock,
        )
        metrics.registry.register(self._exposition)
        self._registration = Registration(
            etcd=etcd,
            key=f"{settings.prefix}dispatchers/{name}",
            describe=self._record,
            urgent=lambda: self._leadership.gate.swap is not None,
            clock=clock,
        )
        self._leadership.subscribe(self._registration.wake)
        self._app.add_routes(
            Health(
                condition=self._exposition.condition,
                status=self._exposition.status,
                registry=metrics.registry,
            ).routes()
        )

    @property
    def tasks(self) -> Sequence[Tasks]:
        return (
            self._following,
            self._leadership.tasks,
            self._clocks.tasks,
            *self._engine.tasks,
            self._reload.tasks,
            self._app[FEEDER].tasks,
            self._poster.tasks,
            self._observed.tasks,
            self._upkeep.tasks,
            self._registration.tasks,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set. Raises SettingsError when it cannot listen, or Defect when a part died."""
        host, _, port = self._instance.listen.rpartition(":")
        try:
            runner = await serve(self._app, host.strip("[]"), int(port))
        except OSError as error:
            raise SettingsError(
                f"dispatcher.instances: {self._instance.name}: listen = {self._instance.listen!r}:"
                f" {error.strerror or error}; free the port or choose another"
            ) from error
        self._following.spawn(self._view.run(), "follow")
        self._following.spawn(self._view.confirm(), "confirm who leads")
        await self._leadership.start()
        await self._clocks.start()
        await self._engine.start()
        await self._reload.start()
        await self._app[FEEDER].start()
        await self._poster.start()
        await self._observed.start()
        await self._upkeep.start()
        await self._registration.start()
        log.info("dispatcher_started", listen=self._instance.listen, identity=self._engine.identity)
        try:
            await first_of(stop, *(tasks.died for tasks in self.tasks))
        finally:
            await self._reload.stop()
            await self._app[FEEDER].stop()
            await together(
                [
                    self._engine.stop(),
                    self._poster.stop(),
                    self._app[INTAKE].stop(within_s=CLOSE_WITHIN_S),
                ]
            )
            await together(
                [runner.cleanup(), self._observed.stop(), self._upkeep.stop(), self._registration.stop()]
            )
            await self._clocks.stop()
            await self._leadership.stop()
            await self._following.stop()
            log.info("dispatcher_stopped")
        if not stop.is_set():
            raise Defect

    def reload(self) -> None:
        """Read the file again, soon: see `Reload`."""
        self._reload.ask()

    def _program_name(self, number: int) -> str | None:
        return self._app[DIRECTORY].program_name(number)

    async def _change(self, read: Settings) -> Change:
        return await self._engine.change(read.carrier, read.dispatcher)

    def _record(self) -> DispatcherRecord:
        sender, swap = self._engine.sender, self._leadership.gate.swap
        return self._exposition.condition().record(
            held_for=swap if sender.stopped else None,
            unanswered=sender.unanswered if swap is not None else 0,  # nobody else asks, and it changes fast
        )


async def first_of(*events: asyncio.Event) -> None:
    """Wait until one of these is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def run_dispatcher(settings: Settings, secrets: Secrets, name: str, file: Path | None = None) -> None:
    """Run until told to stop. Raises SettingsError when the settings cannot work here."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = clock_of(settings)
    etcd = connect(settings.etcd, secrets, clock)
    try:
        dispatcher = Dispatcher(settings, secrets, name, etcd, clock, file=file)
        loop.add_signal_handler(signal.SIGHUP, dispatcher.reload)
        await dispatcher.run(stop)
    finally:
        await etcd.aclose()
