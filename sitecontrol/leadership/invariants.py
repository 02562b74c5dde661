"""Which invariants of docs/failover.md are seen to be broken, by what one agent knows. Pure.

Nothing is decided by it: each rule keeps its part by itself. It is told to people, because a broken invariant is a
defect, or somebody's hand, and whatever is promised rests on it.

Two kinds of sight. What one picture of etcd shows holds for its very revision, however old that is: one look is enough.
What needs two sources (the picture and our own PostgreSQL, or a word that is written anew only each second) may differ
for a while without any harm: it has to last for longer than any of them can be behind, at every look, with etcd heard.

`acked-survives` as a whole, `serves-through-dcs-loss` and `converges` are seen from no one place: the simulation and
the drills look at them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.observed import LOOK_GAP
from sitecontrol.leadership.steps import unawaited
from sitecontrol.leadership.swapping import DEADLINES, deadline
from sitecontrol.records import Role

SETTLES = 5.0  # seconds: a member's word is one old at most, and the picture moves with each
STANDS = 2.5  # seconds without a new picture after which the last may be an old one: its watch hangs
SWAP_SETTLES = (
    15.0  # seconds past a phase's deadline: the write that ends it may have to wait for etcd, or a leader
)


@dataclass(frozen=True, kw_only=True)
class Check:
    """`sees` tells what is wrong, or None. `lasts`: seconds that it must, at every look; 0: one look is enough."""

    name: str
    invariant: str  # its name in docs/failover.md
    sees: Callable[[Facts], str | None]
    lasts: float = SETTLES


@dataclass(frozen=True, kw_only=True)
class Broken:
    invariant: str
    what: str


@dataclass(frozen=True, kw_only=True)
class Doubts:
    """What is remembered from one look to the next, and what is broken by it."""

    looked_at: float | None = None
    since: Mapping[str, float] = field(default_factory=dict)  # a check's name -> since when it sees something
    broken: tuple[Broken, ...] = ()


def _two_lead(f: Facts) -> str | None:
    """A term is granted to one node, so an old word is no excuse: it tells of an older term."""
    lead = {}
    for node, member in f.cluster.members.items():
        if member.record.role is Role.LEADER:
            lead[node] = member.record
    if len(lead) < 2:
        return None
    led: dict[int, list[str]] = {}
    for node, record in sorted(lead.items()):
        if record.term:
            led.setdefault(record.term, []).append(node)
    return next(
        (
            f"{' and '.join(who)} both say that they lead in term {term}"
            for term, who in led.items()
            if who[1:]
        ),
        None,
    )


def _leads_out_of_step(f: Facts) -> str | None:
    """Who took the lead stands in `sync` of the term before, as leader or as standby, until it writes its own."""
    leader, sync = f.leader, f.sync
    if leader is None or sync is None or f.bad("leader") or f.bad("sync"):
        return None
    took = leader.record
    if sync.term >= took.term:
        return None
    complete = {(sync.leader, sync.leader_incarnation), *((s.node, s.incarnation) for s in sync.standbys)}
    if (took.node, took.incarnation) in complete:
        return None
    names = ", ".join(sorted(f"{node} ({disk})" for node, disk in complete))
    who = f"{took.node} ({took.incarnation}) leads in term {took.term}"
    return f"{who}, and `sync` of term {sync.term} names only {names}"


def _in_step_elsewhere(f: Facts) -> str | None:
    """An open leader has written `sync` itself: whoever it names runs on its timeline."""
    if not _leads_openly(f) or f.sync is None:
        return None
    for standby in f.sync.standbys:
        member = f.member(standby.node)
        told = member.record if member is not None else None
        if (
            told is not None
            and told.role is Role.STANDBY
            and told.incarnation == standby.incarnation
            and told.timeline not in (0, f.pg.timeline)
        ):
            here = f"and {f.node} leads on timeline {f.pg.timeline}"
            return f"`sync` names {standby.node}, which is on timeline {told.timeline}, {here}"
    return None


def _in_step_unawaited(f: Facts) -> str | None:
    """In etcd first out of step, then not waited for; so what commits meanwhile is on its disk."""
    without = unawaited(f) if _leads_openly(f) else ()
    return f"commits do not wait for {', '.join(without)}, whom `sync` names" if without else None


def _open_behind_another(f: Facts) -> str | None:
    """Whoever sees that another leads has ended its own PostgreSQL long before this."""
    leader, pg = f.leader, f.pg
    is_open = pg.state is PgState.PRIMARY and pg.open_term is not None
    if leader is None or f.lead or not is_open or leader.record.node == f.node:
        return None
    return f"{f.node} is open in term {pg.open_term}, and {leader.record.node} leads in term {leader.record.term}"


def _term_went_back(f: Facts) -> str | None:
    """A database was opened in a term that was granted before; one that etcd does not know will be granted again."""
    row, told = f.pg.row_term, f.cluster.term
    running = f.pg.state in (PgState.PRIMARY, PgState.STANDBY)
    if row is None or told is None or f.bad("term") or not running or row <= told.record.term:
        return None
    return (
        f"the database of {f.node} was opened in term {row}, and the last one granted is {told.record.term}"
    )


def _swap_goes_on(f: Facts) -> str | None:
    swap = f.swap
    if swap is None or f.leader is None or f.bad("swap") or swap.phase not in DEADLINES:
        return None
    within = deadline(f, swap.phase)
    if f.phase_age <= within:
        return None
    return f"swap {swap.id} to {swap.to_node} is in phase {swap.phase.value} for longer than {within:g} s"


def _leads_openly(f: Facts) -> bool:
    sync = f.sync
    return (
        f.lead
        and f.open
        and f.pg.state is PgState.PRIMARY
        and sync is not None
        and (sync.leader, sync.term) == (f.node, f.term)
        and not f.bad("sync")
    )


CHECKS: Sequence[Check] = (
    Check(name="two-lead", invariant="one-writer", sees=_two_lead, lasts=0.0),
    Check(name="term-went-back", invariant="one-writer", sees=_term_went_back),
    Check(name="in-step-unawaited", invariant="acked-survives", sees=_in_step_unawaited),
    Check(name="leads-out-of-step", invariant="only-in-step-leads", sees=_leads_out_of_step, lasts=0.0),
    Check(name="in-step-elsewhere", invariant="only-in-step-leads", sees=_in_step_elsewhere),
    Check(name="open-behind-another", invariant="no-stale-claim", sees=_open_behind_another),
    Check(name="swap-goes-on", invariant="swap-ends", sees=_swap_goes_on, lasts=SWAP_SETTLES),
)
CHECKED: tuple[str, ...] = tuple(dict.fromkeys(check.invariant for check in CHECKS))


def look(before: Doubts, f: Facts) -> Doubts:
    """After one more look. An agent that did not look for a while, or does not hear etcd, or whose picture stands still
    begins its counts anew.
    """
    if not f.cluster_read:
        return Doubts(looked_at=f.now)
    stalled = before.looked_at is None or f.now - before.looked_at > LOOK_GAP
    stands = f.cluster.read_at is None or f.now - f.cluster.read_at > STANDS
    known = {} if stalled or stands or not f.etcd_here else before.since
    since: dict[str, float] = {}
    broken: list[Broken] = []
    for check in CHECKS:
        what = check.sees(f)
        if what is None:
            continue
        since[check.name] = known.get(check.name, f.now)
        if f.now - since[check.name] >= check.lasts:
            broken.append(Broken(invariant=check.invariant, what=what))
    return Doubts(looked_at=f.now, since=since, broken=tuple(broken))
