"""What this place can reach, and which sites are fit to be the live site, seen from here. Pure.

The words matter, because agents act on them (failover.md, "When health, not death, is the reason"):

- **blind**: nothing outside our own place is reached; our vote on others does not count.
- **reach**: the verdict on each target, and on each place, which is reached when anything in it is.
- **fit**: a site is unfit only for a reason that was *seen* (a whole group of what it needs is down, its
  canary stands still). What cannot be told is no reason; a site of which nothing is known has no entry.

One link or one dispatcher of several being down makes nobody unfit: its work goes round it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from healthcheck.board import Row
from healthcheck.targets import What
from healthcheck.verdicts import Verdict
from sitecontrol.records import Observation, ReachState
from sitecontrol.settings import Place, PlaceKind

# What a live site cannot do without, and what is said when all of it is down.
NEEDS: Mapping[What, str] = {
    What.AGENT: "no agent answers",
    What.POSTGRES: "no database answers",
    What.DISPATCHER: "no dispatcher answers",
    What.LINK: "no carrier link is bound",
}

REACH = {
    Verdict.UP: ReachState.UP,
    Verdict.GOING_DOWN: ReachState.GOING_DOWN,
    Verdict.DOWN: ReachState.DOWN,
    Verdict.GOING_UP: ReachState.GOING_UP,
    Verdict.MAINTENANCE: ReachState.UNKNOWN,
    Verdict.UNKNOWN: ReachState.UNKNOWN,
}

# A place is as reachable as the best of what is in it.
BEST_FIRST = (
    ReachState.UP,
    ReachState.GOING_DOWN,
    ReachState.GOING_UP,
    ReachState.DOWN,
    ReachState.UNKNOWN,
)


@dataclass(frozen=True, kw_only=True)
class Fitness:
    fit: bool | None  # None: cannot be told from here
    reasons: tuple[str, ...] = ()


def observe(
    here: str, places: Sequence[Place], rows: Sequence[Row], live_node: str | None, at: datetime
) -> Observation:
    """The record that this place publishes. `live_node` is the leader's node, as far as known here."""
    reach = {
        row.target.name: REACH[row.standing.verdict] for row in rows if row.target.what is not What.DEVICE
    }
    reach |= {f"place/{p.name}": reach_of(p.name, here, rows) for p in places}
    judged = {
        p.name: fitness([r for r in rows if r.target.place == p.name], live_node)
        for p in places
        if p.kind is PlaceKind.SITE
    }
    return Observation(
        place=here,
        at=at,
        blind=is_blind(here, rows),
        reach=reach,
        fit={site: f.fit for site, f in judged.items() if f.fit is not None},
        reasons={site: f.reasons for site, f in judged.items() if f.reasons},
    )


def is_blind(here: str, rows: Sequence[Row]) -> bool:
    """Whether nothing is reached by this place's own looks beyond itself."""
    return not any(row.standing.verdict.alive for row in rows if _is_outside(here, row))


def _is_outside(here: str, row: Row) -> bool:
    if row.target.what is What.ETCD:
        return False  # answers through our own member too
    # Only what was reached by ourselves counts, not what a neighbour told us of.
    return row.target.source is None and (row.target.place != here or row.target.what is What.DEVICE)


def reach_of(place: str, here: str, rows: Sequence[Row]) -> ReachState:
    if place == here:
        return ReachState.UP
    seen = {
        REACH[row.standing.verdict]
        for row in rows
        if row.target.place == place and (row.target.source is None or row.target.what is What.MEMBER)
    }
    return next((state for state in BEST_FIRST if state in seen), ReachState.UNKNOWN)


def fitness(rows: Sequence[Row], live_node: str | None) -> Fitness:
    """Of one site, from the rows of what is in it."""
    groups: dict[What, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.target.what].append(row)
    reasons = [
        f"{words}: {_first_detail(groups[what])}" for what, words in NEEDS.items() if _all_dead(groups[what])
    ]
    reasons += [
        f"it leads, but its canary stands still: {row.last.detail if row.last else 'never seen'}"
        for row in groups[What.CANARY]
        if row.target.of == live_node and row.standing.verdict.dead
    ]
    if reasons:
        return Fitness(fit=False, reasons=tuple(reason[:500] for reason in reasons))
    untold = any(groups[what] and not any(r.standing.verdict.alive for r in groups[what]) for what in NEEDS)
    return Fitness(fit=None if untold or not rows else True)


def _all_dead(rows: Sequence[Row]) -> bool:
    """Every one that can be judged is down, and at least one can be."""
    judged = [r for r in rows if r.standing.verdict.alive or r.standing.verdict.dead]
    return bool(judged) and all(r.standing.verdict.dead for r in judged)


def _first_detail(rows: Sequence[Row]) -> str:
    row = next(r for r in rows if r.standing.verdict.dead)
    return f"{row.target.name}: {row.last.detail if row.last else 'never seen'}"
