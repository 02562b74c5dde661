"""A swap that an operator has planned for a time to come: when it is due, and what stands in its way then. Pure.

It is kept in `desired`. The leader's agent begins it, by the checks of any swap, at that time: one that is refused then
is told in the history, and nothing moves. One that nobody could begin within `LATE` of its time is dropped likewise:
what was wanted at night is not done at noon.

Clocks of different places are never compared for it. It is due when our wall clock says so and, if we saw it planned,
when as much time has passed by our own clock as lay before it then: a wall clock that jumps begins nothing early.
"""

from datetime import datetime, timedelta
from typing import Any

from sitecontrol.leadership.effects import BeginPlanned, DropPlanned
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.swapping import obstacles
from sitecontrol.leadership.turns import target_in
from sitecontrol.records import Desired, Planned

AHEAD = timedelta(days=7)  # at most
LATE = 300.0  # seconds


def planned(f: Facts) -> Planned | None:
    return f.cluster.desired.record.planned if f.cluster.desired else None


def due(f: Facts) -> bool:
    """Its time has come, and we are to begin it: whoever is still about to open waits."""
    wanted = planned(f)
    ours = f.lead and f.open and f.etcd_here and f.lease_safe
    return wanted is not None and ours and _late_by(f, wanted) >= 0


def missed(f: Facts) -> bool:
    wanted = planned(f)
    return wanted is not None and _late_by(f, wanted) > LATE


def in_the_way(f: Facts, wanted: Planned) -> tuple[str, ...]:
    """By what is seen now. A swap in progress is waited for."""
    node = _target(f, wanted)
    return (f"no site and no node {wanted.to!r} is configured",) if node is None else obstacles(f, node)


def begin(f: Facts) -> BeginPlanned:
    wanted = planned(f)
    return BeginPlanned(to_node=(_target(f, wanted) if wanted else None) or "")


def drop(f: Facts) -> DropPlanned:
    wanted = planned(f)
    return DropPlanned(reason="; ".join(in_the_way(f, wanted)) if wanted else "")


def drop_missed(f: Facts) -> DropPlanned:
    wanted = planned(f)
    late = round(_late_by(f, wanted)) if wanted else 0
    return DropPlanned(
        reason=f"nobody could begin it in time: it is {late} s late, and at most {LATE:g} s are taken"
    )


def without(f: Facts) -> Desired:
    """What is wanted besides."""
    known = f.cluster.desired.record if f.cluster.desired else Desired()
    return known.model_copy(update={"planned": None})


def document(f: Facts) -> dict[str, Any] | None:
    """As `/cluster` and `/why` tell it: with what would stand in its way now."""
    wanted = planned(f)
    if wanted is None:
        return None
    return {**wanted.model_dump(mode="json"), "in_the_way": list(in_the_way(f, wanted))}


def wrong_time(now: datetime, at: datetime) -> str | None:
    """Why no swap can be planned for then."""
    if at <= now:
        return f"{_told(at)} is past: it is {_told(now)} by the clock of the agent that was asked"
    if at > now + AHEAD:
        return f"{_told(at)} is more than {AHEAD.days} days ahead"
    return None


def _told(at: datetime) -> str:
    return at.isoformat(" ", "seconds")


def _target(f: Facts, wanted: Planned) -> str | None:
    return wanted.to if wanted.to in f.site_of else target_in(f, wanted.to)


def _late_by(f: Facts, wanted: Planned) -> float:
    """Seconds; below 0: it is not yet due."""
    by_wall = (f.wall - wanted.at).total_seconds()
    seen_for = f.now - f.health.windows.get(wanted, float("-inf"))
    return min(by_wall, seen_for - (wanted.at - wanted.asked_at).total_seconds())
