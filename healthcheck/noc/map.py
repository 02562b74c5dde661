"""The picture who sees whom: where the places stand and how the lines between them run. Pure geometry."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 520.0, 260.0
RADIUS = 44.0  # of a place
APART = 7.0  # between the two lines of a pair, one for each direction


@dataclass(frozen=True, kw_only=True)
class Line:
    """What `observer` says of `seen`, drawn from the one to the other with its mark in the middle."""

    observer: str
    seen: str
    state: str
    x1: float
    y1: float
    x2: float
    y2: float
    mark_x: float
    mark_y: float


def positions(names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Two at the sides and the third below them; more stand on an ellipse."""
    if len(names) <= 3:
        corners = ((78.0, 70.0), (WIDTH - 78.0, 70.0), (WIDTH / 2, HEIGHT - 58.0))
        return dict(zip(names, corners, strict=False))
    around = {}
    for index, name in enumerate(names):
        angle = math.pi * (1 + 2 * index / len(names))
        around[name] = (
            WIDTH / 2 + (WIDTH / 2 - 78) * math.cos(angle),
            HEIGHT / 2 + (HEIGHT / 2 - 58) * math.sin(angle),
        )
    return around


def line(observer: str, seen: str, state: str, at: dict[str, tuple[float, float]]) -> Line:
    (x1, y1), (x2, y2) = at[observer], at[seen]
    length = math.hypot(x2 - x1, y2 - y1) or 1.0
    along_x, along_y = (x2 - x1) / length, (y2 - y1) / length
    aside_x, aside_y = -along_y * APART, along_x * APART
    start_x, start_y = x1 + along_x * RADIUS + aside_x, y1 + along_y * RADIUS + aside_y
    end_x, end_y = x2 - along_x * RADIUS + aside_x, y2 - along_y * RADIUS + aside_y
    return Line(
        observer=observer,
        seen=seen,
        state=state,
        x1=round(start_x, 1),
        y1=round(start_y, 1),
        x2=round(end_x, 1),
        y2=round(end_y, 1),
        mark_x=round((start_x + end_x) / 2, 1),
        mark_y=round((start_y + end_y) / 2, 1),
    )


def draw(places: Sequence[dict[str, Any]], sees: Sequence[dict[str, str]]) -> dict[str, Any]:
    """What the template needs: the places with their points, and a line for each ordered pair."""
    at = positions([p["name"] for p in places])
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "radius": RADIUS,
        "places": [{**p, "x": at[p["name"]][0], "y": at[p["name"]][1]} for p in places],
        "lines": [line(s["from"], s["to"], s["state"], at) for s in sees if s["from"] != s["to"]],
    }
