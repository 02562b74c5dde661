"""A drill's outcome for people: a table on the terminal, a page with the timeline drawn."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from rich.table import Table

from sitecontrol.drills.outcome import Moment, Outcome
from sitecontrol.drills.series import series_of
from sitecontrol.drills.watch import in_words

WIDTH, HEIGHT = 960.0, 220.0  # of the drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 40.0, 12.0, 34.0, 26.0
TALLEST = 5.0  # a bar, as a multiple of the median
AROUND = 4.0  # seconds drawn before the first and after the last line of the timeline


def outcome_table(outcome: Outcome) -> Table:
    verdict = "[bold green]held[/]" if outcome.ok else "[bold red]did not hold[/]"
    table = Table(
        title=f"{outcome.drill} at {outcome.site}: {verdict}", title_justify="left", show_header=False
    )
    table.add_column("what")
    table.add_column("how much", justify="right")
    for what, how_much in rows_of(outcome):
        table.add_row(what, how_much)
    for name, held in outcome.held.items():
        table.add_row(name, "[green]held[/]" if held else "[red]did not hold[/]")
    return table


def equation(outcome: Outcome) -> str:
    """What was accepted, to the unit: by what the system says of it, and by what the carriers' logs have."""
    terms = " + ".join(f"{state.replace('_', ' ')} {count:,}" for state, count in outcome.by_state.items())
    carriers = "" if outcome.at_carriers is None else f"; carriers' own logs: {outcome.at_carriers:,} texts"
    return f"accepted {outcome.accepted:,} = {terms or '0'}{carriers}"


def rows_of(outcome: Outcome) -> list[tuple[str, str]]:
    fencing = (
        [("fencing, from the last proof on", in_words(outcome.fencing_ms))] if outcome.fencing_ms else []
    )
    return [
        (
            "longest pause seen by a client",
            f"{_pause(outcome.pause_s)} (at most {outcome.pause_limit_s:g} s)",
        ),
        ("first acknowledgement after the fault", _seconds(outcome.first_ack_after_fault_s)),
        ("first text at a carrier after the fault", _seconds(outcome.first_submit_after_fault_s)),
        ("accepted", str(outcome.accepted)),
        ("refused", str(outcome.refused)),
        (
            "requests without an answer (of these not explained)",
            f"{outcome.connections_broken} ({outcome.connections_broken_unexpectedly})",
        ),
        ("texts without a 2xx from either site", str(outcome.unanswered)),
        ("acknowledged and lost", str(outcome.acknowledged_lost)),
        ("accounted for", equation(outcome)),
        ("settled otherwise than delivered", str(outcome.not_delivered)),
        ("listed as in doubt", str(outcome.in_doubt)),
        ("texts received twice", f"{outcome.duplicates_at_carrier} ({outcome.duplicates_declared} declared)"),
        (
            f"both sites in step again, after the {'fault' if outcome.healed_at is None else 'healing'}",
            _seconds(outcome.two_site_again_s),
        ),
        *fencing,
        ("live site", f"{outcome.live_before} → {outcome.live_after}"),
        ("term", f"{outcome.term_before} → {outcome.term_after}"),
    ]


def summary_table(outcomes: Sequence[Outcome]) -> Table:
    """Several runs side by side: the pauses of each drill, and what of all its runs together did not hold."""
    table = Table(title="all runs", title_justify="left")
    for column in (
        "drill",
        "runs",
        "pause: median",
        "smallest",
        "largest",
        "at most",
        "lost",
        "twice (declared)",
    ):
        table.add_column(column)
    table.add_column("held")
    for series in series_of(outcomes):
        runs = [outcome for outcome in outcomes if outcome.drill == series.drill]
        helds = [*(outcome.held for outcome in runs), series.held]
        broken = dict.fromkeys(name for held in helds for name, holds in held.items() if not holds)
        table.add_row(
            series.drill,
            str(series.runs),
            _pause(series.pause_median_s),
            _pause(series.pause_min_s),
            _pause(series.pause_max_s),
            allowed(series.pause_limit_s, series.median_limit_s),
            str(sum(outcome.acknowledged_lost for outcome in runs)),
            f"{sum(o.duplicates_at_carrier for o in runs)} ({sum(o.duplicates_declared for o in runs)})",
            f"[red]no: {', '.join(broken)}[/]" if broken else "[green]yes[/]",
        )
    return table


def allowed(pause: float, median: float | None) -> str:
    """The longest pause that a drill allows, and the longest median over several runs."""
    return f"{pause:g} s" if median is None else f"{pause:g} s, median {median:g} s"


@dataclass(frozen=True, kw_only=True)
class Bar:
    x: float
    y: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Line:
    x: float
    number: int
    moment: Moment


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The timeline in the drawing's units: acknowledgements as bars, events as numbered lines."""

    bars: Sequence[Bar]
    lines: Sequence[Line]
    ticks: Sequence[tuple[float, str]]
    pause: tuple[float, float]
    bar_width: float
    largest: int
    width: float = WIDTH
    height: float = HEIGHT
    base: float = HEIGHT - BOTTOM
    top: float = TOP
    left: float = LEFT


def draw(outcome: Outcome) -> Drawing:
    times = [moment.t for moment in outcome.timeline] or [0.0]
    start = min(*times, 0.0) - AROUND
    end = max(*times, outcome.pause_from_s + (outcome.pause_s or 0.0)) + AROUND
    per_second = (WIDTH - LEFT - RIGHT) / (end - start)

    def x(t: float) -> float:
        return round(LEFT + (t - start) * per_second, 1)

    drawn = [(t, count) for t, count in outcome.acks_per_tenth if start <= t <= end]
    # What was held is answered all at once: bars are cut off at a multiple of the steady rate, so that it shows.
    counts = [count for _, count in drawn] or [1]
    largest = min(max(counts), max(1, int(TALLEST * statistics.median(counts))))
    room = HEIGHT - TOP - BOTTOM
    heights = [(t, room * min(count, largest) / largest) for t, count in drawn]
    bars = [Bar(x=x(t), y=round(HEIGHT - BOTTOM - h, 1), height=round(h, 1)) for t, h in heights]
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100) if (end - start) / s <= 16 or s == 100)
    first = int(start // step + 1) * step
    return Drawing(
        bars=bars,
        lines=[Line(x=x(m.t), number=i, moment=m) for i, m in enumerate(outcome.timeline, start=1)],
        ticks=[(x(t), f"{t} s") for t in range(first, int(end) + 1, step)],
        pause=(x(outcome.pause_from_s), round((outcome.pause_s or 0.0) * per_second, 1)),
        bar_width=max(0.6, round(per_second * 0.09, 2)),
        largest=largest,
    )


def write_html(outcome: Outcome, folder: Path) -> Path:
    """One self-contained page: no script, no outside address, light and dark. Returns the file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sitecontrol.drills"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.j2").render(
        outcome=outcome, rows=rows_of(outcome), drawing=draw(outcome)
    )
    folder.mkdir(parents=True, exist_ok=True)
    stamp = outcome.started_at[:19].replace(":", "").replace("-", "")
    file = folder / f"{outcome.drill}-{stamp}.html"
    file.write_text(page)
    return file


def _pause(seconds: float | None) -> str:
    return "not measured" if seconds is None else f"{seconds:.2f} s"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"
