"""One run: the cluster at rest, a schedule of faults, everything mended, and the invariants checked all the way."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sitecontrol.etcd.api import Put
from sitecontrol.leadership import audit
from sitecontrol.leadership.audit import Act
from sitecontrol.leadership.transactions import Writer
from sitecontrol.profiles import Profile
from sitecontrol.records import (
    Deed,
    Desired,
    DispatcherRecord,
    Initialize,
    InStep,
    Leader,
    Phase,
    Swap,
    Sync,
    Term,
)
from sitecontrol.settings import Settings
from tests.simulation.clients import Acknowledged, Dispatcher, Ledger
from tests.simulation.etcd import PLACES, PREFIX, EtcdCluster, Network
from tests.simulation.faults import ANY, BEGIN, END, SITES, Fault, Kind, schedule
from tests.simulation.node import LeaseFile, SimulatedNode
from tests.simulation.postgres import Database, Disk, Server, World
from tests.simulation.scene import settings_of
from tests.simulation.scheduler import Scheduler, SimulatedClock, Task

CONVERGES_WITHIN = 60.0
QUIET = 2.0  # seconds that all has to be well
NODE_OF = {"columbus": "columbus-a", "denver": "denver-a"}
OVERWRITTEN = (
    *("initialize", "term", "leader", "sync", "swap", "desired"),
    *(f"members/{node}" for node in NODE_OF.values()),
)


class Violation(AssertionError):
    """An invariant does not hold; `invariant` is its name in docs/failover.md."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


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


@dataclass
class Site:
    place: str
    database: Database
    clock: SimulatedClock
    lease_file: LeaseFile = field(default_factory=LeaseFile)
    node: SimulatedNode | None = None
    lost: bool = False  # its machine is down: nobody restarts anything


class Run:
    def __init__(
        self,
        seed: int,
        faults: tuple[Fault, ...] | None = None,
        *,
        kinds: tuple[Kind, ...] = ANY,
        profile: Profile = Profile.LAB,
    ) -> None:
        self.seed = seed
        self._profile = profile
        self.rng = random.Random(seed)  # a seed is what it is for
        planned = schedule(self.rng, kinds)
        self.faults = planned if faults is None else faults
        self.scheduler = Scheduler()
        self.network = Network()
        self.cluster = EtcdCluster(self.scheduler, self.network, random.Random(seed + 1))
        self.world = World(self.scheduler, self.network, random.Random(seed + 2))
        self.log: list[str] = []
        self.ledger = Ledger()
        self.sites: dict[str, Site] = {}
        self.settings: dict[str, Settings] = {}
        self._open: dict[str, tuple[str, int]] = {}  # node -> (boot, term) as last seen
        self._messages = 0
        self._leader_seen: tuple[int, str] | None = None
        self._looked_at = (-1, -1)  # all that the invariants rest on, when they were last looked at

    # -- beginning

    def _build(self) -> None:
        """Columbus leads term 1, Denver is in step: as after a first start that is long past."""
        for place in SITES:
            node = NODE_OF[place]
            database = Database(self.world, node, place)
            drift = self.rng.uniform(-0.01, 0.01)
            self.sites[place] = Site(
                place, database, SimulatedClock(self.scheduler, drift, self.rng.uniform(0, 1e5))
            )
            self.settings[place] = settings_of(place, self._profile)
            database.disk = Disk(incarnation=f"disk-{place}")
        columbus, denver = (self.sites[p].database for p in SITES)
        columbus.append("row", (1, columbus.node, "boot0", (denver.node,)))
        columbus.append("canary", 1)
        assert columbus.disk is not None
        assert denver.disk is not None
        columbus.disk.was_primary = True
        denver.disk.copy_of(columbus.disk.wal)
        denver.disk.checkpoint = len(denver.disk.wal)
        columbus.server = Server(columbus.disk, "boot0", recovering=False, names=(denver.node,), ready_at=0.0)
        denver.server = Server(denver.disk, "boot1", recovering=True, names=(), ready_at=0.0)
        denver.follows = columbus.node
        self._first_records(columbus, denver)

    def _first_records(self, columbus: Database, denver: Database) -> None:
        store = self.cluster.store
        lease = store.grant(self.settings["columbus"].failover.lease_ttl)
        self.sites["columbus"].lease_file.text = f"{lease:x}"
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
            records.append((f"dispatchers/{name}", record, 0))
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
            settings=self.settings[site.place],
            clock=site.clock,
            lease_file=site.lease_file,
            say=lambda what, said, name=site.database.node: self.say(f"{name:11} {what:8} {said}"),
        )
        site.node.start()

    # -- running

    def go(self) -> Outcome:
        violation = None
        try:
            self._build()
            for site in self.sites.values():
                self._start_agent(site)
            for place in SITES:
                Dispatcher(
                    scheduler=self.scheduler,
                    cluster=self.cluster,
                    databases=self.world.databases,
                    place=place,
                    ledger=self.ledger,
                    rng=random.Random(self.seed + 3),
                    check=self._acknowledged,
                    number=self._next_message,
                ).start()
            for fault in self.faults:
                self.scheduler.spawn(self._strike(fault), "faults")
            self.scheduler.run(self._struck_until(), self._after_step)
            self._mend_all()
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
        """When nothing is under way any more; what a sick etcd applies late comes long after."""
        if any(fault.kind is Kind.ETCD_SICK for fault in self.faults):
            return END
        return min(END, max((fault.at + fault.lasts for fault in self.faults), default=BEGIN) + 0.1)

    def say(self, what: str) -> None:
        self.log.append(f"{self.scheduler.now:8.3f}  {what}")

    def _next_message(self) -> int:
        self._messages += 1
        return self._messages

    # -- faults

    async def _strike(self, fault: Fault) -> None:
        await self.scheduler.wait(fault.at)
        self.say(f"FAULT      {fault}")
        mend = self._begin(fault)
        self.cluster.look()
        await self.scheduler.wait(fault.lasts)
        mend()
        self.cluster.look()
        self.say(f"MENDED     {fault.kind.value} {fault.where} {fault.other}")

    def _begin(self, fault: Fault) -> Callable[[], None]:
        site = self.sites.get(fault.where)
        match fault.kind:
            case Kind.KILL_SITE if site is not None:
                return self._kill_site(site)
            case Kind.WRONG_DISK if site is not None:
                return self._lose_disk(site)
            case Kind.KILL_POSTGRES if site is not None:
                site.database.crash()
            case Kind.KILL_AGENT if site is not None:
                self._kill_agent(site)
                return lambda: self._restart(site)
            case Kind.STOP_AGENT | Kind.STOP_POSTGRES | Kind.STOP_SITE if site is not None:
                return self._stop(site, fault.kind)
            case Kind.CUT | Kind.CUT_ONE_WAY | Kind.ISOLATE:
                return self._cut(fault)
            case Kind.ETCD_MEMBER | Kind.ETCD_QUORUM:
                members = set(PLACES) if fault.kind is Kind.ETCD_QUORUM else {fault.where}
                self.cluster.down |= members
                return lambda: self.cluster.down.difference_update(members)
            case Kind.ETCD_SICK:
                self.cluster.sick = 0.4
                return lambda: setattr(self.cluster, "sick", 0.0)
            case Kind.WATCH_STALLS if site is not None and site.node is not None:
                seen = site.node.seen
                seen.stalled = True
                return lambda: setattr(seen, "stalled", False)
            case Kind.SWAP:
                self._ask_for_swap(fault)
            case Kind.SLOW_STOP if site is not None:
                site.database.slow_stop = True
                return lambda: setattr(site.database, "slow_stop", False)
            case Kind.DISK_STALLS if site is not None:
                site.database.disk_stalls = True
                return lambda: setattr(site.database, "disk_stalls", False)
            case Kind.PROMOTION_FAILS if site is not None:
                site.database.fails_promotion = True
                return lambda: setattr(site.database, "fails_promotion", False)
            case Kind.CLOCK_JUMPS if site is not None:
                site.clock.wall_error = self.rng.choice((-3600.0, 3600.0))
                return lambda: setattr(site.clock, "wall_error", 0.0)
            case Kind.GARBAGE:
                return self._overwrite()
            case Kind.ETCD_LEADER:
                self.cluster.move_leader(fault.where)
        return lambda: None

    def _kill_agent(self, site: Site) -> None:
        if site.node is not None:
            self.scheduler.kill(site.node.owner)
            site.node = None

    def _restart(self, site: Site) -> None:
        if not site.lost and site.node is None:
            self._start_agent(site)

    def _kill_site(self, site: Site) -> Callable[[], None]:
        site.lost = True
        self._kill_agent(site)
        site.database.crash()
        self.cluster.down.add(site.place)

        def back() -> None:
            site.lost = False
            self.cluster.down.discard(site.place)
            self._restart(site)

        return back

    def _lose_disk(self, site: Site) -> Callable[[], None]:
        back = self._kill_site(site)
        disk = site.database.disk
        if disk is not None:
            older = Disk(
                incarnation=self.world.new_name("disk"), timeline=disk.timeline, was_primary=disk.was_primary
            )
            older.copy_of(disk.wal[: len(disk.wal) // 2])
            older.checkpoint = len(older.wal)
            older.timeline = older.control_timeline = self.world.entries[older.wal[-1]].timeline
            site.database.disk = older
        return back

    def _stop(self, site: Site, kind: Kind) -> Callable[[], None]:
        owners = {
            Kind.STOP_AGENT: (f"agent {site.database.node}",),
            Kind.STOP_POSTGRES: (site.database.owner,),
            Kind.STOP_SITE: (f"agent {site.database.node}", site.database.owner, f"dispatcher {site.place}"),
        }[kind]
        for owner in owners:
            self.scheduler.stop(owner)
        if kind is Kind.STOP_SITE:
            self.cluster.down.add(site.place)

        def go_on() -> None:
            for owner in owners:
                self.scheduler.resume(owner)
            if kind is Kind.STOP_SITE and not site.lost:
                self.cluster.down.discard(site.place)

        return go_on

    def _cut(self, fault: Fault) -> Callable[[], None]:
        pairs = [(fault.where, fault.other)]
        if fault.kind is Kind.CUT:
            pairs.append((fault.other, fault.where))
        if fault.kind is Kind.ISOLATE:
            others = [p for p in PLACES if p != fault.where]
            pairs = [(fault.where, p) for p in others] + [(p, fault.where) for p in others]
        for pair in pairs:
            self.network.cut(*pair)

        def mend() -> None:
            for pair in pairs:
                self.network.mend(*pair)

        return mend

    def _ask_for_swap(self, fault: Fault) -> None:
        """As an agent's API does it, by whatever the records say now, with no check but that there is no swap."""
        if not any(self.cluster.serves(p) for p in PLACES):
            return
        picture = self.cluster.snapshot
        leader = picture.leader
        if leader is None or picture.swap is not None:
            return
        target = NODE_OF["denver" if leader.record.node == NODE_OF["columbus"] else "columbus"]
        swap = Swap(
            id=f"swap{fault.at}",
            from_node=leader.record.node,
            to_node=target,
            by="op",
            phase=Phase.REQUESTED,
            term=leader.record.term,
            requested_at=SimulatedClock(self.scheduler).wall(),
        )
        writer = Writer(prefix=PREFIX, cluster=picture, node=target, site="", incarnation="", lease=0)
        asked = writer.request(swap)
        self.cluster.store.txn(asked.compares, asked.writes, read_on_failure=False)

    def _overwrite(self) -> Callable[[], None]:
        """A record becomes garbage, or a leader who is none. What nobody could write over, an operator does in the end,
        as it was before, and says again what people want.
        """
        name = self.rng.choice(OVERWRITTEN)
        node = self.rng.choice(tuple(NODE_OF.values()))
        forged = Leader(node=node, incarnation="forged", site="denver", term=self.rng.randint(1, 9))
        value = forged.encode() if name == "leader" and self.rng.random() < 0.5 else b"garbage"
        self.say(f"OVERWRITES {name} with {value!r}")
        self._put_value(name, value)
        return lambda: self._restore(name)

    def _restore(self, name: str) -> None:
        believed = self.cluster.snapshot
        if name not in believed.bad:
            return
        self.say(f"RESTORES   {name}")
        if name == "desired":
            writer = Writer(
                prefix=PREFIX, cluster=believed, node="operator", site="", incarnation="", lease=0
            )
            act = Act(what=Deed.RESUMED, by="op", at=SimulatedClock(self.scheduler).wall())
            resumed = writer.want(Desired(), act)
            self.cluster.store.txn(resumed.compares, resumed.writes, read_on_failure=False)
        elif name in ("initialize", "term", "sync") and (entry := getattr(believed, name)) is not None:
            self._put_value(name, entry.record.encode())

    def _put_value(self, name: str, value: bytes) -> None:
        self.cluster.store.txn((), (Put(key=PREFIX + name, value=value),), read_on_failure=False)

    def _mend_all(self) -> None:
        self.say("FAULTS END")
        self.network.mend_all()
        self.cluster.down.clear()
        self.cluster.sick = 0.0
        self.cluster.look()

    # -- invariants

    def _after_step(self, task: Task) -> None:
        if task.error is not None:
            if isinstance(task.error, Violation):
                raise task.error
            raise Violation(
                "no-crash", f"{task.owner}: {type(task.error).__name__}: {task.error}"
            ) from task.error
        now = (self.world.looks, self.cluster.looks)
        if now == self._looked_at:
            return
        self._looked_at = now
        for site in self.sites.values():
            self._look_at_opening(site.database)
        self._look_at_leader()

    def _look_at_leader(self) -> None:
        """Whoever is made the leader must hold every acknowledged message: `only-in-step-leads`."""
        leader = self.cluster.snapshot.leader
        if leader is None:
            self._leader_seen = None
            return
        made = (leader.record.term, leader.record.node)
        if made == self._leader_seen:
            return
        self._leader_seen = made
        self.say(f"LEADER     {made[1]} in term {made[0]}")
        self._holds_all(
            self.world.databases[made[1]], "only-in-step-leads", f"{made[1]} leads in term {made[0]}"
        )

    def _look_at_opening(self, database: Database) -> None:
        server = database.server
        term = database.opened_here(server) if server is not None else None
        if server is None or term is None:
            return
        now = (server.boot, term)
        if self._open.get(database.node) == now:
            return
        self._open[database.node] = now
        self.ledger.opened.append((term, database.node, self.scheduler.now))
        self.say(f"OPENED     {database.node} in term {term}")
        self._holds_all(database, "acked-survives", f"{database.node} opened in term {term}")
        others = {node for t, node, _ in self.ledger.opened if t == term}
        if len(others) > 1:
            raise Violation("one-writer", f"{', '.join(sorted(others))} were both opened in term {term}")

    def _holds_all(self, database: Database, invariant: str, what: str) -> None:
        wal = database.disk.wal if database.disk is not None else []
        for told in self.ledger.acknowledged:
            if told.position > len(wal) or (wal[told.position - 1] != told.entry and told.entry not in wal):
                raise Violation(
                    invariant,
                    f"{what} without message {told.message}, acknowledged at {told.at:.3f} by {told.node}",
                )

    def _acknowledged(self, told: Acknowledged, database: Database) -> None:
        """Just before it is told: whoever was opened in a newer term must hold it, and it must come from one node."""
        for other in self.ledger.acknowledged[-50:]:
            if other.term == told.term and other.node != told.node:
                raise Violation(
                    "one-writer", f"{told.node} and {other.node} both acknowledged in term {told.term}"
                )
        for term, node, at in self.ledger.opened:
            if term <= told.term:
                continue
            wal = self.world.databases[node].disk
            if wal is None or told.entry not in wal.wal:
                raise Violation(
                    "acked-survives",
                    f"{told.node} acknowledged message {told.message} in term {told.term};"
                    f" {node} had been opened in term {term} at {at:.3f}, without it",
                )
            if at < told.began:
                raise Violation(
                    "no-stale-claim", f"{told.node} wrote in term {told.term}, after term {term} was opened"
                )

    def _well(self) -> str | None:
        """What is still missing, or None: both sites in step, nothing under way."""
        picture = self.cluster.snapshot
        if picture.bad:
            return f"not believed: {', '.join(picture.bad)}"
        if picture.leader is None:
            return "nobody leads"
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
        return None

    def _converge(self) -> None:
        well_since: float | None = None
        ends = self.scheduler.now + CONVERGES_WITHIN
        missing: str | None = "?"
        while self.scheduler.now < ends:
            self.scheduler.run(self.scheduler.now + 0.25, self._after_step)
            missing = self._well()
            if missing is not None:
                well_since = None
                continue
            well_since = self.scheduler.now if well_since is None else well_since
            if self.scheduler.now - well_since >= QUIET:
                break
        else:
            swap = self.cluster.snapshot.swap
            raise Violation("swap-ends" if swap is not None else "converges", missing or "it came and went")
        leader = self.cluster.snapshot.leader
        assert leader is not None
        self._holds_all(self.world.databases[leader.record.node], "acked-survives", "at the end")
        self._look_at_log()

    def _look_at_log(self) -> None:
        """Whatever was applied late, or twice tried: the audit log verifies, and tells of every term."""
        kvs = self.cluster.store.get_prefix(PREFIX).kvs
        broken = audit.flaws(kvs, PREFIX)
        if broken:
            raise Violation("log-verifies", f"{broken[0].key} {broken[0].what}")
        told = {seal for entry in audit.document(kvs, PREFIX)["audit"] for seal in entry["seals"]}
        term = self.cluster.snapshot.term
        missing = [
            n for n in range(2, (term.record.term if term else 0) + 1) if f"history/{n:010d}" not in told
        ]
        if missing:
            raise Violation("log-verifies", f"no entry tells how term {missing[0]} began")


def run(
    seed: int,
    faults: tuple[Fault, ...] | None = None,
    *,
    kinds: tuple[Kind, ...] = ANY,
    profile: Profile = Profile.LAB,
) -> Outcome:
    return Run(seed, faults, kinds=kinds, profile=profile).go()


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
