"""What must hold after a drill, each by its name (failover.md), with a sentence when it does not. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sitecontrol.drills.accounting import Fate, Unanswered
from sitecontrol.drills.drill import Drill, Expect
from sitecontrol.drills.ledger import Ack, Broken, Refusal
from sitecontrol.drills.measure import Duplicates, Gap, stale_acks, two_sites_in_one_term
from sitecontrol.drills.watch import FENCED, in_words

SETTLING = 0.25  # seconds in which answers given before a cut may still arrive
SHOWN = 3  # examples in a sentence
SHOWN_WITH_STATE = 10  # messages that an operator will want to look up
DELIVERED = "delivered"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that was found out."""

    drill: Drill
    site: str
    acks: Sequence[Ack]
    refusals: Sequence[Refusal]
    lost: Sequence[str]  # references that were acknowledged and are nowhere
    fates: Sequence[Fate]  # of what was acknowledged
    unanswered: Sequence[Unanswered]  # what became of the texts for which nobody had a 2xx
    acknowledged: int
    strangers: Sequence[str]  # texts at the carriers that nobody asked for
    delivers: bool  # the carriers are simulators, which deliver all that they take
    broken: Sequence[Broken]  # requests without an answer, from dispatchers that the story did not kill
    fencing: Mapping[str, float]  # at the site that was struck: milliseconds until each step
    doubles: Duplicates
    # By carrier (None: not known): attempts that came into doubt; None: nobody could say.
    doubts: Mapping[str | None, int] | None
    windows: Mapping[str, int]  # by carrier: the most submits that one dispatcher has unanswered
    pause: Gap | None
    idle: bool  # nobody sent anything: no pause could be seen
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
    _check_ends(evidence, expect)
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
    if not evidence.idle:
        expect(
            "pause-within-limit",
            pause <= drill.pause_limit,
            f"no acknowledgement for {pause:.2f} s, at most {drill.pause_limit:.0f} s are allowed",
        )
    expect("converges", evidence.two_site_again, "the sites did not come back into step by themselves")
    expect("swap-ends", evidence.swap_over, "a swap is still in progress")
    _check_leadership(evidence, expect)
    if drill.nothing_refused:
        kinds = ", ".join(sorted({one.error for one in evidence.broken}))
        expect(
            "no-request-refused",
            not evidence.refusals and not evidence.broken,
            f"{len(evidence.refusals)} requests were refused, {len(evidence.broken)} got no answer"
            + (f" ({kinds})" if kinds else ""),
        )
    if drill.one_window_in_doubt:
        beyond = _beyond_its_window(evidence)
        expect("only-its-window-in-doubt", not beyond, beyond)
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
        expect(
            "cut-site-fences",
            evidence.fencing.keys() >= FENCED,
            f"{evidence.site} did not tell of every step of its fencing: {in_words(evidence.fencing) or 'of none'}",
        )
    return held, notes


def _check_ends(evidence: Evidence, expect: Callable[[str, bool, str], None]) -> None:
    """What must have become of every text, whether its client had an answer or not."""
    missing = evidence.acknowledged - len(evidence.fates)
    expect(
        "accounts-balance",
        not missing and not evidence.strangers,
        f"{missing} acknowledged messages have no state; texts at the carriers that nobody asked for: "
        f"{', '.join(evidence.strangers[:SHOWN]) or 'none'}",
    )
    open_still = [fate for fate in evidence.fates if not fate.final]
    expect(
        "all-settled",
        not open_still,
        f"{len(open_still)} acknowledged messages are not settled: {_states(open_still)}",
    )
    if evidence.delivers:
        # A text in doubt may have been lost on its way out, and then its program may forbid to send it again.
        ended = [fate for fate in evidence.fates if fate.final and not _ended_well(fate, delivers=True)]
        expect(
            "all-delivered",
            not ended,
            f"{len(ended)} acknowledged messages were not delivered, by carriers that deliver everything: "
            f"{_states(ended)}",
        )
    # A client asks both sites for longer than any story keeps production away: none may be left without an answer.
    unanswered = [one.reference for one in evidence.unanswered]
    expect(
        "every-text-answered",
        not unanswered,
        f"{len(unanswered)} texts had no 2xx from either site in time, as {', '.join(unanswered[:SHOWN])}",
    )
    adrift = [one for one in evidence.unanswered if not _accounted_for(one, delivers=evidence.delivers)]
    expect(
        "unanswered-accounted-for",
        not adrift,
        "; ".join(one.sentence for one in adrift[:SHOWN_WITH_STATE]),
    )


def _beyond_its_window(evidence: Evidence) -> str:
    """What a dispatcher that died left in doubt beyond what it had unanswered at most; empty: nothing."""
    if evidence.doubts is None:
        return "nobody could say what came into doubt"
    rooms = {carrier: evidence.windows.get(carrier, 0) for carrier in evidence.doubts if carrier is not None}
    beyond = [
        f"{evidence.doubts[carrier]} texts in doubt at {carrier}, and the window has {room}"
        for carrier, room in sorted(rooms.items())
        if evidence.doubts[carrier] > room
    ]
    # Which link a text was written to is not always known when nobody is left to tell: it was one of them.
    count, room = sum(evidence.doubts.values()), sum(evidence.windows.values())
    if count > room:
        beyond.append(f"{count} texts in doubt, and the windows of all links have {room}")
    return "; ".join(beyond)


def _ended_well(fate: Fate, *, delivers: bool) -> bool:
    """Where the carriers deliver everything, only `delivered` is a good end; elsewhere any end is one."""
    return fate.final and (not delivers or fate.state == DELIVERED or fate.was_in_doubt)


def _accounted_for(one: Unanswered, *, delivers: bool) -> bool:
    """It was accepted, and is a message like any other; or it was not, and then no carrier has it."""
    if not one.known:
        return False
    return not one.at_carrier if one.fate is None else _ended_well(one.fate, delivers=delivers)


def _states(fates: Sequence[Fate]) -> str:
    return ", ".join(f"{fate.id} {fate.state}" for fate in fates[:SHOWN_WITH_STATE])


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
