"""Runs with two nodes in each site. What is lost may be a site, or a node: then `where` is the node's name."""

import random
from collections.abc import Iterable
from dataclasses import replace

from sitecontrol.profiles import Profile
from sitecontrol.records import DispatcherRecord, Initialize, InStep, Leader, Sync, Term
from sitecontrol.settings import Settings
from tests.simulation.disk import Disk
from tests.simulation.faults import ANY, SITES, Fault, Kind, schedule
from tests.simulation.postgres import Database, Server
from tests.simulation.run import Outcome, Run
from tests.simulation.scene import Site, settings_of
from tests.simulation.scheduler import EPOCH, SimulatedClock
from tests.simulation.strikes import Mend, Strikes

NODES = {"columbus": ("columbus-a", "columbus-b"), "denver": ("denver-a", "denver-b")}
ALL = tuple(node for nodes in NODES.values() for node in nodes)
OF_A_SITE = frozenset({Kind.STOP_SITE, Kind.CUT, Kind.CUT_ONE_WAY, Kind.ISOLATE})
OF_A_SITE |= {
    Kind.ETCD_MEMBER,
    Kind.ETCD_QUORUM,
    Kind.ETCD_SICK,
    Kind.ETCD_LATE,
    Kind.ETCD_LEADER,
    Kind.BLIND,
}
WHOLE = (Kind.KILL_SITE, Kind.LOSE_POWER, Kind.STOP_SITE)


def schedule_of_several(rng: random.Random, kinds: tuple[Kind, ...] = ANY) -> tuple[Fault, ...]:
    """As `schedule`, aimed at nodes."""
    return aimed(rng, schedule(rng, kinds))


def aimed(rng: random.Random, faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """What befalls a node befalls one of the site's, and of two losses of a site one is of a node."""
    return tuple(_aimed(rng, fault) for fault in faults)


def _aimed(rng: random.Random, fault: Fault) -> Fault:
    whole = fault.kind in OF_A_SITE or (fault.kind in WHOLE and rng.random() < 0.5)
    if whole or fault.where not in NODES:
        return fault
    return replace(fault, where=rng.choice(NODES[fault.where]))


def settings_of_node(node: str, profile: Profile) -> Settings:
    place = node.rpartition("-")[0]
    known = settings_of(place, profile)
    both = [
        p.model_copy(
            update={"nodes": [n.model_copy(update={"name": name}) for name in NODES[p.name] for n in p.nodes]}
        )
        if p.name in NODES
        else p
        for p in known.place
    ]
    site = known.site.model_copy(update={"node": node})
    return known.model_copy(update={"site": site, "place": both})


class SeveralStrikes(Strikes):
    def _begin(self, fault: Fault) -> Mend:
        if fault.where not in NODES or fault.kind not in WHOLE:
            return super()._begin(fault)
        mends = [self._begin(replace(fault, where=node)) for node in NODES[fault.where]]
        self.cluster.down.add(fault.where)

        def back() -> None:
            self.cluster.down.discard(fault.where)
            for mend in mends:
                mend()

        return back

    def _kill_site(self, site: Site) -> Mend:
        """One node: the site's member of etcd goes on."""
        site.lost = True
        self._kill_agent(site)
        self._kill_sender(site)
        site.database.crash()

        def back() -> None:
            site.lost = False
            self._restart(site)

        return back

    def _stop_site(self, site: Site) -> Mend:
        return self._stop(
            f"agent {site.database.node}",
            site.database.owner,
            f"dispatcher {site.place}",
            f"sender {site.place}",
        )

    def _target(self, leader: str, fault: Fault) -> str:
        """The node that is named, if it does not lead; else the other site's first."""
        elsewhere = next(nodes[0] for nodes in NODES.values() if leader not in nodes)
        return elsewhere if fault.where == leader else fault.where


class SeveralRun(Run):
    """`sites` are the nodes here, by their names. A site's dispatcher runs beside its first node; nobody observes."""

    STRIKES = SeveralStrikes
    OBSERVED = False

    # -- beginning

    def _build(self) -> None:
        """Columbus-a leads term 1, and the others are in step."""
        leader, *others = (self._node(node) for node in ALL)
        for database in (leader, *others):
            database.disk = Disk(incarnation=f"disk-{database.node}")
        names = tuple(database.node for database in others)
        remote = tuple(node for node in names if node in NODES["denver"])
        leader.append("row", (1, leader.node, "boot0", remote))
        leader.append("canary", EPOCH)
        assert leader.disk is not None
        leader.disk.flushed = 2
        leader.disk.was_primary = True
        leader.server = Server(leader.disk, "boot0", recovering=False, names=names, ready_at=0.0)
        for number, database in enumerate(others, start=1):
            assert database.disk is not None
            database.disk.copy_of(leader.disk.wal)
            database.disk.checkpoint = len(database.disk.wal)
            database.server = Server(database.disk, f"boot{number}", recovering=True, names=(), ready_at=0.0)
            database.follows = leader.node
        self._several_records(leader, others)

    def _node(self, node: str) -> Database:
        place = node.rpartition("-")[0]
        database = Database(self.world, node, place)
        clock = SimulatedClock(self.scheduler, self.rng.uniform(-0.01, 0.01), self.rng.uniform(0, 1e5))
        self.sites[node] = Site(place, database, clock, settings_of_node(node, self._profile))
        return database

    def _several_records(self, leader: Database, others: list[Database]) -> None:
        lease = self.cluster.store.grant(self.sites[leader.node].settings.failover.lease_ttl)
        self.sites[leader.node].lease_file.keep(lease)
        disk = f"disk-{leader.node}"
        in_step = tuple(
            InStep(node=db.node, incarnation=f"disk-{db.node}", timeline=1, lsn=2) for db in others
        )
        self._put("initialize", Initialize(system_id="7"))
        self._put("term", Term(term=1))
        self._put("leader", Leader(node=leader.node, incarnation=disk, site=leader.place, term=1), lease)
        self._put("sync", Sync(term=1, leader=leader.node, leader_incarnation=disk, standbys=in_step))
        for place in SITES:
            record = DispatcherRecord(name=f"{place}-1", site=place, ready=True, links=1, links_up=1)
            self._put(f"dispatchers/{place}-1", record, self.cluster.store.of_dispatchers)

    def _start_sender(self, site: Site) -> None:
        if site.database.node == NODES[site.place][0]:
            super()._start_sender(site)

    # -- the end

    def _well(self) -> str | None:
        missing = super()._well()
        sync, leader = self.cluster.snapshot.sync, self.cluster.snapshot.leader
        if missing is not None or sync is None or leader is None:
            return missing
        out = set(ALL) - {leader.record.node} - {s.node for s in sync.record.standbys}
        return f"{', '.join(sorted(out))} not in step" if out else None


def run_several(
    seed: int,
    faults: tuple[Fault, ...] | None = None,
    *,
    kinds: tuple[Kind, ...] = ANY,
    profile: Profile = Profile.LAB,
) -> Outcome:
    chosen = schedule_of_several(random.Random(seed), kinds) if faults is None else faults
    return SeveralRun(seed, chosen, profile=profile).go()
