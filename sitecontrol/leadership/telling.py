"""What is told in the audit log of things that agents do by themselves, and how long a change of leader took. Pure.

A claim or a swap is told by the transaction that makes it. A fence and a leader that gives up cannot wait for one: they
are told afterwards, once somebody leads again (`Writer.note`), so that no word about them stands in the way of the next
claim.
"""

from dataclasses import dataclass, replace

from sitecontrol.leadership.alike import Told
from sitecontrol.leadership.audit import Act
from sitecontrol.leadership.effects import Claim, Fence, GiveUp
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.remembered import evidence
from sitecontrol.leadership.table import Decision
from sitecontrol.quarantine import SetAside
from sitecontrol.records import Deed


def begun(decision: Decision, f: Facts) -> Act | None:
    """Of a decision whose effect was begun: what has to be told of it later."""
    effect = decision.effect
    if isinstance(effect, GiveUp):
        what, about = Deed.GAVE_UP, f"{f.node} gives up the lead of term {f.term}"
    elif isinstance(effect, Fence):
        what, about = Deed.FENCED, f"{f.node} ends its PostgreSQL"
    else:
        return None
    proof = {"rule": decision.rule, "sentence": decision.sentence, **evidence(f)}
    return Act(what=what, by=f"agent {f.node}", at=f.wall, about=about, reason=effect.reason, evidence=proof)


def calm(f: Facts) -> bool:
    """Somebody leads, nothing moves, and we are not about to open: a note takes its number from nobody in a hurry."""
    opening = f.lead and not f.open
    return f.cluster_read and f.etcd_here and f.leader is not None and f.swap is None and not opening


# -- how long a failover took -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Taking:
    """A lead that we take, from the last sign of life of the leader before. Monotonic seconds."""

    term: int
    alive_at: float | None  # its last canary; None: we never saw one
    absent_at: float  # `leader` was gone
    taken_at: float | None = None
    promoted_at: float | None = None
    opened_at: float | None = None

    @property
    def durations_ms(self) -> dict[str, int]:
        """Each phase that is known, in order."""
        moments = {
            "detection": (self.alive_at, self.absent_at),
            "election": (self.absent_at, self.taken_at),
            "promotion": (self.taken_at, self.promoted_at),
            "reopening": (self.promoted_at, self.opened_at),
        }
        return {
            name: max(0, round((end - start) * 1000))
            for name, (start, end) in moments.items()
            if start is not None and end is not None
        }


def taking(decision: Decision, f: Facts) -> Taking | None:
    """A claim was begun on these facts."""
    if not isinstance(decision.effect, Claim):
        return None
    absent = f.now if f.leader_absent_since is None else f.leader_absent_since
    alive = None if f.canary_age is None else min(absent, f.now - f.canary_age)
    return Taking(term=f.term + 1, alive_at=alive, absent_at=absent)


def further(taken: Taking, f: Facts) -> Taking | None:
    """After another look; None: it came to nothing, or another term has begun."""
    if f.term > taken.term or (f.leader is not None and not f.lead):
        return None
    if not f.lead or f.term < taken.term:
        return taken
    if taken.taken_at is None:
        taken = replace(taken, taken_at=f.now)
    if taken.promoted_at is None and f.pg.state is PgState.PRIMARY:
        taken = replace(taken, promoted_at=f.now)
    if taken.opened_at is None and f.open:
        taken = replace(taken, opened_at=f.now)
    return taken


# -- what lies on a node's own disk -------------------------------------------------------------------------------


def set_aside(f: Facts, file: SetAside) -> Act:
    """A file of rows that only this node held was made."""
    header = file.header
    counts = {f"rows of {table}": str(count) for table, count in header.counts.items()}
    why = {} if header.error is None else {"error": header.error}
    return Act(
        what=Deed.SET_ASIDE,
        by=f"agent {f.node}",
        at=header.at,
        about=f"{header.rows} rows of {f.node} in {file.name}",
        reason=f"{header.leader} leads, and this node alone held them",
        evidence={**counts, **why},
    )


def settled(f: Facts, file: SetAside) -> Act:
    return Act(
        what=Deed.SETTLED,
        by=file.settled_by or "somebody",
        at=f.wall,
        about=f"{file.name} of {f.node}",
        reason="its rows are dealt with",
    )


def returned(f: Facts) -> Act:
    """An operator counted us as gone for good, and here we are."""
    return Act(
        what=Deed.RETURNED,
        by=f"agent {f.node}",
        at=f.wall,
        about=f.node,
        reason="its agent was started again",
    )


def settings_changed(f: Facts, before: Told, now: Told) -> Act | None:
    """Our own [failover] is another one than that of the last start. None: it is the same."""
    changed = {
        f"failover.{name}": f"{before.get(name)} before, {now.get(name)} now"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    }
    if not changed:
        return None
    return Act(
        what=Deed.SETTINGS,
        by=f"agent {f.node}",
        at=f.wall,
        about=f"{f.node}: {', '.join(changed)}",
        reason="the agent was started with other settings",
        evidence=changed,
    )
