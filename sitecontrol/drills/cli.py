"""`sitectl drill`: rehearsed faults with a measured outcome."""

import asyncio
import random
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from sitecontrol.cli.session import Exit, Globals, Problem, leave, with_globals
from sitecontrol.drills.outcome import Outcome
from sitecontrol.drills.report import allowed, outcome_table, summary_table, write_html
from sitecontrol.drills.run import Order, run_drill, wait_until_whole
from sitecontrol.drills.series import series_of
from sitecontrol.drills.stage import DrillFailedError
from sitecontrol.drills.stories import DRILLS
from sitecontrol.lab.control import LabControl
from sitecontrol.lab.errors import LabError, LabRefusedError
from sitecontrol.lab.plan import LabOptions
from sitecontrol.lab.ports import SITES

DEFAULT_RATE = 100.0
WHOLE_WITHIN = 60.0
ENDED = 130  # exit code after Ctrl-C or SIGTERM
PATIENCE = 30.0  # seconds for the lab's own processes on a machine that is busy


@click.group()
def drill() -> None:
    """Rehearse a fault on a lab, and measure what it costs."""


@drill.command("list")
@with_globals
def list_drills(options: Globals) -> None:
    """Every drill, what happens in it, how long a pause it allows."""
    if options.as_json:
        options.emit(
            [
                {
                    "name": d.name,
                    "summary": d.summary,
                    "pause_limit_s": d.pause_limit,
                    "median_limit_s": d.median_limit,
                    "in_swap": d.in_swap,
                    "takes": d.takes,
                }
                for d in DRILLS.values()
            ]
        )
        return
    table = Table()
    for column in ("drill", "what happens", "pause at most", "takes about"):
        table.add_column(column)
    for known in DRILLS.values():
        table.add_row(known.name, known.summary, allowed(known.pause_limit, known.median_limit), known.takes)
    options.console.print(table)


@drill.command("run")
@click.argument("names", nargs=-1, required=True, type=click.Choice([*DRILLS, "all"]), metavar="NAME…")
@click.option("--site", type=click.Choice(SITES), help="Where it strikes; else the live or the hot site.")
@click.option(
    "--rate",
    type=click.FloatRange(0, 5_000),
    default=DEFAULT_RATE,
    show_default=True,
    help="Texts/s; 0: idle, with one text from each site at the end, and no pause measured.",
)
@click.option("--seed", type=int, help="Fixes what is random: the moment of the fault, the numbers texted.")
@click.option(
    "--repeat",
    type=click.IntRange(1, 1_000),
    default=1,
    show_default=True,
    help="How often each drill is run.",
)
@click.option("--quick", is_flag=True, help="What lasts a minute lasts 15 s; the JSON says so.")
@click.option("--in-swap", is_flag=True, help="Strike while a planned swap holds requests.")
@click.option(
    "--patience",
    type=click.FloatRange(1, 100),
    default=1.0,
    show_default=True,
    help="Wait so many times as long for the lab, on a slow machine. What is measured keeps its limits.",
)
@click.option(
    "--report", type=click.Path(path_type=Path, file_okay=False), help="Write an HTML page per run here."
)
@with_globals
def run(
    options: Globals,
    *,
    names: tuple[str, ...],
    site: str | None,
    rate: float,
    seed: int | None,
    repeat: int,
    quick: bool,
    in_swap: bool,
    patience: float,
    report: Path | None,
) -> None:
    """Run drills one after the other; NAME is one that `sitectl drill list` shows, or `all`.

    Exit code 0 only if everything held in all of them, and over all of them.

    With --json: the outcome of the one run, or a list of them when there are several; `series` in each has the
    figures of all runs of its drill.
    """
    able = [name for name, known in DRILLS.items() if known.in_swap or not in_swap]
    chosen = able if "all" in names else list(names)
    if unable := [name for name in chosen if name not in able]:
        raise Problem(
            f"{', '.join(unable)} cannot strike in the middle of a swap; these can: {', '.join(able)}",
            Exit.USAGE,
        )
    first_seed = seed if seed is not None else random.SystemRandom().randrange(2**31)
    orders = [
        Order(
            drill=DRILLS[name],
            site=site,
            rate=rate,
            seed=first_seed + turn,
            quick=quick,
            in_swap=in_swap,
            patience=patience,
        )
        for name in chosen
        for turn in range(repeat)
    ]
    outcomes: list[Outcome] = []
    try:
        asyncio.run(_in_order(run_all(options, orders, report, outcomes, lenient="all" in names)))
    except asyncio.CancelledError:
        _tell_of_those_before(options, outcomes)
        ended = f"run {len(outcomes) + 1} of {len(orders)} was ended, and what it had broken is mended"
        click.echo(f"sitectl: {ended} (should anything be left, `sitectl lab heal` mends it)", err=True)
        sys.exit(ENDED)
    except Exception as error:
        _tell_of_those_before(options, outcomes)
        if not isinstance(error, LabError | DrillFailedError):
            raise
        code = Exit(error.exit_code) if isinstance(error, LabError) else Exit.FAILED
        raise Problem(f"run {len(outcomes) + 1} of {len(orders)}: {error}", code) from error
    held = tell(options, outcomes)
    leave(Exit.DONE if held else Exit.FAILED)


def _tell_of_those_before(options: Globals, outcomes: Sequence[Outcome]) -> None:
    """A night's runs are not lost with the last one."""
    if outcomes:
        tell(options, outcomes)


def tell(options: Globals, outcomes: Sequence[Outcome]) -> bool:
    """What all runs amount to; whether everything held."""
    series = {one.drill: one for one in series_of(outcomes)}
    if options.as_json:
        documents = [o.as_json() | {"series": series[o.drill].as_json()} for o in outcomes]
        options.emit(documents[0] if len(documents) == 1 else documents)
    elif len(outcomes) > 1:
        options.console.print(summary_table(outcomes))
    return all(outcome.ok for outcome in outcomes) and all(one.ok for one in series.values())


def _refuse_unfit(lab: LabOptions, orders: Sequence[Order]) -> None:
    """Most stories tell what becomes of sites with one node each; a few fill volumes."""
    nodes_per_site = lab.nodes_per_site
    without = dict.fromkeys(order.drill.name for order in orders if order.drill.needs_volumes)
    if lab.volume_mb is None and without:
        raise LabRefusedError(
            f"{', '.join(without)}: only for labs with a volume of its own for each node, which needs root:"
            " `sitectl lab up --volume-mb 2048 --fresh`"
        )
    unfit = dict.fromkeys(order.drill.name for order in orders if not order.drill.several_nodes)
    if nodes_per_site > 1 and unfit:
        able = ", ".join(name for name, known in DRILLS.items() if known.several_nodes)
        raise LabRefusedError(
            f"{', '.join(unfit)}: only for labs with one node in each site; with --nodes-per-site {nodes_per_site}"
            f" use {able}"
        )


async def _in_order(runs: Coroutine[Any, Any, None]) -> None:
    """Ctrl-C and SIGTERM cancel the run, so that it mends what it has broken."""
    loop, running = asyncio.get_running_loop(), asyncio.ensure_future(runs)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.cancel)
    await running


def _without_those_that_need_volumes(lab: LabOptions, orders: Sequence[Order]) -> Sequence[Order]:
    """`all` means all that this lab can do; it is told what it cannot, and why."""
    if lab.volume_mb is not None:
        return orders
    if left_out := dict.fromkeys(order.drill.name for order in orders if order.drill.needs_volumes):
        click.echo(f"left out: {', '.join(left_out)} (needs a lab with --volume-mb)", err=True)
    return [order for order in orders if not order.drill.needs_volumes]


async def run_all(
    options: Globals,
    orders: Sequence[Order],
    report: Path | None,
    outcomes: list[Outcome],
    *,
    lenient: bool = False,
) -> None:
    """Appends to `outcomes`, one for each order, as the runs end. `lenient`: what needs volumes is left out on a lab
    without, and said.
    """
    console = options.console
    async with LabControl.open(options.lab, patience=PATIENCE) as control:
        await control.state()  # a lab that does not run will not become whole, however long one waits
        orders = _without_those_that_need_volumes(control.plan.lab.options, orders) if lenient else orders
        _refuse_unfit(control.plan.lab.options, orders)
        for order in orders:
            await wait_until_whole(control, WHOLE_WITHIN)
            if (
                not console.is_terminal
            ):  # where no status line is drawn, half a minute of silence looks like a hang
                click.echo(
                    f"{order.drill.name}: takes about {order.drill.lasts(quick=order.quick)}", err=True
                )
            with console.status(f"{order.drill.name}: {order.drill.summary}") as shown:

                def say(what: str, name: str = order.drill.name) -> None:
                    shown.update(f"{name}: {what}")

                outcome = await run_drill(control, order, say=say)
            outcomes.append(outcome)
            if not options.as_json:
                console.print(outcome_table(outcome))
                for note in outcome.notes:
                    console.print(Text(f"  {note}", "red"))
            if report is not None:
                console.print(f"  report: {write_html(outcome, report)}")
