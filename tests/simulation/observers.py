"""The health daemons of the three places: each publishes what it can see of the sites, and whether it sees at all.

What they see is a model (`healthcheck` has tests of its own): a site is unfit when it is not reached, its lines to the
carriers are down, or no dispatcher runs there, at two looks in a row. Real is all that the agents make of their words.
"""

from dataclasses import dataclass, field

from sitecontrol.etcd.api import EtcdError, Put
from sitecontrol.records import Observation
from tests.simulation.carrier import Inbox
from tests.simulation.etcd import PLACES, PREFIX, EtcdClient, EtcdCluster, Network
from tests.simulation.scene import Site
from tests.simulation.scheduler import Scheduler, SimulatedClock

LOOK_EVERY = 0.5
WRITE_EVERY = 5.0
RENEW_EVERY = 1.5
LEASE = 5


@dataclass(kw_only=True)
class Truth:
    """What there was to be seen, whatever was told of it."""

    blind: set[str] = field(default_factory=set)  # the places whose probes reach nothing
    unfit_at: dict[tuple[str, str], float] = field(
        default_factory=dict
    )  # (place, site): last seen unfit, with eyes

    def who_saw(self, site: str, since: float) -> set[str]:
        return {place for (place, seen), at in self.unfit_at.items() if seen == site and at >= since}


@dataclass(kw_only=True)
class Observer:
    scheduler: Scheduler
    network: Network
    cluster: EtcdCluster
    sites: dict[str, Site]
    inbox: Inbox
    truth: Truth
    place: str
    _lease: int = 0
    _before: frozenset[str] = frozenset()  # the sites that were bad at the last look

    @property
    def owner(self) -> str:
        return f"health {self.place}"

    def start(self) -> None:
        self.scheduler.spawn(self._run(), self.owner)

    async def _run(self) -> None:
        client = EtcdClient(self.cluster, self.scheduler, self.place)
        written: tuple[bool, frozenset[str]] | None = None
        written_at = renewed_at = 0.0
        while True:
            blind, unfit = self._look()
            now = self.scheduler.now
            try:
                if not self._lease:
                    self._lease, written = await client.grant(LEASE), None
                if written != (blind, unfit) or now - written_at > WRITE_EVERY:
                    await client.txn((), (self._put(blind, unfit),))
                    written, written_at = (blind, unfit), now
                if now - renewed_at > RENEW_EVERY:
                    renewed_at = now
                    if await client.keep_alive(self._lease) == 0:
                        self._lease = 0
            except EtcdError:
                self._lease = 0
            await self.scheduler.wait(LOOK_EVERY)

    def _look(self) -> tuple[bool, frozenset[str]]:
        others = [p for p in PLACES if p != self.place]
        sees = self.place not in self.truth.blind
        blind = not (sees and any(self.network.talk(self.place, p) for p in others))
        bad = frozenset(s for s in self.sites if not ((sees or s == self.place) and self._is_fit(s)))
        if not blind:
            self.truth.unfit_at |= {(self.place, site): self.scheduler.now for site in bad}
        unfit, self._before = bad & self._before, bad
        return blind, unfit

    def _is_fit(self, place: str) -> bool:
        site = self.sites[place]
        return (
            self.network.talk(self.place, place)
            and not site.lost
            and site.sender is not None
            and place not in self.inbox.lost
        )

    def _put(self, blind: bool, unfit: frozenset[str]) -> Put:  # noqa: FBT001
        observation = Observation(
            place=self.place,
            at=SimulatedClock(self.scheduler).wall(),
            blind=blind,
            fit={site: site not in unfit for site in self.sites},
        )
        return Put(key=f"{PREFIX}observations/{self.place}", value=observation.encode(), lease=self._lease)
