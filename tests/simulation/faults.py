"""What goes wrong, as data: a schedule that a seed makes, and that can be shortened fault by fault."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

SITES = ("columbus", "denver")
PLACES = (*SITES, "witness")


class Kind(Enum):
    KILL_SITE = "kill-site"  # every process of it, and its etcd member
    LOSE_POWER = "lose-power"  # as kill-site, and what was not flushed is gone
    KILL_POSTGRES = "kill-postgres"
    KILL_AGENT = "kill-agent"
    STOP_AGENT = "stop-agent"  # SIGSTOP, then continued
    STOP_POSTGRES = "stop-postgres"
    KILL_DISPATCHER = "kill-dispatcher"
    STOP_DISPATCHER = "stop-dispatcher"
    STOP_SITE = "stop-site"
    CUT = "cut"  # between two places, both ways
    CUT_ONE_WAY = "cut-one-way"
    ISOLATE = "isolate"  # a place from both others
    ETCD_MEMBER = "etcd-member"
    ETCD_QUORUM = "etcd-quorum"  # all three members
    ETCD_SICK = "etcd-sick"  # calls get lost, or are applied late
    ETCD_LATE = "etcd-late"  # every transaction is applied after its caller has given it up
    ETCD_SLOW = "etcd-slow"  # its answers to a place come late, but in time (scenarios only)
    COMPACTION = "compaction"  # etcd forgets its history
    WATCH_STALLS = "watch-stalls"
    SWAP = "swap"  # an operator asks for one
    SLOW_STOP = "slow-stop"  # a clean shutdown does not end
    DISK_STALLS = "disk-stalls"  # it takes no WAL
    BLIND = "blind"  # the probes of a place reach nothing
    PAUSE = "pause"  # an operator switches automatic swaps off
    CARRIER_LOST = "carrier-lost"  # the lines of a site to all carriers
    CARRIER_SILENT = "carrier-silent"  # it takes texts, and answers nothing
    REPLAY_PAUSED = "replay-paused"  # a standby receives, and replays nothing
    PROMOTION_FAILS = "promotion-fails"
    CLOCK_JUMPS = "clock-jumps"  # the wall clock, an hour
    ETCD_LEADER = "etcd-leader"  # moves: every lease begins anew
    GARBAGE = "garbage"  # somebody overwrites a record, and in the end the operator has it as it was
    STARTS_FAIL = "starts-fail"  # a PostgreSQL that ends cannot be started again (scenarios only)
    FORCE = "force"  # an operator has a node lead on without those who hold everything (scenarios only)
    ODD_SWAP = "odd-swap"  # somebody writes one that is past its checks, to `other`: a site, or nobody (scenarios only)
    PLAN = "plan"  # an operator plans a swap for when this ends (scenarios only)
    KEYS_LOST = "keys-lost"  # somebody deletes records; an operator makes them anew (scenarios only)
    ETCD_ANEW = "etcd-anew"  # all three members lose their data; likewise (scenarios only)
    MAINTENANCE = "maintenance"  # an operator announces work at a site (scenarios only)
    FORGETFUL_DISK = (
        "forgetful-disk"  # a site is lost, and its disk has not kept what it had flushed (scenarios only)
    )
    SECOND = "second"  # a machine is started with a copy of a node's files (scenarios only)
    OLDER_SNAPSHOT = (
        "older-snapshot"  # a site is lost, and its whole volume is as it was a while ago (scenarios only)
    )
    WRONG_DISK = (
        "wrong-disk"  # a site is lost, and returns with an older copy (only where a scenario says so)
    )


@dataclass(frozen=True)
class Fault:
    at: float
    lasts: float
    kind: Kind
    where: str
    other: str = ""

    def __str__(self) -> str:
        other = f" {self.other}" if self.other else ""
        return f"{self.at:7.2f} s  {self.kind.value} {self.where}{other}, for {self.lasts:.2f} s"

    def __lt__(self, other: "Fault") -> bool:  # enums have no order of their own
        return (self.at, self.kind.value, self.where) < (other.at, other.kind.value, other.where)


REST = 3.0  # seconds: a longer pause between two faults teaches nothing, and costs as much as a fault
BEGIN, END = 1.5, 20.5  # seconds; before, the cluster comes to rest; after, it has to converge by itself
WEIGHTS = dict.fromkeys(Kind, 1.0) | {
    Kind.SWAP: 3.0,
    Kind.KILL_AGENT: 2.0,
    Kind.ETCD_SICK: 1.5,
    Kind.KILL_SITE: 2.0,
}


IN_SCENARIOS = (
    *(Kind.WRONG_DISK, Kind.FORGETFUL_DISK, Kind.OLDER_SNAPSHOT, Kind.SECOND, Kind.ETCD_SLOW),
    *(
        Kind.FORCE,
        Kind.PLAN,
        Kind.STARTS_FAIL,
        Kind.MAINTENANCE,
        Kind.KEYS_LOST,
        Kind.ETCD_ANEW,
        Kind.ODD_SWAP,
    ),
)
ANY = tuple(
    kind for kind in Kind if kind not in IN_SCENARIOS
)  # two disks lost at once are more than is promised
LINES = (Kind.CUT, Kind.CUT_ONE_WAY, Kind.ISOLATE, Kind.ETCD_SLOW)


def schedule(rng: random.Random, kinds: tuple[Kind, ...] = ANY) -> tuple[Fault, ...]:
    weights = [WEIGHTS[kind] for kind in kinds]
    found = []
    for _ in range(rng.randint(1, 7)):
        kind = rng.choices(kinds, weights)[0]
        at = rng.uniform(BEGIN, END - 2)
        lasts = min(rng.choice((0.1, 0.4, 1.0, 2.5, 4.0, 8.0, 12.0)) * rng.uniform(0.5, 1.5), END - at)
        where = rng.choice(PLACES if kind in ANYWHERE else SITES)
        other = rng.choice([p for p in PLACES if p != where]) if kind in BETWEEN else ""
        found.append(Fault(round(at, 2), round(lasts, 2), kind, where, other))
    if rng.random() < 0.4 and len(found) > 1:  # the second in the middle of the first
        first = found[0]
        near = round(first.at + rng.uniform(0.0, 1.2), 2)
        found[1] = Fault(near, min(found[1].lasts, END - near), found[1].kind, found[1].where, found[1].other)
    return closer(sorted(found))


def closer(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """The same faults, one over the other as they were, with no pause longer than `REST` before any; oldest first."""
    found, over, sooner = [], BEGIN, 0.0
    for fault in faults:
        at = fault.at - sooner
        if at - over > REST:
            at = over + (at - over) % REST
            sooner = fault.at - at
        found.append(replace(fault, at=round(at, 2)))
        over = max(over, at + fault.lasts)
    return tuple(found)


ANYWHERE = frozenset(
    {
        Kind.ISOLATE,
        Kind.ETCD_MEMBER,
        Kind.CUT,
        Kind.CUT_ONE_WAY,
        Kind.ETCD_LEADER,
        Kind.CLOCK_JUMPS,
        Kind.BLIND,
    }
)
BETWEEN = frozenset({Kind.CUT, Kind.CUT_ONE_WAY})
