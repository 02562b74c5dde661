"""Runs of many seeds, in as many processes as there are cores: what each came to, and how far it all is.

A run depends on nothing but its seed: which process has it changes nothing, and whatever was violated is run again to
be shown.
"""

import gc
import logging
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import structlog

from sitecontrol.profiles import Profile
from tests.simulation.run import Outcome, run
from tests.simulation.several import run_several

GARBAGE = 100_000  # objects
AT_ONCE = 10  # seeds that a process takes at a time


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which simulation."""

    nodes_per_site: int = 1
    profile: Profile = Profile.LAB

    def run(self, seed: int) -> Outcome:
        once = run if self.nodes_per_site == 1 else run_several
        return once(seed, profile=self.profile)


@dataclass(frozen=True, kw_only=True)
class Result:
    """Of one seed; small, for it goes from process to process."""

    seed: int
    invariant: str | None  # that did not hold
    said: str
    acknowledged: int
    terms: int
    faults: tuple[str, ...]  # their kinds
    ended_at: float  # seconds of virtual time


def result_of(chosen: Chosen, seed: int) -> Result:
    outcome = chosen.run(seed)
    return Result(
        seed=seed,
        invariant=outcome.violation.invariant if outcome.violation is not None else None,
        said=str(outcome.violation or ""),
        acknowledged=outcome.acknowledged,
        terms=outcome.terms,
        faults=tuple(fault.kind.value for fault in outcome.faults),
        ended_at=outcome.ended_at,
    )


def silence() -> None:
    """The agents' logs are for people, who read a run's own log here."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def seldom_collect() -> None:
    """A run makes little that refers to itself, but for the run as a whole: garbage may wait for the next seed."""
    gc.collect()
    gc.freeze()  # modules stay
    gc.set_threshold(GARBAGE, 10, 10)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process, which ends the others
    silence()
    seldom_collect()


@contextmanager
def results(chosen: Chosen, seeds: Iterable[int], jobs: int) -> Iterator[Iterator[Result]]:
    """In the order in which they come to an end. The processes end with the block, whatever they are at."""
    if jobs == 1:
        yield map(partial(result_of, chosen), seeds)
        return
    # Not forked: who calls may have threads, and handlers of signals that would keep a process from its end.
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=_begin) as pool:
        yield pool.imap_unordered(partial(result_of, chosen), seeds, chunksize=AT_ONCE)


@dataclass
class Total:
    """All that has come so far. Times are seconds."""

    wanted: int
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    acknowledged: int = 0
    terms: int = 0
    simulated: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    violated: dict[int, str] = field(default_factory=dict)  # seed -> invariant

    def add(self, result: Result) -> None:
        self.done += 1
        self.acknowledged += result.acknowledged
        self.terms += result.terms
        self.simulated += result.ended_at
        self.faults.update(result.faults)
        if result.invariant is not None:
            self.violated[result.seed] = result.invariant

    @property
    def took(self) -> float:
        return time.monotonic() - self.began

    def progress(self) -> str:
        rate = self.done / max(self.took, 1e-9)
        left = (self.wanted - self.done) / rate if self.done else 0.0
        bad = f", violated in {len(self.violated)}" if self.violated else ""
        return f"{self.done:,} of {self.wanted:,} seeds, {rate:.1f} a second, {_for(left)} left{bad}"

    def summary(self) -> list[str]:
        whole = "" if self.done == self.wanted else f" of {self.wanted:,}"
        rate = self.done / max(self.took, 1e-9)
        hours = self.simulated / 3600
        faults = f"{self.faults.total():,} faults of {len(self.faults)} kinds"
        lines = [
            f"{self.done:,}{whole} seeds in {_for(self.took)}, {rate:.1f} a second: {hours:,.1f} hours of virtual time",
            f"{faults}, {self.acknowledged:,} messages acknowledged, {self.terms:,} terms",
        ]
        if not self.violated:
            return [*lines, "every invariant held" if self.done else "nothing was looked at"]
        by_name = Counter(self.violated.values())
        named = ", ".join(f"{name} in {count}" for name, count in by_name.most_common())
        shown = ", ".join(str(seed) for seed in sorted(self.violated)[:20])
        return [*lines, f"violated: {named}; seeds {shown}{', ...' if len(self.violated) > 20 else ''}"]


def _for(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
