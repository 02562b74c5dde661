"""The figures as tables, and as one JSON document."""

import os
import platform
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.goals import verdicts
from bench.measure import Result

Limits = dict[str, float]


def document(results: list[Result], limits: Limits) -> dict[str, Any]:
    return {
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()},
        "limits": limits,
        "results": [
            {
                **asdict(result),
                "cost_us_total": sum(result.cost_us.values()),
                "ratios": ratios(result, limits),
            }
            for result in results
        ],
        "goals": [{**asdict(goal), "reached": held} for goal, _, held in verdicts(results)],
    }


def ratios(result: Result, limits: Limits) -> dict[str, float]:
    """Accepted messages to what the machine could do at most in this run."""
    return {name: result.accepted_rate / limit for name, limit in limits.items() if limit}


def show(console: Console, results: list[Result], limits: Limits) -> None:
    for name, rate in limits.items():
        console.print(f"limit of this machine now: {name} {rate:,.0f}/s")
    console.print(_rates(results, limits))
    console.print(_costs(results))
    for goal, result, held in verdicts(results):
        mark = "[green]✓[/]" if held else ("[red]✗[/]" if goal.must else "[yellow]·[/]")
        sign = "≥" if goal.at_least else "≤"
        found = getattr(result, goal.what)
        kind = "must" if goal.must else "goal"
        console.print(f"{mark} {kind} {goal.of}: {goal.what} {found:,.1f} {sign} {goal.bound:,.0f}")


def _rates(results: list[Result], limits: Limits) -> Table:
    table = Table(title="rates and latencies")
    for column in ("", "accepted/s", "sent/s", "backlog", "lost", "refused", "p50 ms", "p99 ms"):
        table.add_column(column, justify="left" if not column else "right")
    for name in limits:
        table.add_column(f"accepted to {name}", justify="right")
    for result in results:
        compared = ratios(result, limits)
        table.add_row(
            result.name,
            *(f"{number:,.0f}" for number in (result.accepted_rate, result.sent_rate, result.backlog)),
            *(f"{number:,}" for number in (result.lost, result.refused)),
            *(f"{number:,.1f}" if number else "" for number in (result.p50_ms, result.p99_ms)),
            *(f"{compared[name]:.2f}" if name in compared else "" for name in limits),
        )
    return table


def _costs(results: list[Result]) -> Table:
    """CPU seconds for a thousand messages are milliseconds for one."""
    table = Table(title="CPU seconds per 1,000 messages (what idling costs taken off); idle: share of a core")
    kinds = sorted({kind for result in results for kind in result.cost_us})
    table.add_column("")
    for result in results:
        table.add_column(result.name, justify="right")
    table.add_column("idle", justify="right")
    for kind in kinds:
        idle = results[-1].idle_share.get(kind, 0.0)
        costs = (f"{result.cost_us.get(kind, 0.0) / 1_000:.3f}" for result in results)
        table.add_row(kind, *costs, f"{idle:.1%}")
    table.add_row("all", *(f"{sum(r.cost_us.values()) / 1_000:.3f}" for r in results),
                  f"{sum(results[-1].idle_share.values()):.1%}")  # fmt: skip
    return table
