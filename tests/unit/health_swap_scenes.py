"""What agents make of the words of the places, as time passes: a scene that a test changes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import AskForSwap
from sitecontrol.leadership.facts import Facts, LeaseFacts
from sitecontrol.leadership.observed import HEALTH_SWAP, Watch, look
from sitecontrol.leadership.table import Decision, Lane
from sitecontrol.records import Desired, HistoryEntry, Observation
from sitecontrol.settings import FailoverSettings
from sitecontrol.view import Entry, Snapshot
from tests.unit.leadership_facts import (
    DENVER,
    WALL,
    at_columbus,
    cluster,
    entry,
)

PLACES = ("columbus", "denver", "witness")
UNBOUND = "no carrier link is bound: link/columbus-1/any: unbound"
REPEATED_EVERY = 10.0  # seconds, as health daemons do
SETTINGS = FailoverSettings(unfit_for=10.0, swap_cool_down=300.0, max_swaps_per_hour=2)


class Scene:
    """Three places that write their words anew every ten seconds, and one agent that looks ten times a second."""

    def __init__(
        self, base: Callable[..., Facts] = at_columbus, settings: FailoverSettings = SETTINGS
    ) -> None:
        self.base = base
        self.settings = settings
        self.now = self.written_at = 100.0
        self.wall = WALL
        self.watch = Watch()
        self.etcd_heard = True
        self.cluster: Snapshot = cluster()
        self.silent: set[str] = set()  # they hold their lease and write nothing new
        for place in PLACES:
            self.says(place)
        self.look()

    def says(
        self,
        place: str,
        *,
        columbus: bool | None = True,
        denver: bool | None = True,
        blind: bool = False,
        named: str | None = None,
        lease: int | None = None,
    ) -> None:
        """What the place publishes from now on."""
        fit = {site: word for site, word in (("columbus", columbus), ("denver", denver)) if word is not None}
        record = Observation(
            place=named or place,
            at=self.wall,
            blind=blind,
            fit=fit,
            reasons={"columbus": (UNBOUND,)} if columbus is False else {},
        )
        bound = 100 + PLACES.index(place) if lease is None else lease
        self.change(observations={**self.cluster.observations, place: entry(record, bound, self.revision)})

    def loses_its_links(self) -> None:
        """All three see that columbus has no carrier link any more."""
        for place in PLACES:
            self.says(place, columbus=False)

    @property
    def revision(self) -> int:
        return self.cluster.revision + 1

    def change(self, **change: Any) -> None:
        self.cluster = replace(self.cluster, revision=self.revision, serial=self.cluster.serial + 1, **change)

    def wants(self, **change: Any) -> None:
        known = self.cluster.desired.record if self.cluster.desired else Desired()
        self.change(desired=entry(known.model_copy(update=change), mod_revision=self.revision))

    def has_moved(self, name: str, at: datetime | None = None) -> None:
        """Health's swap stands in the history."""
        told = HistoryEntry(
            term=9, node=DENVER, site="denver", at=at or self.wall, kind="swap", by="health",
            evidence={"rule": HEALTH_SWAP},
        )  # fmt: skip
        kept = Entry(record=told, mod_revision=self.revision, create_revision=self.revision, lease=0)
        self.change(history={**self.cluster.history, name: kept})

    def look(self) -> None:
        facts = self.facts
        self.watch = look(
            self.watch,
            now=self.now,
            wall=self.wall,
            cluster=self.cluster,
            places=PLACES,
            site_of=facts.site_of,
            etcd_here=facts.etcd_here,
            home=facts.home,
        )

    def passes(self, seconds: float, *, every: float = 0.1) -> Decision:
        """The decision after so long; the clock of the places goes on with ours."""
        for _ in range(round(seconds / every)):
            self.now += every
            self.wall += timedelta(seconds=every)
            if self.now - self.written_at >= REPEATED_EVERY:
                self._write_anew()
            self.look()
        return self.decision

    def _write_anew(self) -> None:
        self.written_at = self.now
        words = {
            place: known if place in self.silent else self._moved(known)
            for place, known in self.cluster.observations.items()
        }
        self.change(observations=words)

    def _moved(self, known: Entry[Observation]) -> Entry[Observation]:
        return replace(known, record=known.record.model_copy(update={"at": self.wall}))

    @property
    def facts(self) -> Facts:
        base = self.base()
        return replace(
            base,
            now=self.now,
            wall=self.wall,
            settings=self.settings,
            cluster=self.cluster,
            etcd_heard_at=self.now if self.etcd_heard else self.now - 60,
            lease=LeaseFacts(id=base.lease.id, ends_at=self.now + 2),
            places=PLACES,
            health=self.watch,
        )

    @property
    def decision(self) -> Decision:
        return decide(Lane.HEALTH, self.facts)


def asks(decision: Decision) -> bool:
    return isinstance(decision.effect, AskForSwap)
