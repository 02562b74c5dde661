"""One run: the cluster at rest, a schedule of faults, everything mended, and the invariants checked all the way."""

import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sitecontrol.etcd.api import Put
from sitecontrol.leadership.invariants import Broken
from sitecontrol.profiles import Profile
from sitecontrol.records import DispatcherRecord, Initialize, InStep, Leader, Sync, Term
from sitecontrol.settings import Settings
from tests.simulation.carrier import Inbox
from tests.simulation.clients import Dispatcher, Ledger
from tests.simulation.disk import Disk
from tests.simulation.etcd import PLACES, PREFIX, EtcdCluster, Network
from tests.simulation.faults import ANY, BEGIN, END, LINES, SITES, Fault, Kind, schedule
from tests.simulation.invariants import Invariants, Violation
from tests.simulation.node import SimulatedNode
from tests.simulation.observers import Observer, Truth
from tests.simulation.postgres import Database, Server, World
from tests.simulation.returning import NOT_HOME, Failback, Returns, failback_of
from tests.simulation.scene import NODE_OF, Site, settings_of
from tests.simulation.scheduler import EPOCH, Scheduler, SimulatedClock
from tests.simulation.sending import SimulatedDispatcher, Surroundings
from tests.simulation.strikes import Strikes

CONVERGES_WITHIN = 60.0
WATCHED_EVERY = 4  # in these seeds the view is the real one
QUIET = 1.0  # seconds that all has to be well


@dataclass
class Outcome:
    seed: int
    faults: tuple[Fault, ...]
    violation: Violation | None
    log: list[str]
    acknowledged: int
    longest_gap: float
    terms: int
    ended_at: float


class Run:
    STRIKES: type[Strikes] = Strikes
    OBSERVED = True  # health daemons tell what they see

    def __init__(
        self,
        seed: int,
        faults: tuple[Fault, ...] | None = None,
        *,
        kinds: tuple[Kind, ...] = ANY,
        profile: Profile = Profile.LAB,
        failback: Failback | None = None,
    ) -> None:
        """`failback`: with which settings production goes back home by itself; None: as the seed has it."""
        self.seed = seed
        self._profile = profile
        self._failback = (failback or failback_of(seed)) if self.OBSERVED else None
        self.rng = random.Random(seed)  # a seed is what it is for
        planned = schedule(self.rng, kinds)
        self.faults = planned if faults is None else faults
        self.scheduler = Scheduler()
        self.network = Network()
        self.cluster = EtcdCluster(self.scheduler, self.network, random.Random(seed + 1))
        self.cluster.watched = seed % WATCHED_EVERY == 0
        self.world = World(self.scheduler, self.network, random.Random(seed + 2))
        self.log: list[str] = []
        self.ledger = Ledger()
        self.sites: dict[str, Site] = {}
        self.inbox = Inbox()
        self.truth = Truth()
        self._messages = 0
        self._looks_at_service = {f.kind for f in self.faults} <= {Kind.ETCD_QUORUM, Kind.SWAP}
        self.invariants = Invariants(
            scheduler=self.scheduler,
            world=self.world,
            cluster=self.cluster,
            ledger=self.ledger,
            inbox=self.inbox,
            truth=self.truth,
            say=self.say,
            only_lines=all(fault.kind in LINES for fault in self.faults),
            alarms=self._alarms,
            returns=self._returns(),
        )
        self.strikes = self.STRIKES(
            scheduler=self.scheduler,
            network=self.network,
            cluster=self.cluster,
            world=self.world,
            inbox=self.inbox,
            truth=self.truth,
            sites=self.sites,
            rng=self.rng,
            say=self.say,
            ledger=self.ledger,
            planned=self.invariants.planned,
            start_agent=self._start_agent,
            start_sender=self._start_sender,
            start_others=self._start_others,
            data_lost=self.invariants.data_lost,
        )

    # -- beginning

    def _build(self) -> None:
        """Columbus leads term 1, Denver is in step: as after a first start that is long past."""
        for place in SITES:
            node = NODE_OF[place]
            database = Database(self.world, node, place)
            drift = self.rng.uniform(-0.01, 0.01)
            clock = SimulatedClock(self.scheduler, drift, self.rng.uniform(0, 1e5))
            self.sites[place] = Site(place, database, clock, self._settings(place))
            database.disk = Disk(incarnation=f"disk-{place}")
        columbus, denver = (self.sites[p].database for p in SITES)
        assert columbus.disk is not None
        assert denver.disk is not None
        columbus.append("row", (1, columbus.node, "boot0", (denver.node,)))
        columbus.append("canary", EPOCH)
        columbus.disk.flushed = 2
        columbus.disk.was_primary = True
        denver.disk.copy_of(columbus.disk.wal)
        denver.disk.checkpoint = len(denver.disk.wal)
        columbus.server = Server(columbus.disk, "boot0", recovering=False, names=(denver.node,), ready_at=0.0)
        denver.server = Server(denver.disk, "boot1", recovering=True, names=(), ready_at=0.0)
        denver.follows = columbus.node
        self._first_records(columbus, denver)

    def _settings(self, place: str) -> Settings:
        if self._failback is None:
            return settings_of(place, self._profile)
        return settings_of(place, self._profile, self._failback.after, self._failback.hours)

    def _returns(self) -> Returns | None:
        if self._failback is None:
            return None
        stalls = any(fault.kind is Kind.WATCH_STALLS for fault in self.faults)
        return Returns(scheduler=self.scheduler, sites=self.sites, wanted=self._failback, stalls=stalls)

    def _first_records(self, columbus: Database, denver: Database) -> None:
        store = self.cluster.store
        lease = store.grant(self.sites["columbus"].settings.failover.lease_ttl)
        self.sites["columbus"].lease_file.keep(lease)
        in_step = InStep(node=denver.node, incarnation="disk-denver", timeline=1, lsn=2)
        records: list[tuple[str, Any, int]] = [
            ("initialize", Initialize(system_id="7"), 0),
            ("term", Term(term=1), 0),
            (
                "leader",
                Leader(node=columbus.node, incarnation="disk-columbus", site="columbus", term=1),
                lease,
            ),
            (
                "sync",
                Sync(term=1, leader=columbus.node, leader_incarnation="disk-columbus", standbys=(in_step,)),
                0,
            ),
        ]
        for place in SITES:
            name = f"{place}-1"
            record = DispatcherRecord(name=name, site=place, ready=True, links=1, links_up=1)
            records.append((f"dispatchers/{name}", record, store.of_dispatchers))
        for name, record, bound in records:
            self._put(name, record, bound)

    def _put(self, name: str, record: Any, lease: int = 0) -> None:
        self.cluster.store.txn(
            (), (Put(key=PREFIX + name, value=record.encode(), lease=lease),), read_on_failure=False
        )

    def _start_agent(self, site: Site) -> None:
        site.node = SimulatedNode(
            scheduler=self.scheduler,
            cluster=self.cluster,
            database=site.database,
            databases=self.world.databases,
            settings=site.settings,
            clock=site.clock,
            lease_file=site.lease_file,
            say=lambda what, said, name=site.database.machine: self.say(f"{name:11} {what:8} {said}"),
            begins=self.invariants.begins,
        )
        site.node.start()

    def _start_sender(self, site: Site) -> None:
        site.senders += 1
        site.sender = SimulatedDispatcher(
            self._around, site.place, site.senders, site.clock, site.settings, self.seed
        )
        site.sender.start()

    def _start_observer(self, place: str) -> None:
        if self.OBSERVED:
            Observer(
                scheduler=self.scheduler,
                network=self.network,
                cluster=self.cluster,
                sites=self.sites,
                inbox=self.inbox,
                truth=self.truth,
                place=place,
            ).start()

    def _start_others(self, place: str) -> None:
        """Again: all that runs in a place but an agent and a sender."""
        for owner in (f"health {place}", f"dispatcher {place}"):
            self.scheduler.kill(owner)
        self._start_observer(place)
        if place in SITES:
            self._start_client(place)

    def _start_client(self, place: str) -> None:
        Dispatcher(
            scheduler=self.scheduler,
            cluster=self.cluster,
            databases=self.world.databases,
            place=place,
            ledger=self.ledger,
            rng=random.Random(self.seed + 3),
            check=self.invariants.acknowledged,
            number=self._next_message,
            may_ask=functools.partial(self._lets_through, place),
        ).start()

    @functools.cached_property
    def _around(self) -> Surroundings:
        return Surroundings(
            scheduler=self.scheduler,
            cluster=self.cluster,
            databases=self.world.databases,
            inbox=self.inbox,
            claimed=self.invariants.claimed,
            leaves=self.invariants.leaves,
        )

    # -- running

    def go(self) -> Outcome:
        violation = None
        try:
            self._build()
            for site in self.sites.values():
                self._start_agent(site)
                self._start_sender(site)
            for place in SITES:
                self._start_client(place)
            for place in PLACES:
                self._start_observer(place)
            for fault in self.faults:
                self.scheduler.spawn(self.strikes.strike(fault), "faults")
            self.scheduler.run(self._struck_until(), self.invariants.after_step)
            while (
                self.cluster.late and self.scheduler.now < END
            ):  # what a sick etcd applies late comes long after
                self.scheduler.run(self.scheduler.now + 0.25, self.invariants.after_step)
            self.strikes.mend_all()
            self._converge()
        except Violation as found:
            violation = found
            self.say(f"VIOLATION  {found}")
        finally:
            self.scheduler.clear_away()
        term = self.cluster.snapshot.term
        return Outcome(
            seed=self.seed,
            faults=self.faults,
            violation=violation,
            log=self.log,
            acknowledged=len(self.ledger.acknowledged),
            longest_gap=self.ledger.longest_gap,
            terms=term.record.term if term else 0,
            ended_at=self.scheduler.now,
        )

    def _struck_until(self) -> float:
        """When every fault is over."""
        return min(END, max((fault.at + fault.lasts for fault in self.faults), default=BEGIN) + 0.1)

    def _alarms(self) -> Iterator[tuple[str, Broken]]:
        for site in self.sites.values():
            if site.node is not None:
                for broken in site.node.agent.state.broken:
                    yield site.database.node, broken

    def say(self, what: str) -> None:
        self.log.append(f"{self.scheduler.now:8.3f}  {what}")

    def _lets_through(self, place: str) -> bool:
        """Where nothing but etcd is lost, perhaps in the middle of a swap, texts pass the gate of their place."""
        if not self._looks_at_service:
            return True
        senders = (site.sender for site in self.sites.values() if site.place == place)
        return any(sender is not None and sender.leadership.gate.open for sender in senders)

    def _next_message(self) -> int:
        self._messages += 1
        return self._messages

    def _well(self) -> str | None:
        """What is still missing, or None: both sites in step, nothing under way."""
        picture = self.cluster.snapshot
        if picture.bad:
            return f"not believed: {', '.join(picture.bad)}"
        if picture.leader is None:
            return "nobody leads"
        if picture.desired is not None and picture.desired.record.planned is not None:
            return f"swap {picture.desired.record.planned.id} is planned, and nobody begins or drops it"
        if picture.swap is not None:
            return f"swap {picture.swap.record.id} has not ended"
        node = picture.leader.record.node
        database = self.world.databases[node]
        server = database.server
        if server is None or database.opened_here(server) != picture.leader.record.term:
            return f"{node} leads and is not open"
        if picture.sync is None or not picture.sync.record.standbys:
            return "nobody is in step"
        if self.scheduler.now - self.ledger.last > 1.0:
            return "nothing is acknowledged"
        return self._who_sends(database.place) or self.invariants.away_from_home(database.place)

    def _who_sends(self, live: str) -> str | None:
        for site in self.sites.values():
            place = site.place
            if not site.senders:
                continue
            sends = site.sender is not None and site.sender.leadership.gate.may_send
            if sends != (place == live):
                return f"{place} {'sends' if sends else 'does not send'}, and {live} is live"
        return None

    def _converge(self) -> None:
        well_since: float | None = None
        ends = self.scheduler.now + CONVERGES_WITHIN
        missing: str | None = "?"
        while self.scheduler.now < ends:
            self.scheduler.run(self.scheduler.now + 0.25, self.invariants.after_step)
            missing = self._well()
            if missing is not None:
                well_since = None
                continue
            well_since = self.scheduler.now if well_since is None else well_since
            if self.scheduler.now - well_since >= QUIET:
                break
        else:
            swap = self.cluster.snapshot.swap
            broken = "swap-ends" if swap is not None else "goes-home" if missing == NOT_HOME else "converges"
            raise Violation(broken, missing or "it came and went")
        leader = self.cluster.snapshot.leader
        assert leader is not None
        self.invariants.holds_all(self.world.databases[leader.record.node], "acked-survives", "at the end")
        self.invariants.log_verifies()
        kinds = {fault.kind for fault in self.faults}
        if kinds == {Kind.ETCD_QUORUM}:
            self.invariants.served_throughout()
        if kinds == {Kind.ETCD_QUORUM, Kind.SWAP} and not any(" sends " in line for line in self.log):
            self.invariants.served_after_a_held_swap()


def run(
    seed: int,
    faults: tuple[Fault, ...] | None = None,
    *,
    kinds: tuple[Kind, ...] = ANY,
    profile: Profile = Profile.LAB,
    failback: Failback | None = None,
) -> Outcome:
    return Run(seed, faults, kinds=kinds, profile=profile, failback=failback).go()


def shrink(
    outcome: Outcome,
    tries: int = 200,
    *,
    profile: Profile = Profile.LAB,
    again: Callable[..., Outcome] = run,
) -> Outcome:
    """The same violation with as few faults as can be found, by leaving out one after the other."""
    best = outcome
    assert best.violation is not None
    progress = True
    while progress and tries > 0:
        progress = False
        for fault in best.faults:
            fewer = tuple(f for f in best.faults if f is not fault)
            tries -= 1
            shorter = again(outcome.seed, fewer, profile=profile)
            if shorter.violation is not None and shorter.violation.invariant == best.violation.invariant:
                best, progress = shorter, True
                break
    return best
