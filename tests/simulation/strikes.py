"""What each fault does to the models, and how it is mended."""

import random
from collections.abc import Callable, Mapping

from sitecontrol.etcd.api import Put
from sitecontrol.leadership.audit import Act
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.records import Deed, Desired, Leader, Phase, Swap
from tests.simulation.adopting import Adopter
from tests.simulation.carrier import Inbox
from tests.simulation.clients import Ledger
from tests.simulation.disk import Disk
from tests.simulation.etcd import PLACES, PREFIX, EtcdCluster, Network
from tests.simulation.faults import Fault, Kind
from tests.simulation.observers import Truth
from tests.simulation.operators import Operator
from tests.simulation.postgres import Database, World, second
from tests.simulation.scene import NODE_OF, Site
from tests.simulation.scheduler import Scheduler, SimulatedClock

OVERWRITTEN = (
    *("initialize", "term", "leader", "sync", "reached", "swap", "desired"),
    *(f"members/{node}" for node in NODE_OF.values()),
)
FOR_EVER = ("initialize", "term", "sync")
BY_OPERATORS = (Kind.FORCE, Kind.PLAN, Kind.MAINTENANCE)
Mend = Callable[[], None]


def nothing() -> None:
    """A fault that is over as soon as it has struck."""


class Strikes:
    def __init__(
        self,
        *,
        scheduler: Scheduler,
        network: Network,
        cluster: EtcdCluster,
        world: World,
        inbox: Inbox,
        truth: Truth,
        sites: dict[str, Site],
        rng: random.Random,
        say: Callable[[str], None],
        ledger: Ledger,
        planned: dict[str, float],
        start_agent: Callable[[Site], None],
        start_sender: Callable[[Site], None],
        start_others: Callable[[str], None],
        data_lost: Callable[..., None],
    ) -> None:
        self.scheduler, self.network, self.cluster, self.world = scheduler, network, cluster, world
        self.inbox, self.truth = inbox, truth
        self.sites, self.rng, self.say = sites, rng, say
        self._last_term = 1
        self._start_agent, self._start_sender = start_agent, start_sender
        self._start_others, self._data_lost = start_others, data_lost
        self._at_site: Mapping[Kind, Callable[[Site], Mend]] = {
            Kind.KILL_SITE: self._kill_site,
            Kind.LOSE_POWER: self._lose_power,
            Kind.WRONG_DISK: self._lose_disk,
            Kind.FORGETFUL_DISK: self._forget,
            Kind.SECOND: self._start_second,
            Kind.OLDER_SNAPSHOT: self._put_back,
            Kind.KILL_POSTGRES: self._kill_postgres,
            Kind.KILL_AGENT: self._kill_agent_for_a_while,
            Kind.KILL_DISPATCHER: self._kill_sender_for_a_while,
            Kind.STOP_AGENT: self._stop_agent,
            Kind.STOP_POSTGRES: self._stop_postgres,
            Kind.STOP_DISPATCHER: self._stop_sender,
            Kind.STOP_SITE: self._stop_site,
            Kind.WATCH_STALLS: self._stall_watch,
            Kind.CARRIER_LOST: self._lose_carrier,
            Kind.CARRIER_SILENT: self._silence_carrier,
            Kind.REPLAY_PAUSED: self._pause_replay,
            Kind.SLOW_STOP: self._slow_stop,
            Kind.DISK_STALLS: self._stall_disk,
            Kind.PROMOTION_FAILS: self._fail_promotion,
            Kind.STARTS_FAIL: self._fail_starts,
            Kind.CLOCK_JUMPS: self._jump_clock,
        }
        self.operator = Operator(scheduler=scheduler, databases=world.databases, say=say, planned=planned)
        self.adopter = Adopter(
            scheduler=scheduler, databases=world.databases, sites=sites, ledger=ledger, rng=rng, say=say
        )

    async def strike(self, fault: Fault) -> None:
        await self.scheduler.wait(fault.at)
        self.say(f"FAULT      {fault}")
        mend = self._begin(fault)
        self.cluster.look()
        await self.scheduler.wait(fault.lasts)
        mend()
        self.cluster.look()
        self.say(f"MENDED     {fault.kind.value} {fault.where} {fault.other}")

    def _begin(self, fault: Fault) -> Mend:
        site = self.sites.get(fault.where)
        if site is not None and fault.kind in self._at_site:
            return self._at_site[fault.kind](site)
        if site is not None and fault.kind in BY_OPERATORS:
            self._ask_operator(site, fault)
            return nothing
        match fault.kind:
            case Kind.CUT | Kind.CUT_ONE_WAY | Kind.ISOLATE:
                return self._cut(fault)
            case Kind.ETCD_MEMBER | Kind.ETCD_QUORUM:
                members = set(PLACES) if fault.kind is Kind.ETCD_QUORUM else {fault.where}
                self.cluster.down |= members
                self.cluster.all_lost |= fault.kind is Kind.ETCD_QUORUM
                return lambda: self.cluster.down.difference_update(members)
            case Kind.ETCD_SICK:
                self.cluster.sick = 0.4
                return lambda: setattr(self.cluster, "sick", 0.0)
            case Kind.KEYS_LOST:
                self._lose_keys(fault)
            case Kind.ETCD_ANEW:
                return self._lose_members(fault)
            case Kind.GARBAGE:
                return self._overwrite()
            case Kind.COMPACTION:
                self.cluster.store.compact(self.cluster.store.revision)
            case Kind.ETCD_SLOW:
                self.cluster.slow.add(fault.where)
                return lambda: self.cluster.slow.discard(fault.where)
            case Kind.ETCD_LATE:
                self.cluster.late_only = True
                return lambda: setattr(self.cluster, "late_only", False)
            case Kind.SWAP:
                self._ask_for_swap(fault)
            case Kind.ODD_SWAP:
                phase = self.rng.choice((Phase.CHECKED, Phase.HELD))
                self._ask_for_swap(fault, to=NODE_OF.get(fault.other, fault.other), phase=phase)
            case Kind.ETCD_LEADER:
                self.cluster.move_leader(fault.where)
            case Kind.BLIND:
                self.truth.blind.add(fault.where)
                return lambda: self.truth.blind.discard(fault.where)
            case Kind.PAUSE:
                self._want(paused=True)
                return lambda: self._want(paused=False)
        return nothing

    # -- at one site

    def _kill_postgres(self, site: Site) -> Mend:
        site.database.crash()
        return nothing

    def _kill_agent_for_a_while(self, site: Site) -> Mend:
        self._kill_agent(site)
        return lambda: self._restart(site)

    def _kill_sender_for_a_while(self, site: Site) -> Mend:
        self._kill_sender(site)
        return lambda: self._restart(site)

    def _stall_watch(self, site: Site) -> Mend:
        seen = [process.seen for process in (site.node, site.sender) if process is not None]
        for view in seen:
            view.stalled = True

        def go_on() -> None:
            for view in seen:
                view.stalled = False

        return go_on

    def _jump_clock(self, site: Site) -> Mend:
        site.clock.wall_error = self.rng.choice((-3600.0, 3600.0))
        return lambda: setattr(site.clock, "wall_error", 0.0)

    def _lose_carrier(self, site: Site) -> Mend:
        self.inbox.lost.add(site.place)
        return lambda: self.inbox.lost.discard(site.place)

    def _silence_carrier(self, site: Site) -> Mend:
        self.inbox.silent.add(site.place)
        return lambda: self.inbox.silent.discard(site.place)

    def _pause_replay(self, site: Site) -> Mend:
        site.database.pause_replay()
        return site.database.resume_replay

    def _slow_stop(self, site: Site) -> Mend:
        site.database.slow_stop = True
        return lambda: setattr(site.database, "slow_stop", False)

    def _stall_disk(self, site: Site) -> Mend:
        site.database.disk_stalls = True
        return lambda: setattr(site.database, "disk_stalls", False)

    def _fail_promotion(self, site: Site) -> Mend:
        site.database.fails_promotion = True
        return lambda: setattr(site.database, "fails_promotion", False)

    def _fail_starts(self, site: Site) -> Mend:
        site.database.fails_starts = True
        return lambda: setattr(site.database, "fails_starts", False)

    def _kill_agent(self, site: Site) -> None:
        if site.node is not None:
            self.scheduler.kill(site.node.owner)
            site.node = None

    def _kill_sender(self, site: Site) -> None:
        if site.sender is not None:
            self.scheduler.kill(site.sender.owner)
            site.sender = None

    def _restart(self, site: Site) -> None:
        if site.lost:
            return
        if site.node is None:
            self._start_agent(site)
        if site.sender is None:
            self._start_sender(site)

    def _lose_power(self, site: Site) -> Mend:
        back = self._kill_site(site)
        site.database.lose_power()
        return back

    def _kill_site(self, site: Site) -> Mend:
        site.lost = True
        self._kill_agent(site)
        self._kill_sender(site)
        site.database.crash()
        self.cluster.down.add(site.place)

        def back() -> None:
            site.lost = False
            self.cluster.down.discard(site.place)
            self._restart(site)

        return back

    def _lose_disk(self, site: Site) -> Mend:
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

    def _forget(self, site: Site) -> Mend:
        known = site.database.disk.incarnation if site.database.disk is not None else ""
        back = self._lose_disk(site)
        if site.database.disk is not None:
            site.database.disk.incarnation = known
            site.database.disk.copy_of(site.database.disk.wal[: len(site.database.disk.wal) // 3])
            site.database.disk.checkpoint = len(site.database.disk.wal)
        return back

    def _start_second(self, site: Site) -> Mend:
        """Beside the node, with a copy of all that lies on its disk."""
        known = site.database
        beside = Database(self.world, known.node, known.place, machine=second(known.node))
        if known.disk is not None:
            beside.disk = Disk(
                incarnation=self.world.new_name("disk"),
                timeline=known.disk.timeline,
                control_timeline=known.disk.control_timeline,
                was_primary=known.disk.was_primary,
            )
            beside.disk.copy_of(known.disk.wal)
            beside.disk.checkpoint = len(beside.disk.wal)
        clock = SimulatedClock(self.scheduler, offset=self.rng.uniform(0, 1e5))
        copied = Site(site.place, beside, clock, site.settings)
        copied.lease_file.copy_of(site.lease_file)
        self._start_agent(copied)

        def end() -> None:
            self._kill_agent(copied)
            beside.crash()

        return end

    def _put_back(self, site: Site) -> Mend:
        """The whole volume as it was a while ago: it has not lost its identity, nor whether it was a primary."""
        back = self._kill_site(site)
        if (disk := site.database.disk) is not None:
            site.database.disk = disk.older(self.world.entries)
        return back

    def _stop_agent(self, site: Site) -> Mend:
        return self._stop(f"agent {site.database.machine}")

    def _stop_postgres(self, site: Site) -> Mend:
        return self._stop(site.database.owner)

    def _stop_sender(self, site: Site) -> Mend:
        return self._stop(f"sender {site.place}")

    def _stop_site(self, site: Site) -> Mend:
        go_on = self._stop(
            f"agent {site.database.machine}",
            site.database.owner,
            f"dispatcher {site.place}",
            f"sender {site.place}",
        )
        self.cluster.down.add(site.place)

        def back() -> None:
            go_on()
            if not site.lost:
                self.cluster.down.discard(site.place)

        return back

    def _stop(self, *owners: str) -> Mend:
        for owner in owners:
            self.scheduler.stop(owner)

        def go_on() -> None:
            for owner in owners:
                self.scheduler.resume(owner)

        return go_on

    # -- between places, and asked for

    def _cut(self, fault: Fault) -> Mend:
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

    def _ask_operator(self, site: Site, fault: Fault) -> None:
        if fault.kind is Kind.FORCE:
            asked = self.operator.force(site, self.scheduler.now + fault.lasts)
        elif fault.kind is Kind.MAINTENANCE:
            asked = self.operator.announce(site, fault.lasts)
        else:
            asked = self.operator.plan(site, f"planned{fault.at}", fault.other, fault.lasts)
        self.scheduler.spawn(asked, "operator")

    def _ask_for_swap(self, fault: Fault, *, to: str | None = None, phase: Phase = Phase.REQUESTED) -> None:
        """As an agent's API does it, by whatever the records say now, with no check but that there is no swap."""
        if not any(self.cluster.serves(p) for p in PLACES):
            return
        picture = self.cluster.snapshot
        leader = picture.leader
        if leader is None or picture.swap is not None:
            return
        target = self._target(leader.record.node, fault) if to is None else to
        swap = Swap(
            id=f"swap{fault.at}",
            from_node=leader.record.node,
            to_node=target,
            by="op",
            phase=phase,
            term=leader.record.term,
            requested_at=SimulatedClock(self.scheduler).wall(),
        )
        self._write(self._writer(target).request(swap))

    def _target(self, leader: str, _: Fault) -> str:
        return NODE_OF["denver" if leader == NODE_OF["columbus"] else "columbus"]

    def _want(self, *, paused: bool) -> None:
        """As an operator's `sitectl pause` and `resume`."""
        known = self.cluster.snapshot.desired
        wanted = known.record if known is not None else Desired()
        desired = wanted.model_copy(update={"paused": paused, "paused_by": "op"})
        what = Deed.PAUSED if paused else Deed.RESUMED
        act = Act(what=what, by="op", at=SimulatedClock(self.scheduler).wall())
        self._write(self._writer(NODE_OF["columbus"]).want(desired, act))

    def _overwrite(self) -> Mend:
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

    def _lose_keys(self, fault: Fault) -> None:
        """All records, or some of those that stay for ever."""
        some = self.rng.sample(FOR_EVER, self.rng.randint(1, len(FOR_EVER)))
        keys = self.cluster.keys if self.rng.random() < 0.6 else [PREFIX + name for name in some]
        whole = len(keys) > len(some)
        self.say(f"DELETES    {'all' if whole else ', '.join(some)}")
        self._adopt(fault, log_deleted=whole)
        self.cluster.lose(keys)

    def _lose_members(self, fault: Fault) -> Mend:
        """Nobody goes over to what is made in their place by himself: every process is started again."""
        self.cluster.down |= set(PLACES)
        self.cluster.all_lost = True

        def back() -> None:
            self._adopt(fault, log_deleted=False)
            self.cluster.make_anew()
            self.cluster.down.difference_update(PLACES)
            self.scheduler.spawn(self._start_all_again(), "operator")

        return back

    def _adopt(self, fault: Fault, *, log_deleted: bool) -> None:
        term = self.cluster.snapshot.term
        known = term.record.term if term is not None else self._last_term
        self._last_term = max(self._last_term, known)
        self._data_lost(self.adopter.adopted, log_deleted=log_deleted)
        self.scheduler.spawn(self.adopter.adopt(fault.other, self._last_term), "operator")

    async def _start_all_again(self) -> None:
        """The agents first, and of these whose PostgreSQL serves."""
        serves = self.adopter.who_holds_all()
        sites = sorted(self.sites.values(), key=lambda site: site.database.node != serves)
        for site in sites:
            await self.scheduler.wait(self.rng.uniform(0.2, 1.5))
            if site.node is not None and not site.node.etcd.knows:
                self._kill_agent(site)
                self._restart(site)
        for site in sites:
            await self.scheduler.wait(self.rng.uniform(0.1, 0.5))
            if site.sender is not None and not site.sender.etcd.knows:
                self._kill_sender(site)
                self._restart(site)
        for place in PLACES:
            self._start_others(place)

    def _restore(self, name: str) -> None:
        believed = self.cluster.snapshot
        if name not in believed.bad:
            return
        self.say(f"RESTORES   {name}")
        if name == "desired":
            self._want(paused=False)
        elif name in ("initialize", "term", "sync") and (entry := getattr(believed, name)) is not None:
            self._put_value(name, entry.record.encode())

    def _put_value(self, name: str, value: bytes) -> None:
        self.cluster.store.txn((), (Put(key=PREFIX + name, value=value),), read_on_failure=False)

    def _writer(self, node: str) -> Writer:
        picture = self.cluster.snapshot
        return Writer(prefix=PREFIX, cluster=picture, node=node, site="", incarnation="", lease=0)

    def _write(self, transaction: Transaction) -> None:
        self.cluster.store.txn(transaction.compares, transaction.writes, read_on_failure=False)

    def mend_all(self) -> None:
        self.say("FAULTS END")
        self.network.mend_all()
        self.cluster.down.clear()
        self.cluster.sick, self.cluster.late_only = 0.0, False
        self.cluster.slow.clear()
        self.inbox.lost.clear()
        self.inbox.silent.clear()
        self.truth.blind.clear()
        for site in self.sites.values():
            if site.sender is not None:
                site.sender.calm()
        self.cluster.look()
