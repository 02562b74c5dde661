"""Panels to HTML, by Jinja with autoescape on: whatever a stranger's server said comes out as text.

Filters turn raw values into what people read; a value that is missing is a dash, never an empty cell.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import jinja2
from markupsafe import Markup

from healthcheck.noc.map import draw
from healthcheck.noc.panels import PANELS
from healthcheck.noc.scene import place_name
from sitecontrol.records import SWAP_PHASES

DASH = "\u2013"

TITLES: Mapping[str, str] = {
    "overview": "Live site",
    "attention": "Needs attention",
    "places": "Who sees whom",
    "queue": "Messages",
    "nodes": "Nodes",
    "links": "Carrier links",
    "operations": "Operations",
    "swaps": "Last changes of leader",
    "probes": "Everything that is watched",
}


def duration(seconds: float | None) -> str:
    """Two units at most: `3 d 4 h`, `12 min`, `0.8 s`, `35 ms`."""
    if seconds is None:
        return DASH
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    total = int(seconds)
    for size, unit, lesser_size, lesser in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if total >= size:
            whole, left = divmod(total, size)
            rest = left // lesser_size
            return f"{whole} {unit} {rest} {lesser}" if rest else f"{whole} {unit}"
    return f"{total} s"


def size(count: int | None) -> str:
    if count is None:
        return DASH
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def number(value: float | None) -> str:
    """With thin spaces between thousands."""
    return DASH if value is None else f"{value:,.0f}".replace(",", "\u2009")


def dash(value: object) -> object:
    return DASH if value is None or value == "" else value


def sentence(words: str) -> str:
    """With one full stop, whether it came with one or not."""
    return f"{words.rstrip('.')}."


def clock_time(value: str | None) -> str:
    """Of an ISO time: the time of day, UTC."""
    return DASH if not value else f"{datetime.fromisoformat(value).astimezone(UTC):%H:%M:%S}"


def day_time(value: str | None) -> str:
    return DASH if not value else f"{datetime.fromisoformat(value).astimezone(UTC):%d %b %H:%M:%S}"


def spark(values: Sequence[float | None], width: int, height: int, ceiling: float = 0.0) -> list[str]:
    """Points of SVG polylines, newest at the right edge; a None breaks the line. `ceiling` is the least top."""
    if len(values) < 2:
        return []
    top = max(ceiling, 1.15 * max((v for v in values if v is not None), default=0.0)) or 1.0
    stride = width / (len(values) - 1)
    lines: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            lines.append([])
            continue
        y = height - 1 - (height - 2) * max(0.0, value) / top
        lines[-1].append(f"{index * stride:.1f},{y:.1f}")
    return [" ".join(points) for points in lines if points]


def bar(parts: Sequence[float], width: float) -> list[tuple[float, float]]:
    """Where each part of a stacked bar begins and how wide it is, each at least visible."""
    whole = sum(parts)
    if whole <= 0:
        return []
    least = min(2.0, width / len(parts))
    wide = [least + (width - least * len(parts)) * part / whole for part in parts]
    return [(round(sum(wide[:n]), 1), round(w, 1)) for n, w in enumerate(wide)]


class Renderer:
    """`panel` gives the inner HTML of one panel, `page` the whole page."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("healthcheck.noc", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters |= {
            "duration": duration,
            "size": size,
            "number": number,
            "dash": dash,
            "clock": clock_time,
            "sentence": sentence,
            "day": day_time,
            "place": place_name,
        }
        self._environment.globals |= {"spark": spark, "draw_map": draw, "bar": bar, "phases": SWAP_PHASES}
        self._panels = {name: self._environment.get_template(f"panels/{name}.html.j2") for name in PANELS}
        self._page = self._environment.get_template("page.html.j2")

    def panel(self, name: str, data: Mapping[str, Any]) -> str:
        return self._panels[name].render(data).strip()

    def page(self, bodies: Mapping[str, str], **context: Any) -> str:
        # What a template of ours rendered is markup already.
        panels = [
            {"name": n, "title": TITLES[n], "body": Markup(body)}  # noqa: S704 - rendered by `panel`
            for n, body in bodies.items()
        ]
        return self._page.render(panels=panels, **context)
