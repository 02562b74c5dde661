"""The last decisions of each lane, with the facts that they were taken on: what `sitectl why` tells of the past. Pure.

A decision is remembered when it is another one than before, or when its effect was begun. One that is begun again and
again is one entry that counts; and of lanes that go to and fro, as upkeep does, each row is one entry. All of it is of
this agent, since it started; changes of leader have their evidence in the history for ever.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.table import Decision, Lane

KEPT = 50  # decisions of each lane
TO_AND_FRO = (Lane.REACHED, Lane.UPKEEP)


@dataclass(frozen=True, kw_only=True)
class Remembered:
    at: datetime
    last_at: datetime  # when it was begun the last time
    begun: int  # how often its effect was begun; 0: it has none, or its lane was busy
    decision: Decision
    evidence: Mapping[str, str]


def remember(
    past: tuple[Remembered, ...], decision: Decision, f: Facts, *, started: bool
) -> tuple[Remembered, ...]:
    """The lane's past with this decision, the oldest first."""
    compared = past if decision.lane in TO_AND_FRO else past[-1:]
    last = next((entry for entry in reversed(compared) if _alike(entry.decision, decision)), None)
    if last is not None:
        again = replace(last, last_at=f.wall, begun=last.begun + started)
        return (*(entry for entry in past if entry is not last), again)
    new = Remembered(at=f.wall, last_at=f.wall, begun=int(started), decision=decision, evidence=evidence(f))
    return (*past[1 - KEPT :], new)


def _alike(one: Decision, other: Decision) -> bool:
    """The same row asks for the same kind of effect: what differs is how old its facts are."""
    return one.rule == other.rule and type(one.effect) is type(other.effect)


def evidence(f: Facts) -> dict[str, str]:
    """The facts that most decisions rest on, in words."""
    sync, swap, pg = f.sync, f.swap, f.pg
    told = {
        "leader": _leader(f),
        "in step": ", ".join(s.node for s in sync.standbys) or "nobody else" if sync else "no record",
        "etcd": "never heard" if f.etcd_heard_at is None else f"heard {f.now - f.etcd_heard_at:.1f} s ago",
        "lease": f"{f.lease_ends_in:.1f} s left" if f.lease.id else "none",
        "PostgreSQL": f"{pg.state.value}, timeline {pg.timeline}, position {pg.received_lsn}",
        "canary": "never seen" if f.canary_age is None else f"{f.canary_age:.1f} s old",
    }
    if swap is not None:
        told["swap"] = f"{swap.from_node} to {swap.to_node}, {swap.phase.value} for {f.phase_age:.1f} s"
    if f.paused:
        told["automatic swaps"] = "paused"
    return told


def _leader(f: Facts) -> str:
    if f.leader is not None:
        whose = " (we)" if f.lead else ""
        return f"{f.leader.record.node}{whose}, term {f.leader.record.term}"
    since = "" if f.leader_absent_since is None else f" for {f.now - f.leader_absent_since:.1f} s"
    return f"nobody{since}, last term {f.term}"


def document(past: Iterable[tuple[Remembered, ...]]) -> list[dict[str, Any]]:
    """Of all lanes, the newest first (docs/interfaces.md)."""
    newest_first = sorted((entry for lane in past for entry in lane), key=lambda e: e.last_at, reverse=True)
    return [
        {
            "at": entry.at.isoformat(timespec="milliseconds"),
            "last_at": entry.last_at.isoformat(timespec="milliseconds"),
            "lane": entry.decision.lane.value,
            "rule": entry.decision.rule,
            "sentence": entry.decision.sentence,
            "effect": type(entry.decision.effect).__name__ if entry.decision.effect else None,
            "begun": entry.begun,
            "evidence": dict(entry.evidence),
        }
        for entry in newest_first
    ]
