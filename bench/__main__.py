"""`make bench`: how fast the message path is on this machine, with two-site durability, and what it costs.

Starts labs of its own on free ports, one without and one with a line of 35 ms between the sites, and takes them
down again. Rates depend on what else the machine does: the ratios to its limits, measured in the same run, and
the CPU time per message say more. Exits 1 when a number that must be reached is not.
"""

import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import click
import orjson
import uvloop
from rich.console import Console

from bench import limits, report
from bench.backlog import BacklogResult, backlog
from bench.backlog import show as shown
from bench.goals import ANSWER_FAR, ANSWER_HERE, BULK, CAMPAIGN, SINGLES_FAR, SINGLES_HERE, verdicts
from bench.lab import BenchError, running_lab
from bench.measure import Bench, Result
from bench.peers.compare import Comparison, compare
from bench.peers.table import between_markers, section
from sitecontrol.lab.errors import LabError

LIMIT_S = 5.0
WIDTH = 160  # of the report in a file
ANSWER_RATE = 1_000.0
KINDS = ("singles", "bulk", "campaign", "answer")
PEERS = "peers"  # other gateways beside ours, only when asked for
BACKLOG = "backlog"  # a million texts in the queue, only when asked for
CAMPAIGN_ROWS = 3_000  # for each second of single requests


async def at_once(kinds: tuple[str, ...], seconds: float) -> tuple[list[Result], report.Limits]:
    """Everything with the sites side by side."""
    results = []
    with running_lab(wan_ms=0) as lab:
        most = {
            "bare aiohttp": await limits.bare_http(LIMIT_S),
            "commits": await limits.commits(lab, LIMIT_S),
        }
        bench = Bench(lab)
        await bench.prepare()
        if "singles" in kinds:
            results.append(await bench.singles(SINGLES_HERE, clients=64, seconds=seconds))
        if "answer" in kinds:
            results.append(
                await bench.answers(ANSWER_HERE, clients=256, rate=ANSWER_RATE, seconds=seconds / 2)
            )
        if "bulk" in kinds:
            results.append(await bench.bulk(BULK, seconds=seconds / 4))
        if "campaign" in kinds:
            results.append(await bench.campaign(CAMPAIGN, rows=int(seconds * CAMPAIGN_ROWS)))
    return results, most


async def far_apart(kinds: tuple[str, ...], seconds: float) -> list[Result]:
    """The same over 35 ms."""
    results: list[Result] = []
    if not {"singles", "answer"} & set(kinds):
        return results
    with running_lab(wan_ms=35) as lab:
        bench = Bench(lab)
        await bench.prepare()
        if "singles" in kinds:
            results.append(await bench.singles(SINGLES_FAR, clients=256, seconds=seconds))
        if "answer" in kinds:
            results.append(
                await bench.answers(ANSWER_FAR, clients=512, rate=ANSWER_RATE, seconds=seconds / 2)
            )
    return results


async def run(kinds: tuple[str, ...], seconds: float) -> tuple[list[Result], report.Limits]:
    results, most = await at_once(kinds, seconds)
    return results + await far_apart(kinds, seconds), most


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="How long single requests are kept up.")
@click.option(
    "--only",
    type=click.Choice((*KINDS, PEERS, BACKLOG)),
    multiple=True,
    help="Only these; may be given again.",
)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Also write the figures to this file.")
@click.option(
    "--page",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Put the table of the peers into this page, between its markers.",
)
@click.option(
    "--longest",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(min=10_000, max=10_000_000),
    help="Of backlog: texts in the queue.",
)
def main(seconds: float, only: tuple[str, ...], file: Path | None, page: Path | None, longest: int) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: its labs are taken down
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    console.print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; two-site durability, everything here"
    )
    kinds = tuple(kind for kind in only or KINDS if kind in KINDS)
    results: list[Result] = []
    most: report.Limits = {}
    comparison: Comparison | None = None
    behind: BacklogResult | None = None
    try:
        if kinds:
            results, most = uvloop.run(run(kinds, seconds))
        if PEERS in only:
            comparison = uvloop.run(compare(seconds, say=console.print))
        if BACKLOG in only:
            behind = uvloop.run(backlog(longest, say=console.print))
            console.print(*shown(behind), sep="\n")
    except (BenchError, LabError) as error:
        console.print(f"[red]{error}[/]")
        sys.exit(1)
    if kinds:
        report.show(console, results, most)
    if comparison is not None and page is not None:
        page.write_text(between_markers(page.read_text(), section(comparison)))
    if file is not None:
        told = report.document(results, most) | ({PEERS: asdict(comparison)} if comparison else {})
        told |= {BACKLOG: asdict(behind)} if behind else {}
        file.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    missed = [goal for goal, _, held in verdicts(results) if goal.must and not held]
    sys.exit(1 if missed or (behind is not None and not behind.holds) else 0)


if __name__ == "__main__":
    main()
