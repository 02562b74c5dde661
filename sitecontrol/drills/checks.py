"""What must hold after a drill, each by its name (failover.md), with a sentence when it does not. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sitecontrol.drills.accounting import Fate
from sitecontrol.drills.ledger import Ack, Refusal
from sitecontrol.drills.measure import Duplicates, Gap, stale_acks, two_sites_in_one_term
from sitecontrol.drills.stories import Drill, Expect

SETTLING = 0.25  # seconds in which answers given before a cut may still arrive
SHOWN = 3  # examples in a sentence


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that was found out."""

    drill: Drill
    site: str
    acks: Sequence[Ack]
    refusals: Sequence[Refusal]
    lost: Sequence[str]  # references that were acknowledged and are nowhere
    fates: Sequence[Fate]
    doubles: Duplicates
    pause: Gap | None
    fault_at: float
    healed_at: float
    two_site_again: bool
    swap_over: bool
    live_before: str
    live_after: str | None
    term_before: int
    term_after: int
    missed: Sequence[str]


def check(evidence: Evidence) -> tuple[dict[str, bool], list[str]]:
    """Which invariants held, and a sentence for each that did not."""
    drill, notes = evidence.drill, list(evidence.missed)
    held: dict[str, bool] = {"story-as-told": not evidence.missed}

    def expect(name: str, holds: bool, sentence: str) -> None:  # noqa: FBT001 # a fact, not a switch
        held[name] = holds
        if not holds:
            notes.append(f"{name}: {sentence}")

    expect(
        "acked-survives",
        not evidence.lost,
        f"{len(evidence.lost)} acknowledged messages are lost, as {', '.join(evidence.lost[:SHOWN])}",
    )
    open_still = [fate.reference for fate in evidence.fates if not fate.final]
    expect(
        "all-settled",
        not open_still,
        f"{len(open_still)} acknowledged messages are not settled, as {', '.join(open_still[:SHOWN])}",
    )
    expect(
        "duplicates-only-declared",
        not evidence.doubles.undeclared,
        f"received twice without having been in doubt: {', '.join(evidence.doubles.undeclared[:SHOWN])}",
    )
    stale, split = stale_acks(evidence.acks), two_sites_in_one_term(evidence.acks)
    expect(
        "one-writer",
        not stale and not split,
        f"{len(stale)} acknowledgements in a term that was over; terms with two live sites: {split or 'none'}",
    )
    pause = evidence.pause.length if evidence.pause is not None else float("inf")
    expect(
        "pause-within-limit",
        pause <= drill.pause_limit,
        f"no acknowledgement for {pause:.2f} s, at most {drill.pause_limit:.0f} s are allowed",
    )
    expect("converges", evidence.two_site_again, "the sites did not come back into step by themselves")
    expect("swap-ends", evidence.swap_over, "a swap is still in progress")
    _check_leadership(evidence, expect)
    if drill.nothing_refused:
        expect("no-request-refused", not evidence.refusals, f"{len(evidence.refusals)} requests were refused")
    if drill.silent_when_cut:
        spoke = [
            ack
            for ack in evidence.acks
            if ack.site == evidence.site and evidence.fault_at + SETTLING < ack.t < evidence.healed_at
        ]
        expect(
            "cut-site-acknowledges-nothing",
            not spoke,
            f"{evidence.site} acknowledged {len(spoke)} messages while it was cut off",
        )
    return held, notes


def _check_leadership(evidence: Evidence, expect: Callable[[str, bool, str], None]) -> None:
    drill = evidence.drill
    same_site = evidence.live_after == evidence.live_before
    same_term = evidence.term_after == evidence.term_before
    if drill.live is Expect.STAYS:
        expect("production-stays", same_site, f"{evidence.live_after} leads, not {evidence.live_before}")
    if drill.live is Expect.MOVES:
        expect("production-moves", not same_site, f"{evidence.live_before} still leads")
    if drill.term is Expect.STAYS:
        expect("same-term", same_term, f"term {evidence.term_before} became {evidence.term_after}")
    if drill.term is Expect.MOVES:
        expect("newer-term", evidence.term_after > evidence.term_before, "the term did not grow")
