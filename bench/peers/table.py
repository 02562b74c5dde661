"""The figures of a comparison as a section of a page. Pure."""

from bench.peers.compare import CLIENTS, Comparison
from bench.peers.gateway import DRAIN_WITHIN_S, Figures

BEGIN = "<!-- peers: what is between these marks is written by `make bench-peers` -->"
END = "<!-- peers: end -->"
BUSY = 0.7  # of the load average before anything is started
HEAD = (
    "| | accepted/s | sent/s meanwhile | p50 ms | p99 ms | CPU ms a text | memory MB | refused | waiting at the end"
    f' | {DRAIN_WITHIN_S:g} s later | "accepted" means |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|'
)  # fmt: skip


def section(comparison: Comparison) -> str:
    """The table, what was left out and why, and how busy the machine was."""
    lines = [HEAD, *(_row(figures) for figures in comparison.figures), ""]
    lines += [f"{name} is left out: {reason}." for name, reason in comparison.left_out.items()]
    busy = " It did other work as well: read the ratios, not the rates." if comparison.load >= BUSY else ""
    lines.append(
        f"{comparison.machine}; load average {comparison.load:.1f} before the run; {CLIENTS} clients in a closed loop,"
        f" {comparison.seconds:g} s each.{busy}"
    )
    return "\n".join(lines)


def _row(figures: Figures) -> str:
    at_least = "≥ " if figures.unsent else ""  # what was never sent has not cost all that it will
    cells = (
        figures.name,
        f"{figures.accepted_rate:,.0f}",
        f"{figures.sent_rate:,.0f}",
        f"{figures.p50_ms:.1f}",
        f"{figures.p99_ms:.1f}",
        f"{at_least}{figures.cpu_ms:.2f}",
        f"{figures.memory_mb:,.0f}",
        f"{figures.refused:,}",
        f"{figures.backlog:,}",
        f"{figures.unsent:,}",
        figures.accepted_means,
    )
    return f"| {' | '.join(cells)} |"


def between_markers(page: str, text: str) -> str:
    """The page with `text` between its markers. Raises ValueError when it has not both, in order."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"
