"""Which receipt settles which doubt, when no answer ever named its id. Pure.

After the loss of a site the answers to its last window are lost, but the receipts for those texts still come, at
the other site. One is believed to belong to a segment only when everything that it tells fits (the
customer's number, the short code, the text as far as it is told; that it came after the segment was claimed
is the store's part), when it fits no other open segment, and when no receipt with another id fits that
segment. A text still waiting for its answer counts among the others: the receipt may have overtaken it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from dispatcher.encoding import split
from dispatcher.model import Encoding

SHORTEST_NUMBER = 7  # digits; fewer tell nobody apart
_NOT_DIGITS = re.compile(r"\D", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A parked receipt beside an open segment whose number ends like its own."""

    parked_id: int
    carrier: str
    written: str  # the id in the receipt
    customer: str  # digits only
    destination: str
    text: str  # the first characters of the sent text, or nothing
    message_id: UUID
    segment: int
    in_doubt: bool  # else its answer is still awaited
    recipient: str
    source: str
    encoding: Encoding
    body: str


@dataclass(frozen=True, kw_only=True)
class Pair:
    parked_id: int
    message_id: UUID
    segment: int


def digits(number: str) -> str:
    """The digits of a number without leading zeros; empty for what is too short or no number."""
    found = _NOT_DIGITS.sub("", number).lstrip("0")
    return found if len(found) >= SHORTEST_NUMBER else ""


def pair(candidates: Iterable[Candidate]) -> tuple[Pair, ...]:
    """The receipts that can only belong to one segment, each with it."""
    segments_of: dict[int, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if fits(candidate):
            segments_of[candidate.parked_id].append(candidate)
    receipts_of: dict[tuple[UUID, int], list[Candidate]] = defaultdict(list)
    for fitting in segments_of.values():
        if len(fitting) == 1 and fitting[0].in_doubt:
            receipts_of[fitting[0].message_id, fitting[0].segment].append(fitting[0])
    return tuple(
        Pair(parked_id=min(r.parked_id for r in receipts), message_id=message_id, segment=segment)
        for (message_id, segment), receipts in receipts_of.items()
        if len({(r.carrier, r.written) for r in receipts}) == 1
    )


def fits(candidate: Candidate) -> bool:
    """Whether all that the receipt tells agrees with the segment."""
    if not candidate.customer or not digits(candidate.recipient).endswith(candidate.customer):
        return False
    if candidate.destination.lstrip("+0") not in {"", candidate.source.lstrip("+0")}:
        return False
    told = _plain(candidate.text)
    sent = split(candidate.body, candidate.encoding)[candidate.segment - 1]
    return _plain(sent).startswith(told)


def _plain(text: str) -> str:
    """Without what carriers change on the way: case, and how much space there is."""
    return " ".join(text.casefold().split())
