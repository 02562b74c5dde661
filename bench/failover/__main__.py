"""`make failover-report`: every kind of failure many times on a lab of its own, then Patroni, then the page.

It takes about eight minutes a round. `--keep` keeps the figures in a file: what is there is added to, so that a long
series may be made in pieces, and a page written anew without a run (`--repeat 0 --peer-repeat 0`).
"""

import asyncio
import os
import platform
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click

from bench.failover.ballast import lay_in
from bench.failover.figures import DrillFigures, Figures, PeerFigures, of_outcome, read, write
from bench.failover.page import PROMISES, page
from bench.failover.phases import phases, read_noted
from bench.lab import BenchError, running_lab
from bench.peers.cluster import SHORTEST
from bench.peers.patroni import Run, measure_all
from sitecontrol.drills.run import Order, run_drill, wait_until_whole
from sitecontrol.drills.stage import DrillFailedError
from sitecontrol.drills.stories import DRILLS
from sitecontrol.lab.control import LabControl
from sitecontrol.lab.errors import LabError
from sitecontrol.lab.ports import SITES

WAN_MS = 35.0
RATE = 100.0
WHOLE_WITHIN = 60.0
CALM_POLL = 2.0  # seconds
LONG = ("etcd-quorum-loss",)  # shortened, as `sitectl drill run --quick` has it
NAMES = tuple(promise.drill for promise in PROMISES)

Say = Callable[[str], None]


async def drill(control: LabControl, name: str, gigabytes: float) -> DrillFigures:
    """One run, from a whole lab to a whole lab."""
    await wait_until_whole(control, WHOLE_WITHIN)
    load = os.getloadavg()[0]
    seed = random.SystemRandom().randrange(2**31)
    order = Order(drill=DRILLS[name], site=None, rate=RATE, seed=seed, quick=name in LONG)
    outcome = await run_drill(control, order, say=lambda _: None)
    logs = {site: control.plan.directory.log(f"{site}-agent") for site in SITES}
    history = await control.get(f"{control.agent_url(str(outcome.live_after))}/history") or {}
    way = phases(
        await asyncio.to_thread(read_noted, logs),
        fault_at=datetime.fromisoformat(outcome.fault_at),
        until=None if outcome.healed_at is None else datetime.fromisoformat(outcome.healed_at),
        answered_s=outcome.pause_from_s + (outcome.pause_s or 0.0),
    )
    return of_outcome(
        outcome,
        phases=way,
        history=list(history.get("history", [])),
        load=round(load, 1),
        gigabytes=round(gigabytes, 2),
    )


async def rounds(
    folder: Path,
    names: tuple[str, ...],
    repeat: int,
    *,
    gigabytes: float,
    minutes: float,
    calm: float,
    say: Say,
    done: Callable[[DrillFigures | str], None],
) -> None:
    """Every drill once a round, with so much data in both sites; none is begun when the time is up, or while the
    machine's load is above `calm`. `done`: what a run came to, or why it failed.
    """
    ends = time.monotonic() + 60 * minutes
    async with LabControl.open(folder) as control:
        held = await lay_in(control, gigabytes, say=say) if gigabytes else 0.0
        for number in range(repeat):
            for name in names:
                while os.getloadavg()[0] > calm and time.monotonic() < ends:  # noqa: ASYNC110 # nothing tells of it
                    await asyncio.sleep(CALM_POLL)
                if time.monotonic() > ends:
                    say(f"the time is up in round {number + 1} of {repeat}")
                    return
                try:
                    found = await drill(control, name, held)
                except (LabError, DrillFailedError) as error:
                    say(f"{number + 1}/{repeat} {name}: {error}")
                    done(f"`{name}`, {error}")
                    continue
                said = f", did not hold {', '.join(found.not_held)}" if found.not_held else ""
                say(f"{number + 1}/{repeat} {name}: {found.pause_s:.2f} s{said}")
                done(found)


def machine() -> str:
    return f"a machine of {os.cpu_count()} cores ({platform.system()} {platform.machine()})"


@click.command()
@click.option(
    "--repeat", type=click.IntRange(0, 1_000), default=20, show_default=True, help="Rounds of drills."
)
@click.option(
    "--peer-repeat", type=click.IntRange(0, 100), default=5, show_default=True, help="Rounds of Patroni."
)
@click.option(
    "--only", type=click.Choice(NAMES), multiple=True, help="Only these drills; may be given again."
)
@click.option(
    "--gigabytes",
    type=click.FloatRange(0.0, 100.0),
    default=1.0,
    show_default=True,
    help="Data in both sites before the first drill; 0: only what is sent.",
)
@click.option("--minutes", type=float, default=24 * 60.0, help="Begin no drill after so long.")
@click.option(
    "--calm", type=float, default=8.0, show_default=True, help="Begin no drill while the load is above it."
)
@click.option(
    "--environment", type=click.Path(path_type=Path), help="Patroni's virtual environment; made if absent."
)
@click.option(
    "--keep", type=click.Path(path_type=Path, dir_okay=False), help="Keep the figures here, and add to them."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("docs/failover-report.md"),
    show_default=True,
)
def main(
    repeat: int,
    peer_repeat: int,
    only: tuple[str, ...],
    gigabytes: float,
    minutes: float,
    calm: float,
    environment: Path | None,
    keep: Path | None,
    output: Path,
) -> None:
    """Measure, and write the page. Exit code 1 when a drill did not hold, or came to no end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: its labs are taken down
    figures = read(keep)

    def say(what: str) -> None:
        click.echo(what, err=True)

    def done(found: DrillFigures | str) -> None:
        if isinstance(found, str):
            figures.failed.append(found)
        else:
            figures.drills.append(found)
        write(figures, keep)

    ended_early = False
    try:
        if repeat:
            with running_lab(wan_ms=WAN_MS) as lab:
                asyncio.run(
                    rounds(
                        lab.folder,
                        only or NAMES,
                        repeat,
                        gigabytes=gigabytes,
                        minutes=minutes,
                        calm=calm,
                        say=say,
                        done=done,
                    )
                )
        if peer_repeat:
            _measure_patroni(figures, peer_repeat, environment, keep, say)
    except (BenchError, LabError) as error:
        say(f"ended early: {error}")
        ended_early = True
    output.write_text(page(figures, machine=machine(), wan_ms=WAN_MS))
    say(f"{output} is written")
    bad = any(run.not_held or run.acknowledged_lost for run in figures.drills)
    sys.exit(1 if ended_early or figures.failed or bad else 0)


def _measure_patroni(
    figures: Figures, repeat: int, environment: Path | None, keep: Path | None, say: Say
) -> None:
    def done(version: str, run: Run) -> None:
        before = figures.patroni.runs if figures.patroni is not None else []
        figures.patroni = PeerFigures(version=version, settings=SHORTEST, runs=[*before, run])
        write(figures, keep)

    asyncio.run(measure_all(repeat, environment, say=say, done=done))


if __name__ == "__main__":
    main()
