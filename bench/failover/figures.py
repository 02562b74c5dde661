"""The figures that a report is made of, as they are kept in a file between two calls."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bench.peers.patroni import Run as PeerRun
from sitecontrol.drills.outcome import Outcome


class DrillFigures(BaseModel):
    """What is kept of one run of a drill; durations in seconds unless the name says otherwise."""

    model_config = ConfigDict(frozen=True)

    drill: str
    at: str  # UTC, ISO 8601
    quick: bool
    rate: float
    pause_s: float
    accepted: int
    refused: int
    acknowledged_lost: int
    duplicates_undeclared: int
    two_site_again_s: float | None
    fencing_ms: dict[str, float]
    phases: dict[str, float]  # of a failover, in `phases`' words
    swaps: list[dict[str, int]]  # of planned ones: milliseconds, by the later phase
    not_held: list[str]
    load: float  # of the machine, when it began
    gigabytes: float = 0.0  # that lay in the database of each site


class PeerFigures(BaseModel):
    model_config = ConfigDict(frozen=True)

    version: str
    settings: dict[str, int]
    runs: list[PeerRun]


class Figures(BaseModel):
    drills: list[DrillFigures] = []
    failed: list[str] = []  # runs that came to no end, and why: they have no figures
    patroni: PeerFigures | None = None

    def of(self, drill: str) -> list[DrillFigures]:
        return [run for run in self.drills if run.drill == drill]


def read(file: Path | None) -> Figures:
    return Figures() if file is None or not file.exists() else Figures.model_validate_json(file.read_text())


def write(figures: Figures, file: Path | None) -> None:
    if file is not None:
        file.write_text(figures.model_dump_json(indent=1))


def of_outcome(
    outcome: Outcome,
    *,
    phases: dict[str, float],
    history: list[dict[str, Any]],
    load: float,
    gigabytes: float = 0.0,
) -> DrillFigures:
    if outcome.pause_s is None:
        raise ValueError("an idle drill has no pause to measure")
    swaps = [
        dict(entry["durations_ms"])
        for entry in history
        if entry["kind"] == "swap" and entry["at"] >= outcome.started_at[:19]
    ]
    return DrillFigures(
        drill=outcome.drill,
        at=outcome.started_at,
        quick=outcome.quick,
        rate=outcome.rate,
        pause_s=outcome.pause_s,
        accepted=outcome.accepted,
        refused=outcome.refused,
        acknowledged_lost=outcome.acknowledged_lost,
        duplicates_undeclared=outcome.duplicates_at_carrier - outcome.duplicates_declared,
        two_site_again_s=outcome.two_site_again_s,
        fencing_ms=outcome.fencing_ms,
        phases=phases,
        swaps=swaps,
        not_held=[name for name, held in outcome.held.items() if not held],
        load=load,
        gigabytes=gigabytes,
    )
