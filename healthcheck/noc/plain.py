"""The pieces that several panels are made of, as plain data."""

from datetime import datetime
from typing import Any

from healthcheck.board import Row
from healthcheck.noc.scene import Scene
from healthcheck.verdicts import Verdict

Panel = dict[str, Any]


def iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None


def rounded(value: float | None) -> float | None:
    return round(value, 1) if value is not None else None


def now(scene: Scene, flow: str) -> float | None:
    series = scene.series.get(flow, ())
    return series[-1] if series else None


def brief(row: Row | None) -> Panel:
    if row is None:
        return {
            "verdict": Verdict.UNKNOWN.value,
            "detail": "not looked at from here",
            "since": None,
            "latency_s": None,
        }
    return {
        "verdict": row.standing.verdict.value,
        "detail": row.last.detail if row.last else "not looked at yet",
        "since": iso(row.wall_since),
        "latency_s": round(row.last.latency, 4) if row.last and row.last.ok and row.last.latency else None,
    }
