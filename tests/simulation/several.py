"""Runs with two nodes in each site. What is lost may be a site, or a node: then `where` is the node's name."""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace

from sitecontrol.leadership.transactions import Writer
from sitecontrol.profiles import Profile
from sitecontrol.records import DispatcherRecord, Initialize, InStep, Leader, Phase, Swap, Sync, Term
from sitecontrol.settings import Settings
from tests.simulation.etcd import PLACES, PREFIX
from tests.simulation.faults import ANY, SITES, Fault, Kind, schedule
from tests.simulation.node import SimulatedNode
from tests.simulation.postgres import Database, Disk, Server
from tests.simulation.run import Outcome, Run, Site
from tests.simulation.scene import settings_of
from tests.simulation.scheduler import SimulatedClock

NODES = {"columbus": ("columbus-a", "columbus-b"), "denver": ("denver-a", "denver-b")}
ALL = tuple(node for nodes in NODES.values() for node in nodes)
OF_A_SITE = frozenset({Kind.STOP_SITE, Kind.CUT, Kind.CUT_ONE_WAY, Kind.ISOLATE})
OF_A_SITE |= {Kind.ETCD_MEMBER, Kind.ETCD_QUORUM, Kind.ETCD_SICK, Kind.ETCD_LEADER}


def schedule_of_several(rng: random.Random, kinds: tuple[Kind, ...] = ANY) -> tuple[Fault, ...]:
    """As `schedule`, aimed at nodes."""
    return aimed(rng, schedule(rng, kinds))


def aimed(rng: random.Random, faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """What befalls a node befalls one of the site's, and of two losses of a site one is of a node."""
    return tuple(_aimed(rng, fault) for fault in faults)


def _aimed(rng: random.Random, fault: Fault) -> Fault:
    whole = fault.kind in OF_A_SITE or (fault.kind is Kind.KILL_SITE and rng.random() < 0.5)
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


class SeveralRun(Run):
    """`sites` are the nodes here, by their names."""

    # -- beginning

    def _build(self) -> None:
        """Columbus-a leads term 1, and the others are in step."""
        leader, *others = (self._node(node) for node in ALL)
        for database in (leader, *others):
            database.disk = Disk(incarnation=f"disk-{database.node}")
        names = tuple(database.node for database in others)
        remote = tuple(node for node in names if node in NODES["denver"])
        leader.append("row", (1, leader.node, "boot0", remote))
        leader.append("canary", 1)
        assert leader.disk is not None
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
        self.sites[node] = Site(place, database, clock)
        self.settings[node] = settings_of_node(node, self._profile)
        return database

    def _several_records(self, leader: Database, others: list[Database]) -> None:
        lease = self.cluster.store.grant(self.settings[leader.node].failover.lease_ttl)
        self.sites[leader.node].lease_file.text = f"{lease:x}"
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
            self._put(f"dispatchers/{place}-1", record)

    def _start_agent(self, site: Site) -> None:
        node = site.database.node
        site.node = SimulatedNode(
            scheduler=self.scheduler,
            cluster=self.cluster,
            database=site.database,
            databases=self.world.databases,
            settings=self.settings[node],
            clock=site.clock,
            lease_file=site.lease_file,
            say=lambda what, said: self.say(f"{node:11} {what:8} {said}"),
        )
        site.node.start()

    # -- faults

    def _begin(self, fault: Fault) -> Callable[[], None]:
        if fault.where not in NODES or fault.kind not in (Kind.KILL_SITE, Kind.STOP_SITE):
            return super()._begin(fault)
        mends = [self._begin(replace(fault, where=node)) for node in NODES[fault.where]]
        self.cluster.down.add(fault.where)

        def back() -> None:
            self.cluster.down.discard(fault.where)
            for mend in mends:
                mend()

        return back

    def _kill_site(self, site: Site) -> Callable[[], None]:
        """One node: the site's member of etcd goes on."""
        site.lost = True
        self._kill_agent(site)
        site.database.crash()

        def back() -> None:
            site.lost = False
            self._restart(site)

        return back

    def _stop(self, site: Site, kind: Kind) -> Callable[[], None]:
        owners = {
            Kind.STOP_AGENT: (f"agent {site.database.node}",),
            Kind.STOP_POSTGRES: (site.database.owner,),
            Kind.STOP_SITE: (f"agent {site.database.node}", site.database.owner, f"dispatcher {site.place}"),
        }[kind]
        for owner in owners:
            self.scheduler.stop(owner)

        def go_on() -> None:
            for owner in owners:
                self.scheduler.resume(owner)

        return go_on

    def _ask_for_swap(self, fault: Fault) -> None:
        """To the node that is named, if it does not lead; else to the other site's first."""
        picture = self.cluster.snapshot
        leader = picture.leader
        if leader is None or picture.swap is not None or not any(self.cluster.serves(p) for p in PLACES):
            return
        elsewhere = next(nodes[0] for nodes in NODES.values() if leader.record.node not in nodes)
        swap = Swap(
            id=f"swap{fault.at}",
            from_node=leader.record.node,
            to_node=elsewhere if fault.where == leader.record.node else fault.where,
            by="op",
            phase=Phase.REQUESTED,
            term=leader.record.term,
            requested_at=SimulatedClock(self.scheduler).wall(),
        )
        writer = Writer(prefix=PREFIX, cluster=picture, node=swap.to_node, site="", incarnation="", lease=0)
        asked = writer.request(swap)
        self.cluster.store.txn(asked.compares, asked.writes, read_on_failure=False)

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
