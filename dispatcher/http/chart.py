"""A campaign's outcome as a picture: SVG, a bar for each thing that became of its rows. Pure.

Each bar has its name and its number beside it, so that nothing is said by colour alone.
"""

from collections.abc import Mapping
from html import escape
from typing import Final

WIDTH: Final = 720
LABEL: Final = 150
NUMBER: Final = 190
ROW: Final = 28
TOP: Final = 64
# Of those in the first group something is still to be expected; the second is what was hoped for.
COLOURS: Final = {
    **dict.fromkeys(
        ("waiting", "accepted", "held", "scheduled", "queued", "submitting", "submitted"), "#0072b2"
    ),
    "delivered": "#117733",
}
OTHER: Final = "#b35900"


def chart(title: str, outcomes: Mapping[str, int]) -> str:
    """`outcomes`: how many, by name, in the order of the picture; what is 0 is left out."""
    shown = {name: count for name, count in outcomes.items() if count}
    total = sum(shown.values())
    height = TOP + ROW * max(1, len(shown)) + 16
    summary = ", ".join(f"{count:,} {name}" for name, count in shown.items()) or "no rows yet"
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title desc"',
        ' font-family="system-ui, sans-serif" font-size="14">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(f"Of {total:,} rows: {summary}.")}</desc>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="17" fill="#1a1a1a">{escape(title[:80])}</text>',
        f'<text x="16" y="48" fill="#444444">{total:,} rows</text>',
    ]
    most, room = max(shown.values(), default=1), WIDTH - LABEL - NUMBER - 16
    for index, (name, count) in enumerate(shown.items()):
        y = TOP + ROW * index
        length, colour = max(2.0, room * count / most), COLOURS.get(name, OTHER)
        parts += [
            f'<text x="{LABEL - 8}" y="{y + 16}" text-anchor="end" fill="#1a1a1a">{escape(name)}</text>',
            f'<rect x="{LABEL}" y="{y + 2}" width="{length:.1f}" height="{ROW - 8}" fill="{colour}"/>',
            f'<text x="{LABEL + length + 8:.1f}" y="{y + 16}" fill="#1a1a1a">{count:,} ({share(count, total)})</text>',
        ]
    if not shown:
        parts.append(f'<text x="16" y="{TOP + 16}" fill="#444444">no rows yet</text>')
    return "\n".join([*parts, "</svg>", ""])


def share(count: int, total: int) -> str:
    """Never rounded to none or to all of it."""
    percent = 100 * count / total
    if percent < 0.1:
        return "under 0.1 %"
    return "over 99.9 %" if 99.9 < percent < 100 else f"{percent:.3g} %"
