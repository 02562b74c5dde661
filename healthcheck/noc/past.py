"""How each term began, with the duration of each phase. Pure."""

from healthcheck.noc.plain import Panel, iso
from healthcheck.noc.scene import Scene
from sitecontrol.records import HistoryEntry

SWAPS_SHOWN = 12


def swaps(scene: Scene) -> Panel:
    return {"swaps": [_entry(e) for e in scene.history[:SWAPS_SHOWN]]}


def _entry(entry: HistoryEntry) -> Panel:
    return {
        "term": entry.term,
        "node": entry.node,
        "site": entry.site,
        "at": iso(entry.at),
        "kind": entry.kind,
        "by": entry.by,
        "reason": entry.reason,
        "evidence": dict(entry.evidence),
        "steps": [
            {"phase": s.phase.value, "at": s.at.isoformat(timespec="milliseconds")} for s in entry.steps
        ],
        "durations_ms": dict(entry.durations_ms),
        "total_ms": sum(entry.durations_ms.values()) if entry.durations_ms else None,
    }
