"""Swaps because the live site is unfit, though it is not dead: the rows of the `health` lane.

A health swap is a planned swap: the same record, the same checks, rolled back before the hand-over like any other.
All that is decided here is whether to *ask* for one. Whose word counts and since when they agree is kept in
`leadership.observed`; every limit below holds without comparing the clocks of two places.

- The leader's agent asks. The target's agent sees the same, and asks some seconds later if nobody has.
- After each of health's swaps, tries that were rolled back included, comes a cool-down; and within an hour there are at
  most `max_swaps_per_hour`. Both are counted from the history in etcd, so an agent that was restarted knows of them.
  `sitectl resume` acknowledges: what health did before counts for nothing any more.
- A site whose maintenance was announced, a pause, a swap in progress, a target that could not take over: hold.

Back to the preferred site: `leadership.failback`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sitecontrol.leadership.effects import AskForSwap, Effect
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.observed import HEALTH_SWAP, Picture, Word, is_seen_unfit, votes
from sitecontrol.leadership.swapping import obstacles
from sitecontrol.leadership.table import Row
from sitecontrol.leadership.turns import target_in

ASK = "Two places or more see the live site unfit and the other one fit, long enough: ask for a planned swap."
HOUR = 3_600.0
TARGET_PATIENCE = 3.0  # seconds that the target's agent leaves the asking to the leader's


def live_site(f: Facts) -> str | None:
    """By our own settings; a record is only believed about the node."""
    return f.site_of.get(f.leader.record.node) if f.leader else None


def picture(f: Facts) -> Picture | None:
    live = live_site(f)
    return None if live is None else votes(f.cluster, f.places, live, f.health.heard, f.now)


def target_site(f: Facts) -> str | None:
    return f.health.subject.target if f.health.subject else None


def agreed_for(f: Facts) -> float:
    return f.health.agreed_for(f.now)


def target(f: Facts) -> str | None:
    """The node that production would move to: one that could take over, if there is any."""
    site = target_site(f)
    return None if site is None else target_in(f, site, planned=False)


def _ages(f: Facts) -> list[float]:
    """Seconds since each of health's own swaps and tries, those that a person has acknowledged left out."""
    desired, history = f.cluster.desired, f.cluster.history
    acknowledged = (desired.record.acknowledged_revision if desired else None) or 0
    return [
        f.now - since
        for key, since in f.health.swaps.items()
        if key in history and history[key].create_revision > acknowledged
    ]


def swaps_within_hour(f: Facts) -> int:
    return sum(age < HOUR for age in _ages(f))


def cools_down_for(f: Facts) -> float:
    """Seconds until health may ask again after its last swap."""
    return max(0.0, f.settings.swap_cool_down - min(_ages(f), default=float("inf")))


def _unheard(f: Facts) -> bool:
    return not f.cluster_read or not f.etcd_here or live_site(f) is None


def _seen(f: Facts, holds: Callable[[Picture], bool]) -> bool:
    seen = picture(f)
    return seen is not None and holds(seen)


def _ask(f: Facts) -> Effect | None:
    node, seen = target(f), picture(f)
    if node is None or seen is None:
        return None
    return AskForSwap(
        to_node=node,
        reason=told(f),
        places=tuple(vote.place for vote in seen.unfit),
        evidence={
            "rule": HEALTH_SWAP,
            "sentence": ASK,
            "agreed_for_s": f"{agreed_for(f):.1f}",
            **{f"seen by {vote.place}": _in_words(vote.word, vote.reasons) for vote in seen.votes},
        },
    )


def _in_words(word: Word, reasons: tuple[str, ...]) -> str:
    return (f"{word.value}: {'; '.join(reasons)}" if reasons else word.value)[:500]


def told(f: Facts) -> str:
    """The picture in one line, for people: "2 of 3 places see columbus unfit for 4 s of 10 s, and denver-a would lead:
    no carrier link is bound". Empty while no place sees the live site unfit.
    """
    seen = picture(f)
    if seen is None or not seen.unfit:
        return ""
    reasons = next((vote.reasons for vote in seen.unfit if vote.reasons), ())
    why = f": {'; '.join(reasons)}" if reasons else ""
    since = ""
    if f.health.subject:
        since = f" for {agreed_for(f):.0f} s of {f.settings.unfit_for:g} s, and {target(f)} would lead"
    verb = "sees" if len(seen.unfit) == 1 else "see"
    return f"{len(seen.unfit)} of {len(seen.votes)} places {verb} {seen.live} unfit{since}{why}"[:300]


def document(f: Facts) -> dict[str, Any]:
    """As `/status` and `/cluster` tell it (docs/interfaces.md)."""
    seen = picture(f)
    return {
        "told": told(f),
        "live_site": seen.live if seen else None,
        "target_site": target_site(f),
        "target_node": target(f),
        "agreed_for_s": round(agreed_for(f), 1) if f.health.subject else None,
        "unfit_for_s": f.settings.unfit_for,
        "votes": [
            {"place": vote.place, "word": vote.word.name.lower(), "reasons": list(vote.reasons)}
            for vote in (seen.votes if seen else ())
        ],
        "cools_down_for_s": round(cools_down_for(f), 1),
        "swaps_within_hour": swaps_within_hour(f),
        "max_swaps_per_hour": f.settings.max_swaps_per_hour,
    }


ROWS: Sequence[Row] = (
    Row(
        "unheard",
        "Nobody leads, or etcd is not heard: health moves nothing.",
        _unheard,
    ),
    Row(
        "swap-in-progress",
        "A swap is in progress: health asks for nothing beside it.",
        lambda f: f.swap is not None,
    ),
    Row(
        "live-fit",
        "No place whose word counts sees the live site unfit.",
        lambda f: not is_seen_unfit(f.cluster, live_site(f) or "") or _seen(f, lambda seen: not seen.unfit),
    ),
    Row(
        "too-few",
        (
            "Fewer than two places, or no more than see it fit, see the live site unfit: it may be their line, and"
            " production stays."
        ),
        lambda f: _seen(f, lambda seen: not seen.live_is_unfit),
    ),
    Row(
        "nowhere-to-go",
        "The live site is seen unfit, but not enough of those who see that see another site fit: production stays.",
        lambda f: f.health.subject is None,
    ),
    Row(
        "health-paused",
        "The live site is seen unfit, but automatic swaps are paused by an operator: production stays.",
        lambda f: f.paused,
    ),
    Row(
        "live-in-maintenance",
        "The live site is seen unfit, but its maintenance was announced: production stays.",
        lambda f: f.maintenance(live_site(f) or "") is not None,
    ),
    Row(
        "target-in-maintenance",
        "The live site is seen unfit, but the other one is in maintenance: production stays.",
        lambda f: f.maintenance(target_site(f) or "") is not None,
    ),
    Row(
        "not-long-enough",
        "The live site is seen unfit and another one fit: wait until that has been so for `unfit_for` without a break.",
        lambda f: agreed_for(f) < f.settings.unfit_for,
    ),
    Row(
        "limit-reached",
        (
            "The live site is seen unfit, but health has moved production, or tried to, as often within an hour as"
            " `max_swaps_per_hour` allows: an operator has to look; `sitectl resume` lets it go on, `sitectl swap`"
            " moves production."
        ),
        lambda f: swaps_within_hour(f) >= f.settings.max_swaps_per_hour,
    ),
    Row(
        "cooling-down",
        "The live site is seen unfit, but health's last swap, or try, is not `swap_cool_down` ago: production stays.",
        lambda f: cools_down_for(f) > 0,
    ),
    Row(
        "target-not-ready",
        "The live site is seen unfit, but the other one could not take over now: production stays.",
        lambda f: bool(obstacles(f, target(f) or "", planned=False)),
    ),
    Row(
        "others-ask",
        "The live site is seen unfit long enough: the leader's agent asks for a swap, and the target's if it does not.",
        lambda f: (
            not f.lead
            and not (f.node == target(f) and agreed_for(f) >= f.settings.unfit_for + TARGET_PATIENCE)
        ),
    ),
    Row(
        HEALTH_SWAP,
        ASK,
        lambda _: True,
        _ask,
    ),
)
