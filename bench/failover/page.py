"""The report as a page. Pure: figures in, text out."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.failover.figures import DrillFigures, Figures
from bench.failover.phases import PHASES

HEAD = """# How long failures take

Each figure is the longest time between two acknowledgements that any client saw while {rate:g} texts a second went in
through both sites of a lab: two sites and a witness on one machine, {wan_ms:g} ms round trip between them. Made by

```console
$ make failover-report
```

on {machine}, {when}. The database of each site held {data}. A run that did not hold everything is
counted and named. Durations in seconds, unless it says milliseconds; *n* is the number of runs.
"""


PHASES_HEAD = """## Where a failover's time goes
*Detection*: until the agent that takes over sees that nobody leads (the lease has run out). *Election*: until its claim
is written. *Promotion*: until its PostgreSQL takes writes. *Reopening*: until dispatchers are let in. *First answer*:
until the client that waited longest has an acknowledgement.
"""
SWAPS_HEAD = """## Where a planned swap's time goes
Milliseconds, by the swap's entry in the history; requests are held from `held` to `opened`.
"""
FENCING_HEAD = """## Fencing
Milliseconds from the end of the last proof of leadership until the isolated leader reached each step, by its own
`/status` (`live-isolated`): median (min-max).
"""
PEER_HEAD = """## Beside Patroni {version}
On the same machine: two nodes on three etcd members, synchronous mode, the shortest settings that it permits
({settings}), one client that writes 50 rows a second and connects anew when it must. Its nodes have no line between
them, and its etcd loses no member: both are in its favour.
"""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What the design asks for, in seconds."""

    drill: str
    what: str
    must: str
    most: float  # of any run
    median: float | None = None
    stretch: str


PROMISES = (
    Promise(drill="swap", what="planned swap, there and back", must="1, nothing refused", most=1.0, stretch="0.5"),
    Promise(drill="site-loss", what="live site lost, all its processes at once", must="median 3, max 5", most=5.0,
            median=3.0, stretch="median 2.5, max 3.5"),
    Promise(drill="live-isolated", what="live site cut from both other places", must="6", most=6.0, stretch="-"),
    Promise(drill="postgres-crash", what="PostgreSQL of the live site killed", must="2", most=2.0, stretch="1"),
    Promise(drill="standby-loss", what="standby site lost", must="1", most=1.0, stretch="none"),
    Promise(drill="witness-loss", what="the witness lost", must="1", most=1.0, stretch="none"),
    Promise(drill="etcd-member-loss", what="each member of etcd lost in turn", must="1", most=1.0, stretch="none"),
    Promise(drill="second-fault", what="the live site lost, then one that the next leader needs", must="8", most=8.0,
            stretch="-"),
    Promise(drill="etcd-quorum-loss", what="etcd lost, and returning", must="1", most=1.0, stretch="none"),
)  # fmt: skip
BACK_WITHIN = (
    30.0  # seconds, until both sites are in step again after what was lost returned; with 1 GB of data
)
# What lies between two writes to etcd, and the steps that are noted with the second of them.
SWAP_PARTS = {
    "drained, shut down, handed over": ("flushed", "handed"),
    "promoted, opened": ("promoted", "opened"),
}
FENCING = ("decided", "locked_out", "connections_ended", "postgres_ended")


def page(figures: Figures, *, machine: str, wan_ms: float) -> str:
    runs = figures.drills
    days = sorted({run.at[:10] for run in runs}) or ["never"]
    head = HEAD.format(
        rate=runs[0].rate if runs else 0,
        wan_ms=wan_ms,
        machine=machine,
        when=days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
        data=_data(runs),
    )
    parts = [
        head,
        *_pauses(figures),
        *_phases(figures),
        *_swaps(figures),
        *_fencing(figures),
        *_peer(figures),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _pauses(figures: Figures) -> Iterator[str]:
    yield "## Pauses"
    yield ""
    yield (
        "| drill | n | median | min-max | must | stretch | kept | lost | refused"
        f" | in step again (must {BACK_WITHIN:g}): median, max |"
    )
    yield "|---|---:|---:|---|---|---|---|---:|---:|---|"
    for promise in PROMISES:
        runs = figures.of(promise.drill)
        if not runs:
            continue
        pauses = [run.pause_s for run in runs]
        again = [run.two_site_again_s for run in runs if run.two_site_again_s is not None]
        quick = ", shortened" if any(run.quick for run in runs) else ""
        yield (
            f"| `{promise.drill}`: {promise.what}{quick} | {len(runs)} | {statistics.median(pauses):.2f}"
            f" | {min(pauses):.2f}-{max(pauses):.2f} | {promise.must} | {promise.stretch}"
            f" | {'yes' if kept(promise, runs) else '**no**'} | {sum(run.acknowledged_lost for run in runs)}"
            f" | {sum(run.refused for run in runs)} | {_median_and_max(again)} |"
        )
    yield ""
    loads = [run.load for run in figures.drills]
    if loads:
        yield (
            f"The machine's load when a run began, the lab itself included: median {statistics.median(loads):.1f},"
            f" at most {max(loads):.1f}."
        )
        yield ""
    for run in figures.drills:
        if run.not_held:
            yield f"- `{run.drill}` of {run.at[:19]}, load {run.load:.1f}: did not hold {', '.join(run.not_held)}."
    for failed in figures.failed:
        yield f"- A run came to no end, and has no figures: {failed}"
    yield ""


def _data(runs: Sequence[DrillFigures]) -> str:
    sizes = sorted({round(run.gigabytes, 1) for run in runs} or {0.0})
    if sizes[-1] == 0.0:
        return "little more than what was sent"
    return f"{sizes[0]:g} GB" if len(sizes) == 1 else f"{sizes[0]:g} to {sizes[-1]:g} GB"


def kept(promise: Promise, runs: Sequence[DrillFigures]) -> bool:
    """Whether the pauses and the returns are within what is promised, and nothing was lost."""
    pauses = [run.pause_s for run in runs]
    within = max(pauses) <= promise.most
    within = within and all((run.two_site_again_s or 0.0) <= BACK_WITHIN for run in runs)
    if promise.median is not None:
        within = within and statistics.median(pauses) <= promise.median
    return within and not any(run.acknowledged_lost for run in runs)


def _phases(figures: Figures) -> Iterator[str]:
    yield PHASES_HEAD
    yield f"| drill, median (min-max) | n | {' | '.join(PHASES)} |"
    yield f"|---|---:|{'---|' * len(PHASES)}"
    for drill in ("site-loss", "live-isolated", "postgres-crash"):
        found = [run.phases for run in figures.of(drill) if run.phases]
        if found:
            cells = (_spread([each[phase] for each in found if phase in each]) for phase in PHASES)
            yield f"| `{drill}` | {len(found)} | {' | '.join(cells)} |"
    restarted = [run for run in figures.of("postgres-crash") if not run.phases]
    if restarted:
        yield ""
        yield f"In {len(restarted)} runs of `postgres-crash` PostgreSQL came back in place, and nobody was elected."
    yield ""


def _swaps(figures: Figures) -> Iterator[str]:
    swaps = [swap for run in figures.of("swap") for swap in run.swaps]
    if not swaps:
        return
    yield SWAPS_HEAD
    yield f"| n | {' | '.join(SWAP_PARTS)} | held to opened |"
    yield f"|---:|{'---|' * (len(SWAP_PARTS) + 1)}"
    parts = [
        [float(sum(swap.get(step, 0) for step in steps)) for swap in swaps] for steps in SWAP_PARTS.values()
    ]
    whole = [sum(each) for each in zip(*parts, strict=True)]
    yield f"| {len(swaps)} | {' | '.join(_spread(part, digits=0) for part in (*parts, whole))} |"
    yield ""


def _fencing(figures: Figures) -> Iterator[str]:
    fenced = [run.fencing_ms for run in figures.of("live-isolated") if run.fencing_ms]
    if not fenced:
        return
    yield FENCING_HEAD
    yield f"| n | {' | '.join(step.replace('_', ' ') for step in FENCING)} |"
    yield f"|---:|{'---|' * len(FENCING)}"
    cells = (_spread([steps[step] for steps in fenced if step in steps], digits=0) for step in FENCING)
    yield f"| {len(fenced)} | {' | '.join(cells)} |"
    yield ""


def _peer(figures: Figures) -> Iterator[str]:
    peer = figures.patroni
    if peer is None:
        return
    settings = ", ".join(f"{name} {value}" for name, value in peer.settings.items())
    yield PEER_HEAD.format(version=peer.version, settings=settings)
    yield "| | Hotsite: median (min-max), n | Patroni: median (min-max), n | ratio | acknowledged and lost: Patroni |"
    yield "|---|---|---|---:|---:|"
    for fault, what in (
        ("site-loss", "live node lost"),
        ("postgres-crash", "PostgreSQL killed"),
        ("swap", "planned swap"),
    ):
        ours = [run.pause_s for run in figures.of(fault)]
        runs = [run for run in peer.runs if run.fault == fault]
        theirs = [run.pause_s for run in runs]
        if ours and theirs:
            ratio = statistics.median(theirs) / statistics.median(ours)
            yield (
                f"| {what} | {_spread(ours)}, {len(ours)} | {_spread(theirs)}, {len(theirs)} | {ratio:.1f}"
                f" | {sum(run.lost for run in runs)} |"
            )
    yield ""


def _spread(values: Sequence[float], *, digits: int = 2) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _median_and_max(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f}, {max(values):.1f}" if values else "-"
