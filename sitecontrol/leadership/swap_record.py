"""How a swap's record goes on, and what is told of it. Pure."""

from datetime import datetime

from sitecontrol.leadership.audit import Act
from sitecontrol.records import Deed, Phase, PhaseTime, Swap


def of_swap(what: Deed, swap: Swap, at: datetime, *, reason: str | None = None, source: str = "") -> Act:
    return Act(
        what=what,
        by=swap.by,
        at=at,
        about=f"{swap.from_node} to {swap.to_node}, swap {swap.id}",
        reason=swap.reason if reason is None else reason,
        source=source,
    )


def passed(swap: Swap, *phases: Phase, at: datetime) -> Swap:
    """The record after these phases, all noted at `at`, standing in the last of them."""
    times = swap.times + tuple(PhaseTime(phase=phase, at=at) for phase in phases)
    return swap.model_copy(update={"phase": phases[-1], "times": times})


def durations(swap: Swap) -> dict[str, int]:
    """Milliseconds from one noted phase to the next, by the later one's name."""
    before = swap.requested_at
    result: dict[str, int] = {}
    for step in swap.times:
        result[step.phase.value] = max(0, round((step.at - before).total_seconds() * 1000))
        before = step.at
    return result
