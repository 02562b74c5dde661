"""The sending half of a dispatcher, put together: links, sender, results, receipts, doubt, and their journal.

Links are bound at both sites, so that the hot one proves every day that it could send; only the gate decides
who writes to them. `stop` goes the way of a text: no more claims, wait for answers, unbind, store what became
known, and only then end. `change` exchanges carriers meanwhile (`links`).
"""

from collections.abc import Callable, Sequence
from secrets import token_hex

import structlog

from dispatcher.engine.changes import Change, compare
from dispatcher.engine.doubt import Doubt
from dispatcher.engine.links import Links, Pair
from dispatcher.engine.predecessors import Predecessors
from dispatcher.engine.queries import Queries
from dispatcher.engine.receipts import Receipts
from dispatcher.engine.results import Results
from dispatcher.engine.router import Router
from dispatcher.engine.routing import Table
from dispatcher.engine.sender import Sender
from dispatcher.journal import HEAL_EVERY_S, Journal, remains
from dispatcher.leadership import Leadership
from dispatcher.metrics import Metrics
from dispatcher.owned import Tasks
from dispatcher.smpp.link import Link
from dispatcher.smpp.pdu import BindMode
from sitecontrol.clock import Clock
from sitecontrol.settings import DispatcherSettings, Settings
from sitecontrol.settings_carriers import Carrier
from sitecontrol.settings_types import Name

log = structlog.get_logger()

DRAIN_S = 0.7  # at a stop: for the answers to what was written
UNBIND_S = 0.2
STORE_S = 0.5  # at a stop: for the last results


class Engine:
    def __init__(
        self,
        *,
        name: str,
        leadership: Leadership,
        settings: Settings,
        password_of: Callable[[Carrier], str],
        clock_agrees: Callable[[Name | None], bool],
        clock: Clock,
        metrics: Metrics,
        program_name: Callable[[int], str | None] = lambda _: None,
    ) -> None:
        # Unique to this life of the process: claims of a predecessor by the same name are not ours.
        self.identity = f"{name}.{token_hex(4)}"
        self._folder = settings.site.state_dir / "journal"
        self.journal = Journal(self._folder, self.identity)
        self.results = Results(leadership=leadership, journal=self.journal, clock=clock, metrics=metrics)
        self.receipts = Receipts(
            leadership=leadership,
            clock=clock,
            metrics=metrics,
            reply_wait_s=settings.dispatcher.reply_wait,
        )
        self.queries = Queries(store=self.receipts.take, clock=clock)
        self.router = Router(clock=clock, program_name=program_name)
        self.sender = Sender(
            router=self.router,
            leadership=leadership,
            results=self.results,
            journal=self.journal,
            identity=self.identity,
            settings=settings.dispatcher,
            clock=clock,
            metrics=metrics,
        )
        self.doubt = Doubt(
            leadership=leadership,
            sender=self.sender,
            identity=self.identity,
            settings=settings.dispatcher,
            clock_agrees=clock_agrees,
            clock=clock,
            metrics=metrics,
        )
        self.predecessors = Predecessors(
            left=lambda: remains(self._folder, name), leadership=leadership, results=self.results, clock=clock
        )
        self._settings = settings.dispatcher
        self._password_of = password_of
        self._clock = clock
        self._links = Links(settings.carrier, self._link)
        self._heals = Tasks("journal")

    @property
    def tasks(self) -> tuple[Tasks, ...]:
        return (
            self.results.tasks,
            self.receipts.tasks,
            self.sender.tasks,
            self.doubt.tasks,
            self.queries.tasks,
            self.predecessors.tasks,
            self._heals,
            self._links.tasks,
        )

    @property
    def links(self) -> list[Pair]:
        return self._links.all

    @property
    def carriers(self) -> tuple[Carrier, ...]:
        return self._links.carriers

    @property
    def draining(self) -> list[str]:
        return self._links.draining

    @property
    def links_bound(self) -> int:
        """Those over which texts could go: receivers do not count."""
        return sum(link.bound for _, link in self.links if link.sends)

    @property
    def links_that_send(self) -> int:
        return sum(link.sends for _, link in self.links)

    async def start(self) -> None:
        """Only once nobody else can be this dispatcher: what its earlier lives left open is taken over."""
        self.journal.begin()
        self._heals.spawn(heal_forever(self.journal, self._clock), "heal")
        await self.results.start()
        await self.predecessors.start()
        await self.receipts.start()
        await self._links.start()
        await self.sender.start(self._links.sending, self._table(self._settings))
        await self.queries.start(self._links.sending)
        await self.doubt.start()

    async def stop(self) -> None:
        """Claim no more, drain, unbind, store what is known. Takes at most DRAIN_S + UNBIND_S + STORE_S."""
        await self.doubt.stop()
        await self.queries.stop()
        await self.predecessors.stop()
        await self.sender.stop(drain=DRAIN_S)
        await self._links.stop(UNBIND_S)
        await self.receipts.stop()
        await self.results.stop(within=STORE_S)
        await self._heals.stop()
        self.journal.close()

    async def change(self, carriers: Sequence[Carrier], settings: DispatcherSettings) -> Change:
        """Other carriers, or the same with other settings, while texts are sent. One change at a time.

        Each text goes to one carrier all the same: a link that is taken away is written to no longer before its last
        answers are waited for. Raises SettingsError or ValueError, and has changed nothing, when a carrier's password
        is missing or does not fit.
        """
        change = compare(self.carriers, carriers)

        async def send_over(links: list[Pair]) -> None:
            await self.sender.change(links, self._table(settings))
            self.queries.use(links)

        await self._links.change(carriers, change, send_over)
        self.router.forget(change.bound)
        return change

    def _table(self, settings: DispatcherSettings) -> Table:
        return Table(self.carriers, settings.route_by, settings.route_wait)

    def _link(self, carrier: Carrier, name: str, mode: BindMode) -> Link:
        return Link(
            carrier,
            self._password_of(carrier),
            on_deliver=self.receipts.take if carrier.query_after is None else self.queries.deliver,
            on_late=self.sender.late_answer,
            on_answer=None
            if carrier.query_after is None
            else lambda submission, answer: self.queries.taken(carrier, submission.submit, answer),
            clock=self._clock,
            name=name,
            mode=mode,
        )


async def heal_forever(journal: Journal, clock: Clock) -> None:
    """A journal that is broken begins anew as soon as its disk lets it."""
    while True:
        await clock.sleep(HEAL_EVERY_S)
        journal.heal()
