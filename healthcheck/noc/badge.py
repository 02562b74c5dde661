"""Small pictures for wikis and dashboards: `/badge/live.svg`, `term`, `durability`, `<place>`. Pure."""

from collections.abc import Mapping
from html import escape
from typing import Any

COLOURS = {"good": "#0b7a51", "warn": "#8f5b00", "bad": "#b3261e", "plain": "#44546f"}


def badge_of(what: str, overview: Mapping[str, Any], places: Mapping[str, Any]) -> str | None:
    """The SVG, or None when there is no such badge."""
    live = overview["live"]
    if what == "live":
        steady = live["state"] == "live"
        return svg("live site", str(live["site"] or live["state"]), "good" if steady else "bad")
    if what == "term":
        return svg("term", str(live["term"]), "plain")
    if what == "durability":
        value = overview["durability"]["value"]
        return svg("durability", value, {"two-site": "good", "one-site": "warn"}.get(value, "plain"))
    place = next((p for p in places["places"] if p["name"] == what), None)
    if place is None:
        return None
    if place["live"]:
        return svg(what, "live", "good")
    state = next((s["state"] for s in places["sees"] if s["to"] == what and s["from"] != what), "unknown")
    return svg(what, state, {"up": "good", "down": "bad"}.get(state, "plain"))


def svg(label: str, value: str, mood: str) -> str:
    """Two fields side by side; the widths are reckoned from the number of characters."""
    left, right = 12 + 6.6 * len(label), 12 + 6.6 * len(value)
    width = left + right
    label, value = escape(label), escape(value)
    font = 'font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="20" role="img" '
        f'aria-label="{label}: {value}"><title>{label}: {value}</title>'
        f'<rect width="{width:.0f}" height="20" rx="3" fill="#2b3648"/>'
        f'<path d="M{left:.0f} 0h{right - 3:.0f}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{right - 3:.0f}z" '
        f'fill="{COLOURS[mood]}"/>'
        f'<g fill="#fff" {font}><text x="{left / 2:.0f}" y="14">{label}</text>'
        f'<text x="{left + right / 2:.0f}" y="14">{value}</text></g></svg>'
    )
