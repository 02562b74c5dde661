"""The numbers of a drill, from what was recorded. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise

from sitecontrol.drills.ledger import Ack, Broken, Text


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A time without an acknowledgement, as one client saw it."""

    client: str
    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start


def longest_gap(acks: Iterable[Ack], clients: Sequence[str], *, end: float | None = None) -> Gap | None:
    """The longest over all clients, between neighbouring acknowledgements; `end`: as if one had come then."""
    gaps = []
    for client in clients:
        times = sorted(ack.t for ack in acks if ack.client == client)
        if times and end is not None and end > times[-1]:
            times.append(end)
        gaps += [Gap(client=client, start=a, end=b) for a, b in pairwise(times)]
    return max(gaps, key=lambda gap: gap.length, default=None)


def first_ack_after(acks: Iterable[Ack], moment: float) -> float | None:
    """Seconds until the first acknowledgement of a text that was first sent after `moment`."""
    return min((ack.t - moment for ack in acks if ack.asked_at >= moment), default=None)


def unexpected(broken: Iterable[Broken], *, killed: AbstractSet[str], since: float) -> list[Broken]:
    """Without those that the story explains: by dispatchers (addresses) that it killed, from then on."""
    return [one for one in broken if one.url not in killed or one.t < since]


def in_step_again(changes: Sequence[tuple[float, bool]], since: Sequence[float]) -> float | None:
    """Seconds from each moment of `since` until the sites were in step and stayed so: the longest of them. None: they
    never were. `changes`: in order of time, from when on production was whole (a leader lets its dispatchers in and
    every commit waits for the other site), or was not.
    """
    longest = None
    for start, end in zip(since, (*since[1:], float("inf")), strict=True):
        before = next((whole for t, whole in reversed(changes) if t <= start), False)
        seen = [(start, before), *((t, whole) for t, whole in changes if start < t < end)]
        back, whole = seen[-1]
        if whole:
            longest = max(longest or 0.0, back - start)
        elif end == float("inf"):
            return None
    return longest


def stale_acks(acks: Sequence[Ack]) -> list[Ack]:
    """Acknowledgements in an old term of texts that were sent after a newer term had acknowledged.

    They would be a second writer's: by then the newer term's leader had opened.
    """
    opened: dict[int, float] = {}
    for ack in acks:
        opened[ack.term] = min(ack.t, opened.get(ack.term, ack.t))
    return [
        ack for ack in acks if any(term > ack.term and since < ack.asked_at for term, since in opened.items())
    ]


def two_sites_in_one_term(acks: Iterable[Ack]) -> dict[int, set[str]]:
    """Terms in which more than one site was said to be live."""
    sites: dict[int, set[str]] = {}
    for ack in acks:
        if ack.live_site is not None:
            sites.setdefault(ack.term, set()).add(ack.live_site)
    return {term: named for term, named in sites.items() if len(named) > 1}


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    copies: int  # texts at the carrier beyond the first of each
    declared: int  # of these, how many belong to messages that were listed as in doubt
    undeclared: tuple[str, ...]  # references


def duplicates(
    copies: Mapping[tuple[str, str, int], int], texts: Mapping[str, Text], in_doubt: frozenset[str]
) -> Duplicates:
    """Compare what carriers took twice with what was listed as in doubt (both by reference)."""
    by_text = {(text.to.lstrip("+"), text.body): reference for reference, text in texts.items()}
    extra: Counter[str] = Counter()
    for (to, body, _part), count in copies.items():
        reference = by_text.get((to.lstrip("+"), body))
        if reference is not None and count > 1:
            extra[reference] += count - 1
    declared = sum(count for reference, count in extra.items() if reference in in_doubt)
    undeclared = tuple(sorted(reference for reference in extra if reference not in in_doubt))
    return Duplicates(copies=extra.total(), declared=declared, undeclared=undeclared)
