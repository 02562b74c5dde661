"""Joins the parts of a customer's text. Pure.

Octets are joined before they are read: a carrier may cut between the two units of one character. What lies on both
sides of a missing part is read apart, and the gap is shown.
"""

import hashlib
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from dispatcher.alphabets import text_of
from dispatcher.model import Reply, ReplyPart

GAP: Final = " […] "


def join(parts: Sequence[ReplyPart]) -> Reply:
    """The text of these parts of one text (at least one), however many are missing."""
    ordered = sorted({part.number: part for part in parts}.values(), key=lambda part: part.number)
    first = ordered[0]
    runs = [
        list(run)
        for _, run in groupby(enumerate(ordered), key=lambda at: (at[1].number - at[0], at[1].coding))
    ]
    text, expected = "", 1
    for run in runs:
        if run[0][1].number != expected:
            text += GAP
        text += text_of(b"".join(part.octets for _, part in run), run[0][1].coding)
        expected = run[-1][1].number + 1
    if expected <= first.total:
        text += GAP
    fingerprint = hashlib.sha256()
    for part in ordered:
        fingerprint.update(part.fingerprint)
    return Reply(
        carrier=first.carrier,
        source=first.source,
        destination=first.destination,
        text=text.strip(" ") if GAP in text else text,
        received_at=min(part.received_at for part in ordered),
        fingerprint=fingerprint.digest(),
    )
