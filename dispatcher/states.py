"""Every way from one state of a segment to another: the table that both stores follow.

A row names what happened, from which states to which, and the sentence that the message's story says of it. The same
table stands in the database as `hotsite.transition`, and lines of the story name its rows. A test holds the two against
each other, and the databases of all tests refuse a change of state that has no row.

What happens to nearly every segment (accepted, claimed, taken, delivered) is not written as a line of the story: it is
read off the times that are kept anyway, so that the plain way costs no row. Everything else is (`stored`).

docs/states.md is made out of it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dispatcher.model import State


class What(StrEnum):
    """What happened to a segment."""

    ACCEPTED = "accepted"
    SCHEDULED = "scheduled"
    DUE = "due"
    CLAIMED = "claimed"
    TAKEN = "taken"
    REFUSED_FOR_NOW = "refused_for_now"
    NOT_WRITTEN = "not_written"
    REFUSED = "refused"
    CANNOT_BE_MADE = "cannot_be_made"
    NOT_ANSWERED = "not_answered"
    GIVEN_UP = "given_up"
    RETURNED = "returned"
    TAKEN_LATE = "taken_late"
    TAKEN_TOO = "taken_too"
    REFUSED_LATE = "refused_late"
    NOT_WRITTEN_LATE = "not_written_late"
    RECEIPT = "receipt"
    RECEIPT_LATE = "receipt_late"
    RECEIPT_FITS = "receipt_fits"
    RECEIPT_UNNAMED = "receipt_unnamed"
    RESENT = "resent"
    RESENT_BY_OPERATOR = "resent_by_operator"
    LET_GO = "let_go"
    CANCELED = "canceled"
    NOT_SENT_AGAIN = "not_sent_again"
    SUPERSEDED = "superseded"
    SUPERSEDED_AGAIN = "superseded_again"
    TOO_LATE = "too_late"
    TOO_LATE_AGAIN = "too_late_again"
    NO_RECEIPT = "no_receipt"
    HELD = "held"
    SUPPRESSED = "suppressed"


class IllegalTransition(Exception):  # a defect, never an answer
    """The table has no such way."""


@dataclass(frozen=True, kw_only=True)
class Transition:
    what: What
    before: frozenset[State]  # empty: the segment is new
    after: frozenset[State]  # empty: the state stays as it is
    stored: bool  # whether it is written as a line of the story
    by_carrier: bool  # whether the line names the carrier and its answer
    sentence: str

    def check(self, before: State | None, after: State) -> None:
        """Raises IllegalTransition."""
        stays = not self.after and before is after
        leads = after in self.after and (before in self.before if self.before else before is None)
        if not (stays or leads):
            raise IllegalTransition(f"{self.what}: no way from {before} to {after}")


_S = State
WAITING: Final = frozenset({_S.ACCEPTED, _S.HELD, _S.SCHEDULED, _S.QUEUED})  # nothing of it has left
TOLD_BY_RECEIPTS: Final = frozenset({_S.DELIVERED, _S.UNDELIVERED, _S.EXPIRED, _S.REJECTED, _S.UNKNOWN})
FINAL: Final = TOLD_BY_RECEIPTS | {_S.SUPPRESSED, _S.FAILED, _S.CANCELED}


def _row(
    what: What,
    before: frozenset[State],
    after: frozenset[State],
    sentence: str,
    *,
    stored: bool = True,
    by_carrier: bool = False,
) -> Transition:
    return Transition(
        what=what, before=before, after=after, stored=stored, by_carrier=by_carrier, sentence=sentence
    )


def _of(*states: State) -> frozenset[State]:
    return frozenset(states)


TABLE: Final = (
    _row(What.ACCEPTED, _of(), _of(_S.ACCEPTED, _S.QUEUED), "Accepted.", stored=False),
    _row(What.SCHEDULED, _of(), _of(_S.SCHEDULED), "Accepted, to be sent at its time.", stored=False),
    _row(
        What.SUPPRESSED,
        _of(_S.ACCEPTED, _S.HELD, _S.SCHEDULED, _S.QUEUED),
        _of(_S.SUPPRESSED),
        "It must not be sent.",
    ),
    _row(What.HELD, _of(_S.ACCEPTED, _S.SCHEDULED, _S.QUEUED), _of(_S.HELD), "It waits for its time."),
    _row(
        What.DUE,
        _of(_S.ACCEPTED, _S.HELD, _S.SCHEDULED),
        _of(_S.QUEUED),
        "Its time came.",
        stored=False,
    ),
    _row(
        What.CLAIMED, _of(_S.QUEUED), _of(_S.SUBMITTING), "Handed to a dispatcher for sending.", stored=False
    ),
    _row(What.TAKEN, _of(_S.SUBMITTING), _of(_S.SUBMITTED), "The carrier took it.", stored=False),
    _row(
        What.REFUSED_FOR_NOW,
        _of(_S.SUBMITTING),
        _of(_S.QUEUED),
        "The carrier refused it for now: it will be tried again.",
        by_carrier=True,
    ),
    _row(What.NOT_WRITTEN, _of(_S.SUBMITTING), _of(_S.QUEUED), "It was not sent in time: queued again."),
    _row(What.REFUSED, _of(_S.SUBMITTING), _of(_S.FAILED), "The carrier refused it.", by_carrier=True),
    _row(
        What.CANNOT_BE_MADE,
        _of(_S.SUBMITTING),
        _of(_S.FAILED),
        "SMPP cannot carry its text, its number or its short code.",
    ),
    _row(
        What.NOT_ANSWERED,
        _of(_S.SUBMITTING),
        _of(_S.IN_DOUBT),
        "It was written to the carrier, and no answer came: it may have left.",
        by_carrier=True,
    ),
    _row(
        What.GIVEN_UP,
        _of(_S.SUBMITTING),
        _of(_S.IN_DOUBT),
        "Its dispatcher was lost before it told what became of it: it may have left.",
    ),
    _row(
        What.RETURNED,
        _of(_S.SUBMITTING),
        _of(_S.QUEUED),
        "Its dispatcher was never told of the claim, and sent nothing: queued again.",
    ),
    _row(
        What.TAKEN_LATE,
        _of(_S.IN_DOUBT, _S.QUEUED),
        _of(_S.SUBMITTED),
        "The carrier's answer came late and settled the doubt: it was taken.",
        by_carrier=True,
    ),
    _row(
        What.TAKEN_TOO,
        _of(),
        _of(),
        "The carrier's answer to an earlier attempt came late: that attempt was taken, too.",
    ),
    _row(
        What.REFUSED_LATE,
        _of(_S.IN_DOUBT),
        _of(_S.FAILED),
        "The carrier's answer came late and settled the doubt: it was refused.",
        by_carrier=True,
    ),
    _row(
        What.NOT_WRITTEN_LATE,
        _of(_S.IN_DOUBT),
        _of(_S.QUEUED),
        "It was never sent, as its dispatcher told late: queued again.",
    ),
    _row(What.RECEIPT, _of(_S.SUBMITTED), TOLD_BY_RECEIPTS, "The carrier's receipt came.", stored=False),
    _row(
        What.RECEIPT_LATE,
        _of(_S.SUBMITTED, _S.IN_DOUBT, _S.QUEUED, _S.SUBMITTING),
        TOLD_BY_RECEIPTS,
        "A receipt for an earlier attempt, or for one in doubt, settled it.",
    ),
    _row(
        What.RECEIPT_FITS,
        _of(_S.IN_DOUBT, _S.QUEUED),
        TOLD_BY_RECEIPTS,
        "A receipt settled the doubt: numbers, time and text fit this segment and no other.",
    ),
    _row(
        What.RECEIPT_UNNAMED,
        _of(_S.SUBMITTED),
        TOLD_BY_RECEIPTS,
        "The carrier had told no id, and a receipt was matched: numbers, time and text fit this segment and no other.",
    ),
    _row(
        What.RESENT,
        _of(_S.IN_DOUBT),
        _of(_S.QUEUED),
        "No answer and no receipt came: sent once more, it may arrive twice.",
    ),
    _row(
        What.RESENT_BY_OPERATOR,
        _of(_S.IN_DOUBT),
        _of(_S.QUEUED),
        "An operator had it sent once more, it may arrive twice.",
    ),
    _row(What.LET_GO, _of(_S.IN_DOUBT), _of(_S.UNKNOWN), "An operator decided to wait for nothing more."),
    _row(What.CANCELED, WAITING, _of(_S.CANCELED), "Canceled by its account before it was sent."),
    _row(
        What.NOT_SENT_AGAIN,
        _of(_S.QUEUED),
        _of(_S.IN_DOUBT),
        "Canceled by its account before it was sent again: the first attempt may have left.",
    ),
    _row(What.SUPERSEDED, WAITING, _of(_S.CANCELED), "Superseded by a newer text of its topic."),
    _row(
        What.SUPERSEDED_AGAIN,
        _of(_S.QUEUED),
        _of(_S.IN_DOUBT),
        "Superseded by a newer text of its topic before it was sent again: the first attempt may have left.",
    ),
    _row(What.TOO_LATE, WAITING, _of(_S.EXPIRED), "Its time ran out.", stored=False),
    _row(
        What.TOO_LATE_AGAIN,
        _of(_S.QUEUED),
        _of(_S.IN_DOUBT),
        "Its time ran out before it was sent again: the first attempt may have left.",
    ),
    _row(
        What.NO_RECEIPT,
        _of(_S.SUBMITTED, _S.IN_DOUBT),
        _of(_S.UNKNOWN),
        "No receipt came in time.",
        stored=False,
    ),
)
BY_NAME: Final = {row.what: row for row in TABLE}
