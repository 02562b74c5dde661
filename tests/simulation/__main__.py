"""`python -m tests.simulation --seeds 1000`: many runs, the first violation shrunk and shown."""

import os
import sys
import time

import click

from sitecontrol.profiles import Profile
from tests.simulation.many import Chosen, Total, results, silence
from tests.simulation.run import run, shrink
from tests.simulation.several import run_several

TELL_EVERY = 1.0  # seconds, on a terminal: one line, written over
LOG_EVERY = 30.0  # seconds, elsewhere: a line each
INTERRUPTED = 130  # as a shell has it


@click.command()
@click.option("--seeds", default=1_000, show_default=True, help="How many runs.")
@click.option("--first", default=0, show_default=True, help="The first seed.")
@click.option("--replay", type=int, help="Only this seed, with its whole log.")
@click.option("--keep-going", is_flag=True, help="Count violations instead of stopping at the first.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=lambda: len(os.sched_getaffinity(0)),
    show_default="the cores of this machine",
    help="How many processes run seeds beside each other.",
)
@click.option(
    "--profile",
    type=click.Choice([p.value for p in Profile]),
    default=Profile.LAB.value,
    show_default=True,
    help="Whose defaults [failover] has.",
)
@click.option("--nodes-per-site", type=click.IntRange(1, 2), default=1, show_default=True)
def main(
    *,
    seeds: int,
    first: int,
    replay: int | None,
    keep_going: bool,
    jobs: int,
    profile: str,
    nodes_per_site: int,
) -> None:
    """Run the simulation; exit code 1 when an invariant did not hold."""
    silence()
    chosen = Chosen(nodes_per_site=nodes_per_site, profile=Profile(profile))
    if replay is not None:
        _replay(chosen, replay)
    total = Total(wanted=seeds)
    interrupted = False
    try:
        _run(chosen, range(first, first + seeds), jobs, total, keep_going=keep_going)
    except KeyboardInterrupt:
        interrupted = True
    click.echo("\n".join(total.summary()))
    if total.violated and not keep_going and not interrupted:
        _show(chosen, next(iter(total.violated)))
    raise SystemExit(INTERRUPTED if interrupted else bool(total.violated))


def _replay(chosen: Chosen, seed: int) -> None:
    outcome = chosen.run(seed)
    click.echo("\n".join(outcome.log))
    click.echo(
        f"{outcome.acknowledged} acknowledged, {outcome.terms} terms, longest gap {outcome.longest_gap:.2f} s"
    )
    raise SystemExit(outcome.violation is not None)


def _run(chosen: Chosen, seeds: range, jobs: int, total: Total, *, keep_going: bool) -> None:
    terminal = sys.stderr.isatty()
    every, end = (TELL_EVERY, "\r") if terminal else (LOG_EVERY, "\n")
    told_at = time.monotonic()
    with results(chosen, seeds, jobs) as coming:
        for result in coming:
            total.add(result)
            if result.invariant is not None:
                click.echo(f"seed {result.seed}: {result.said}")
                if not keep_going:
                    return
            if time.monotonic() - told_at >= every:
                told_at = time.monotonic()
                click.echo(f"{total.progress():78}{end}", nl=False, err=True)


def _show(chosen: Chosen, seed: int) -> None:
    again = run if chosen.nodes_per_site == 1 else run_several
    smallest = shrink(chosen.run(seed), profile=chosen.profile, again=again)
    click.echo("\n".join(smallest.log[-120:]))
    click.echo("\n".join(["the faults that are needed:", *map(str, smallest.faults)]))


if __name__ == "__main__":
    main()
