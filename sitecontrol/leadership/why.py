"""If the live site died now: who would lead, how soon, what would be lost, and what is in the way. Pure.

Nothing here decides a second time. For each node that would be left, the facts that its agent would have are put
together from what is known here, as they would be once the leader's lease has run out, and the one table
(`leadership.decide`) is asked. So the answer cannot drift from what the agents do. Of another node only its record in
etcd is known, at most a second old; what that does not tell is said to be unknown, and not guessed.

Two losses are looked at: that of the whole live site (with its standbys and its member of etcd), and that of the
leader's node alone. While nobody leads both are the same question: who could take the lead now.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sitecontrol.etcd.api import FULL
from sitecontrol.leadership import planning
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Claim
from sitecontrol.leadership.electing import AWAIT_TURN
from sitecontrol.leadership.facts import Facts, LeaseFacts, PgFacts, PgState
from sitecontrol.leadership.mending import in_step_unknown
from sitecontrol.leadership.reaching import CURE, OLDER, older_copy
from sitecontrol.leadership.swapping import REPLAY_LAG_BYTES, obstacles
from sitecontrol.leadership.table import Decision, Lane
from sitecontrol.leadership.timing import LOOK_EVERY
from sitecontrol.leadership.turns import TURN, before_us
from sitecontrol.records import InStep, Role

ETCD_LOOKS_EVERY = 0.5  # seconds; how often etcd ends leases that have run out
JUST_AFTER = 0.01

BRIEF = ("what", "sentence", "would_lead", "typical_s", "worst_s", "lost", "in_the_way")

UNKNOWN_IN_STEP = (
    "`sync` is not believed: who holds every acknowledged message is not known until an operator says it (`sitectl"
    " node trust NODE`; with --dry-run it tells what might be lost)"
)
STATES = {Role.STANDBY: PgState.STANDBY, Role.STOPPED: PgState.STOPPED, Role.STARTING: PgState.ABSENT}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of the time until the next leader is open, in seconds."""

    what: str
    typical_s: float
    worst_s: float


# What follows the end of the lease, between two sites 35 ms apart, about as a lab takes it (docs/performance.md has the
# whole pause). The worst is that of a machine that is busy, with etcd and PostgreSQL answering.
NOTICED = Step(what="a standby notices", typical_s=0.05, worst_s=LOOK_EVERY + 0.05)
CLAIMED = Step(what="it takes the lead in etcd", typical_s=0.1, worst_s=0.5)
PROMOTED = Step(what="its PostgreSQL is promoted", typical_s=0.2, worst_s=1.0)
OPENED = Step(what="a barrier commits and dispatchers are let in", typical_s=0.1, worst_s=0.5)
LOST_WITH_IT = Step(
    what="the records of the lost site's other nodes, whose turn comes first, run out",
    typical_s=0.25,
    worst_s=TURN,
)
ELECTION = Step(
    what="etcd elects a leader of its own, and every lease begins anew", typical_s=1.5, worst_s=2.0
)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What is thought of as gone."""

    what: str  # "columbus", "columbus-a"; empty: nothing, nobody leads as it is
    nodes: frozenset[str]
    place: str | None = None  # with its member of etcd and its dispatchers


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """What would become of one node."""

    node: str
    site: str
    could_lead: bool | None  # None: not known from here
    rule: str | None = None  # the row of the table that its agent would take
    sentence: str = ""
    turn: int = 0  # how many would go first
    obstacles: tuple[str, ...] = ()  # what keeps it from leading
    notes: tuple[str, ...] = ()  # what does not, and is good to know


@dataclass(frozen=True, kw_only=True)
class Quorum:
    """Whether etcd would still have a majority; without one nobody can take the lead."""

    members: dict[str, bool]  # place -> its member answers; empty: not known from here
    left: int
    needed: int

    @property
    def holds(self) -> bool | None:
        return self.left >= self.needed if self.members else None


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """The answer for one loss."""

    loss: Loss
    would_lead: tuple[str, ...]  # the likeliest first; whoever is first in etcd leads
    steps: tuple[Step, ...]
    in_doubt: int  # texts that wait for a carrier's answer at dispatchers that would be gone
    in_the_way: tuple[str, ...]
    prospects: tuple[Prospect, ...]
    quorum: Quorum


def site_loss(f: Facts) -> Loss:
    """The live site, by our own settings."""
    site = f.site_of.get(f.leader.record.node) if f.leader else None
    if site is None:
        return Loss(what="", nodes=frozenset())
    return Loss(what=site, nodes=frozenset(n for n, s in f.site_of.items() if s == site), place=site)


def node_loss(f: Facts) -> Loss:
    if f.leader is None:
        return Loss(what="", nodes=frozenset())
    node = f.leader.record.node
    return Loss(what=node, nodes=frozenset({node}))


def outlook(f: Facts, loss: Loss) -> Outlook:
    prospects = tuple(_prospect(f, node, loss) for node in sorted(f.site_of))
    quorum = _quorum(f, loss)
    barred = _barred_for_all(f, quorum)
    could = [p for p in prospects if p.could_lead and not barred]
    could.sort(key=lambda p: p.turn)
    return Outlook(
        loss=loss,
        would_lead=tuple(p.node for p in could),
        steps=_steps(f, loss) if could else (),
        in_doubt=_in_doubt(f, loss),
        in_the_way=barred if could or barred else (*barred, *_all_obstacles(prospects, loss)),
        prospects=prospects,
        quorum=quorum,
    )


# -- one node ----------------------------------------------------------------------------------------------------


def _prospect(f: Facts, node: str, loss: Loss) -> Prospect:
    site = f.site_of[node]
    if node in loss.nodes:
        return Prospect(node=node, site=site, could_lead=False, obstacles=(f"{node} would be lost itself",))
    if not f.etcd_here:
        told = f"not known from here: {f.node} does not reach etcd, and has an old picture of {node}"
        return Prospect(node=node, site=site, could_lead=None, obstacles=(told,))
    then = hypothetical(f, node, loss)
    if then is None:
        why = _unknown(f, node)
        return Prospect(node=node, site=site, could_lead=None if f.member(node) else False, obstacles=(why,))
    decision = decide(Lane.POSTGRES, then)
    could = _could(decision, then)
    return Prospect(
        node=node,
        site=site,
        could_lead=could,
        rule=decision.rule,
        sentence=decision.sentence,
        turn=len(before_us(then)),
        obstacles=() if could else _obstacles(then, decision),
        notes=_notes(f, node),
    )


def hypothetical(f: Facts, node: str, loss: Loss) -> Facts | None:
    """What `node`'s agent would know when the leader's lease has run out and its canary has grown old. None: too
    little is known of it.
    """
    pg = f.pg if node == f.node else _pg_of(f, node, loss)
    lease = f.lease.id if node == f.node else _lease_of(f, node)
    if pg is None:
        return None
    gone_at = f.now + (float(f.settings.lease_ttl) if loss.nodes else 0.0)
    at = max(gone_at, f.now + f.settings.canary_max_age) + JUST_AFTER if loss.nodes else f.now
    last_canary = f.now if loss.nodes and pg.canary_at is not None else pg.canary_at
    absent_since = gone_at if loss.nodes else f.leader_absent_since
    return replace(
        f,
        now=at,
        node=node,
        site=f.site_of[node],
        cluster=replace(
            f.cluster,
            leader=None,
            # Who follows a leader that lives is told to have reached what its own record, a second old, does not say.
            reached=None if loss.nodes else f.cluster.reached,
            members={name: m for name, m in f.cluster.members.items() if name not in loss.nodes},
        ),
        etcd_heard_at=at,
        lease=LeaseFacts(id=lease, ends_at=at + f.settings.lease_ttl),
        pg=replace(pg, canary_at=last_canary, upstream=pg.upstream and not loss.nodes),
        leader_absent_since=absent_since,
        lead_since=None,
    )


def _pg_of(f: Facts, node: str, loss: Loss) -> PgFacts | None:
    """PostgreSQL of another node, as far as its record tells."""
    member, known = f.member(node), f.cluster.initialize
    state = STATES.get(member.record.role) if member else None
    if member is None or state is None:
        return None
    told = member.record
    if told.role is Role.STARTING and told.received_lsn > 0:
        state = PgState.STANDBY  # it runs, and has not compared its history with the leader's yet
    return PgFacts(
        state=state,
        system_id=known.record.system_id if known else None,
        incarnation=told.incarnation,
        timeline=told.timeline,
        control_timeline=told.timeline,
        received_lsn=told.received_lsn,
        replayed_lsn=told.replayed_lsn,
        canary_at=f.now if state is PgState.STANDBY and loss.nodes else None,
    )


def _lease_of(f: Facts, node: str) -> int:
    member = f.member(node)
    return member.lease if member else 0


def _unknown(f: Facts, node: str) -> str:
    member = f.member(node)
    if member is None:
        return f"the agent of {node} is not heard"
    return f"not known from here: {node} says that it is {member.record.role.value}, and is not named as that"


def _could(decision: Decision, then: Facts) -> bool | None:
    """None: it would begin with finding out what it holds."""
    if isinstance(decision.effect, Claim) or decision.rule == AWAIT_TURN:
        return True
    if decision.effect is not None and then.our_place_in_step is not None:
        return None
    return False


def _obstacles(then: Facts, decision: Decision) -> tuple[str, ...]:
    """Why the table does not let it lead, in names; else by the row itself."""
    node, mine = then.node, then.our_place_in_step
    if decision.effect is not None or then.pg.state not in (
        PgState.STANDBY,
        PgState.PRIMARY,
        PgState.STOPPED,
    ):
        return (f"PostgreSQL of {node} is {then.pg.state.value}: what it holds is not known before it runs",)
    found = list(_missing(then, mine))
    if not then.lease.id:
        found.append(f"{node} has no lease in etcd")
    if decision.rule == "paused":
        found.append(_paused(then))
    return tuple(found) or (f"{node} would hold: {decision.sentence}",)


def _missing(then: Facts, mine: InStep | None) -> Iterable[str]:
    """Why it might lack what was acknowledged: each part of `Facts.may_lead` by name."""
    node, pg = then.node, then.pg
    if then.may_lead:
        return
    if older_copy(then):
        yield f"{node}: {OLDER}; if no node that has them returns, {CURE}"
        return
    named = then.sync is not None and node in {s.node for s in then.sync.standbys}
    if mine is None and named:
        yield f"{node} has another data directory than the one that is in step"
    elif mine is None:
        yield f"{node} is not in step: it might lack acknowledged messages"
    elif pg.timeline < mine.timeline:
        yield f"{node} is on timeline {pg.timeline}, and what was acknowledged is on {mine.timeline}"
    elif max(pg.received_lsn, pg.replayed_lsn) < mine.lsn:
        behind = mine.lsn - max(pg.received_lsn, pg.replayed_lsn)
        yield f"{node} lacks {behind} bytes of what was acknowledged"


def _paused(f: Facts) -> str:
    desired = f.cluster.desired.record if f.cluster.desired else None
    by = f" by {desired.paused_by}" if desired and desired.paused_by else ""
    why = f": {desired.paused_reason}" if desired and desired.paused_reason else ""
    return f"automatic swaps are paused{by}{why} (`sitectl resume`)"


def _notes(f: Facts, node: str) -> tuple[str, ...]:
    member, found = f.member(node), []
    if member is not None:
        found += [f"{node}: {reason}" for reason in member.record.reasons]
        behind = member.record.received_lsn - member.record.replayed_lsn
        if behind > REPLAY_LAG_BYTES:
            found.append(f"{node} has {behind} bytes still to replay, which takes its time before it opens")
    work = f.maintenance(f.site_of[node])
    if work is not None:
        found.append(
            f"{work.site} is in maintenance, by {work.by}: that stops swaps, and no loss of another site"
        )
    return tuple(found)


# -- all of them -------------------------------------------------------------------------------------------------


def _quorum(f: Facts, loss: Loss) -> Quorum:
    answering = sum(answers for place, answers in f.etcd_members.items() if place != loss.place)
    needed = len(f.etcd_members) // 2 + 1
    return Quorum(members=dict(f.etcd_members), left=answering, needed=needed)


def _barred_for_all(f: Facts, quorum: Quorum) -> tuple[str, ...]:
    """What keeps everybody from leading, whoever is in step."""
    if not f.etcd_here:
        return (f"etcd is not reached from {f.node}: nobody can take the lead without it",)
    if quorum.holds is False:
        silent = ", ".join(place for place, answers in sorted(quorum.members.items()) if not answers)
        return (
            f"etcd would have {quorum.left} of its {len(quorum.members)} members, and needs {quorum.needed}"
            + (f" (silent to {f.node}: {silent})" if silent else ""),
        )
    if f.etcd_full:
        return (FULL,)
    if in_step_unknown(f):
        return (UNKNOWN_IN_STEP,)
    return ()


def _all_obstacles(prospects: Sequence[Prospect], loss: Loss) -> tuple[str, ...]:
    left = [told for p in prospects if p.node not in loss.nodes for told in p.obstacles]
    return tuple(dict.fromkeys(left)) or (f"no node would be left: all of them are in {loss.what}",)


def _steps(f: Facts, loss: Loss) -> tuple[Step, ...]:
    after: tuple[Step, ...] = (NOTICED, CLAIMED, PROMOTED, OPENED)
    if not loss.nodes:
        return after
    before_them = len({s.node for s in f.sync.standbys} & loss.nodes) if f.sync else 0
    if before_them:
        after = (replace(LOST_WITH_IT, worst_s=TURN * before_them), *after)
    ttl, renewed = float(f.settings.lease_ttl), f.settings.renew_every
    ends = Step(
        what="the leader's lease runs out",
        typical_s=ttl - renewed / 2 + ETCD_LOOKS_EVERY / 2,
        worst_s=ttl + ETCD_LOOKS_EVERY,
    )
    canary = max(0.0, f.settings.canary_max_age - ttl)
    stale = Step(what="the leader's last canary grows old", typical_s=canary, worst_s=canary)
    # Where etcd's leader runs is not always known: then it may be there.
    with_etcd = loss.place is not None and f.etcd_leader_place == loss.place
    maybe = loss.place is not None and f.etcd_leader_place is None
    elects = replace(ELECTION, typical_s=ELECTION.typical_s if with_etcd else 0.0)
    before = (*((elects,) if with_etcd or maybe else ()), ends, *((stale,) if canary else ()))
    return (*before, *after)


def _in_doubt(f: Facts, loss: Loss) -> int:
    there = (d.record for d in f.cluster.dispatchers.values() if d.record.site == loss.place)
    return sum(d.unanswered for d in there)


# -- in words ----------------------------------------------------------------------------------------------------


def how_soon(steps: Sequence[Step]) -> tuple[float, float]:
    """Typical and worst, in seconds."""
    return round(sum(s.typical_s for s in steps), 2), round(sum(s.worst_s for s in steps), 2)


def headline(seen: Outlook) -> str:
    when = f"If {seen.loss.what} died now" if seen.loss.what else "Nobody leads, and as it is now"
    if not seen.would_lead:
        return f"{when}, nobody could take the lead."
    typical, worst = how_soon(seen.steps)
    first, *others = seen.would_lead
    unless = f" (unless {' or '.join(others)} is first)" if others else ""
    return f"{when}, {first} would lead{unless}, in about {typical:g} s, at most {worst:g} s."


def lost(f: Facts, seen: Outlook) -> str:
    """What would be lost, in one or two sentences."""
    if seen.would_lead:
        doubt = (
            f" {seen.in_doubt} texts wait for a carrier's answer and would be in doubt."
            if seen.in_doubt
            else ""
        )
        return (
            "Nothing that was acknowledged. Requests that are not answered yet are asked again by their clients."
            + doubt
        )
    sync = f.sync
    if sync is None:
        return "Not known from here: no record tells who holds every acknowledged message."
    complete = sorted({sync.leader, *(s.node for s in sync.standbys)})
    return (
        f"Nothing that was acknowledged, for as long as one of these keeps its data: {', '.join(complete)}. Production"
        " holds until one of them can lead."
    )


def document(f: Facts) -> dict[str, Any]:
    """As `GET /why` tells it (docs/interfaces.md), without the agent's past decisions."""
    leader = f.leader.record if f.leader else None
    by_site, by_node = outlook(f, site_loss(f)), outlook(f, node_loss(f))
    return {
        "told_by": f.node,
        "etcd_reached": f.etcd_here,
        "live_site": leader.site if leader else None,
        "leader": leader.node if leader else None,
        "term": f.term,
        "site_lost": _told(f, by_site),
        "leader_lost": _told(f, by_node),
        "swap": {
            node: list(obstacles(f, node))
            for node in sorted(f.site_of)
            if leader is None or node != leader.node
        },
        "planned": planning.document(f),
        "etcd_leader": f.etcd_leader_place,
    }


def brief(f: Facts) -> dict[str, Any]:
    """As `GET /status` tells it: the loss of the whole live site, in short."""
    told = _told(f, outlook(f, site_loss(f)))
    return {name: told[name] for name in BRIEF}


def _told(f: Facts, seen: Outlook) -> dict[str, Any]:
    typical, worst = how_soon(seen.steps)
    return {
        "what": seen.loss.what or None,
        "sentence": headline(seen),
        "would_lead": list(seen.would_lead),
        "typical_s": typical if seen.steps else None,
        "worst_s": worst if seen.steps else None,
        "steps": [{"what": s.what, "typical_s": s.typical_s, "worst_s": s.worst_s} for s in seen.steps],
        "acknowledged_lost": 0 if seen.would_lead else None,
        "in_doubt": seen.in_doubt,
        "lost": lost(f, seen),
        "in_the_way": list(seen.in_the_way),
        "etcd_members": seen.quorum.members,
        "etcd_left": seen.quorum.left if seen.quorum.members else None,
        "etcd_needed": seen.quorum.needed if seen.quorum.members else None,
        "nodes": [
            {
                "node": p.node,
                "site": p.site,
                "could_lead": p.could_lead,
                "rule": p.rule,
                "sentence": p.sentence,
                "obstacles": list(p.obstacles),
                "notes": list(p.notes),
            }
            for p in seen.prospects
        ],
    }
