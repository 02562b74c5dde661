"""What the carriers received, from the logs of their simulators (the format is in `dispatcher.simulator`)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from sitecontrol.lab.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How far the logs had come, so that a drill reads only what is its own."""

    offsets: Mapping[Path, int]


@dataclass(frozen=True, kw_only=True)
class Received:
    """A text that a carrier took."""

    wall: float
    carrier: str
    to: str
    text: str
    part: int


def log_files(plan: Plan) -> dict[str, Path]:
    return {c.name: plan.directory.carrier_log(c.name) for c in plan.carriers if c.simulated}


def mark(plan: Plan) -> Mark:
    return Mark(offsets={f: f.stat().st_size if f.exists() else 0 for f in log_files(plan).values()})


def received_since(plan: Plan, start: Mark) -> list[Received]:
    """Everything that was taken (status 0), of all simulators, in order of time."""
    found = [
        received
        for carrier, file in log_files(plan).items()
        for received in _read(carrier, file, start.offsets.get(file, 0))
    ]
    return sorted(found, key=lambda received: received.wall)


def _read(carrier: str, file: Path, offset: int) -> Iterator[Received]:
    if not file.exists():
        return
    with file.open("rb") as lines:
        lines.seek(offset)
        for raw in lines:
            if not raw.endswith(b"\n"):  # still being written
                return
            line: dict[str, Any] = orjson.loads(raw)
            if line["status"] == 0:
                yield Received(
                    wall=line["t"],
                    carrier=carrier,
                    to=line["destination"],
                    text=line["text"],
                    part=line["part"],
                )


def copies(received: Iterable[Received]) -> Counter[tuple[str, str, int]]:
    """How often each text (number, text, part) was taken."""
    return Counter((r.to, r.text, r.part) for r in received)
