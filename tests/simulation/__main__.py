"""`python -m tests.simulation --seeds 1000`: many runs, the first violation shrunk and shown."""

import logging
import time

import click
import structlog

from sitecontrol.profiles import Profile
from tests.simulation.run import run, shrink
from tests.simulation.several import run_several


@click.command()
@click.option("--seeds", default=1_000, show_default=True, help="How many runs.")
@click.option("--first", default=0, show_default=True, help="The first seed.")
@click.option("--replay", type=int, help="Only this seed, with its whole log.")
@click.option("--keep-going", is_flag=True, help="Count violations instead of stopping at the first.")
@click.option(
    "--profile",
    type=click.Choice([p.value for p in Profile]),
    default=Profile.LAB.value,
    show_default=True,
    help="Whose defaults [failover] has.",
)
@click.option("--nodes-per-site", type=click.IntRange(1, 2), default=1, show_default=True)
def main(
    *, seeds: int, first: int, replay: int | None, keep_going: bool, profile: str, nodes_per_site: int
) -> None:
    """Run the simulation; exit code 1 when an invariant did not hold."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    once = run if nodes_per_site == 1 else run_several
    if replay is not None:
        outcome = once(replay, profile=Profile(profile))
        click.echo("\n".join(outcome.log))
        click.echo(
            f"{outcome.acknowledged} acknowledged, {outcome.terms} terms, longest gap {outcome.longest_gap:.2f} s"
        )
        raise SystemExit(outcome.violation is not None)
    began, bad, messages, terms = time.monotonic(), [], 0, 0
    for seed in range(first, first + seeds):
        outcome = once(seed, profile=Profile(profile))
        messages, terms = messages + outcome.acknowledged, terms + outcome.terms
        if outcome.violation is None:
            continue
        bad.append(seed)
        click.echo(f"seed {seed}: {outcome.violation}")
        if not keep_going:
            smallest = shrink(outcome, profile=Profile(profile), again=once)
            click.echo("\n".join(smallest.log[-120:]))
            click.echo("\n".join(["the faults that are needed:", *map(str, smallest.faults)]))
            break
    took = time.monotonic() - began
    click.echo(
        f"{seeds} seeds in {took:.1f} s, {messages} acknowledged, {terms} terms; violated in {len(bad)}: {bad[:20]}"
    )
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
