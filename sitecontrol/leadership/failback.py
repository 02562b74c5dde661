"""Back to the preferred site by itself: the rows of the `health` lane that come before health's own. Pure.

Only where `failover.failback` says so. It is a planned swap like any other, asked for by the leader's agent, when for
`failback_after` without a break, by its own clock, production has run elsewhere in one term, the preferred site was in
step, ready and seen fit by two places, and nobody saw either site unfit. It keeps to health's limits and counts for
them, to a pause, to announced maintenance, and to `failback_hours` by the wall clock. Beside a swap that an operator
has planned it does nothing.
"""

from collections.abc import Iterator, Sequence

from sitecontrol.leadership import health, planning
from sitecontrol.leadership.effects import AskForSwap
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.observed import FAILBACK, is_seen_unfit
from sitecontrol.leadership.swapping import obstacles
from sitecontrol.leadership.table import Row
from sitecontrol.leadership.turns import target_in

ASK = "The preferred site has been in step and fit for `failback_after`, and nothing speaks against it: ask for a swap."


def live_elsewhere(f: Facts) -> str | None:
    """The site that production runs in, when that is another than it should be by the settings."""
    live = f.site_of.get(f.leader.record.node) if f.leader else None
    return live if f.settings.failback == "after" and f.home is not None and f.home != live else None


def away(f: Facts) -> bool:
    """Likewise, and it runs at our node: we are the one who acts."""
    return f.lead and f.open and live_elsewhere(f) is not None


def waits_for(f: Facts) -> tuple[str, ...]:
    """What keeps production from going back now, each in a sentence; empty: nothing. Any agent can tell whoever asks
    (of the quiet time by its own clock); the leader's acts.
    """
    return tuple(_waits_for(f)) if live_elsewhere(f) is not None else ()


def in_hours(f: Facts) -> bool:
    first, _, last = f.settings.failback_hours.partition("-")
    now = f.wall.strftime("%H:%M")
    if not first:
        return True
    return first <= now < last if first <= last else now >= first or now < last


def _waits_for(f: Facts) -> Iterator[str]:
    home, target = f.home or "", _target(f)
    if not f.etcd_here or not f.lease_safe:
        yield "etcd is not heard"
    if f.paused:
        yield "automatic swaps are paused"
    if planning.planned(f) is not None:
        yield "an operator has planned a swap"
    for site in (home, live_elsewhere(f) or f.site):
        if f.maintenance(site) is not None:
            yield f"{site} is in maintenance"
    if health.swaps_within_hour(f) >= f.settings.max_swaps_per_hour:
        yield "production has moved as often within an hour as `max_swaps_per_hour` allows"
    if health.cools_down_for(f) > 0:
        yield "the last swap is not `swap_cool_down` ago"
    quiet = f.health.calm_for(f.now)
    if quiet < f.settings.failback_after:
        yield f"{home} has been in step and seen fit for {quiet:.0f} s of {f.settings.failback_after:g} s"
    if not in_hours(f):
        yield f"it is not between {f.settings.failback_hours} UTC"
    yield from obstacles(f, target)


def _target(f: Facts) -> str:
    return target_in(f, f.home or "") or ""


def _ask(f: Facts) -> AskForSwap:
    quiet = f"{f.health.calm_for(f.now):.0f}"
    return AskForSwap(
        to_node=_target(f),
        reason=f"back to {f.home}, the preferred site, after {quiet} s of quiet",
        places=f.places,
        evidence={
            "rule": FAILBACK,
            "sentence": ASK,
            "quiet_for_s": quiet,
            "hours": f.settings.failback_hours or "any",
        },
        by="failback",
    )


def _calm(f: Facts) -> bool:
    """There is nothing for health to decide."""
    return away(f) and f.swap is None and not is_seen_unfit(f.cluster, f.site)


ROWS: Sequence[Row] = (
    Row(FAILBACK, ASK, lambda f: _calm(f) and not waits_for(f), _ask),
    Row(
        "failback-waits",
        "Production is to go back to the preferred site by itself, and something keeps it from that yet: `failback`"
        " tells what.",
        _calm,
    ),
)
