"""The texts of a database, as its WAL tells them: what the SQL functions do with their rows, entry by entry.

Meaner than the real ones where that is simple: a text that was refused for now may be claimed again at once; a number
that a lost leader gave a claim is given out again; a claim is seen while its commit still waits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dispatcher.model import OpenClaim, State, SubmitOutcome

RESENT = 3  # every third text's program has it sent again after doubt


@dataclass
class Text:
    number: int
    state: State = State.QUEUED
    attempt: int = 0
    claim: int = 0
    doubted: float | None = None  # since when it is in doubt
    was_doubted: bool = False
    resent: bool = False


@dataclass
class Queue:
    texts: dict[int, Text] = field(default_factory=dict)
    queued: dict[int, Text] = field(default_factory=dict)  # those that may be claimed, oldest first
    claims: dict[int, tuple[OpenClaim, dict[int, Text]]] = field(default_factory=dict)
    doubtful: dict[int, Text] = field(default_factory=dict)
    last_claim: int = 0

    def apply(self, kind: str, payload: Any) -> None:
        change = CHANGES.get(kind)
        if change is not None:
            change(self, payload)

    def open_claims(self) -> list[OpenClaim]:
        return [claim for claim, texts in self.claims.values() if texts]

    def due(self, before: float) -> tuple[int, ...]:
        """The texts in doubt that are to be sent once more."""
        return tuple(
            t.number
            for t in self.doubtful.values()
            if not t.resent and t.number % RESENT == 0 and t.doubted is not None and t.doubted <= before
        )

    # -- what an entry changes

    def _accept(self, number: int) -> None:
        if number not in self.texts:
            self.texts[number] = self.queued[number] = Text(number)

    def _claim(self, payload: tuple[OpenClaim, tuple[int, ...]]) -> None:
        claim, numbers = payload
        self.last_claim = claim.claim_id
        taken = {}
        for number in numbers:
            text = taken[number] = self.queued.pop(number)
            text.state, text.attempt, text.claim = State.SUBMITTING, text.attempt + 1, claim.claim_id
        self.claims[claim.claim_id] = (claim, taken)

    def _settle(self, results: Sequence[tuple[int, int, int, SubmitOutcome, float]]) -> None:
        for claim_id, number, attempt, outcome, at in results:
            text = self.texts.get(number)
            if text is None or attempt > text.attempt:
                continue
            if (text.claim, text.attempt, text.state) == (claim_id, attempt, State.SUBMITTING):
                self._end(text, outcome, at)
            else:
                self._settle_late(text, attempt, outcome)

    def _end(self, text: Text, outcome: SubmitOutcome, at: float) -> None:
        self.claims[text.claim][1].pop(text.number, None)
        if outcome is SubmitOutcome.QUEUED:
            self._requeue(text)
        elif outcome is SubmitOutcome.IN_DOUBT:
            self._doubt(text, at)
        else:
            text.state = State(outcome)

    def _settle_late(self, text: Text, attempt: int, outcome: SubmitOutcome) -> None:
        if outcome is SubmitOutcome.SUBMITTED:
            if text.state in {State.IN_DOUBT, State.QUEUED}:
                self.queued.pop(text.number, None)
                self.doubtful.pop(text.number, None)
                text.state = State.SUBMITTED
        elif (text.state, text.attempt) == (State.IN_DOUBT, attempt):
            self.doubtful.pop(text.number, None)
            if outcome is SubmitOutcome.FAILED:
                text.state = State.FAILED
            elif outcome is SubmitOutcome.QUEUED:
                self._requeue(text)
            else:
                self.doubtful[text.number] = text

    def _give_up(self, payload: tuple[tuple[int, ...], float]) -> None:
        claims, at = payload
        for text in self._close(claims):
            self._doubt(text, at)

    def _return(self, payload: tuple[str, tuple[int, ...]]) -> None:
        dispatcher, claims = payload
        own = [i for i in claims if i in self.claims and self.claims[i][0].dispatcher == dispatcher]
        for text in self._close(own):
            self._requeue(text)

    def _resend(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            text = self.doubtful.pop(number, None)
            if text is not None:
                text.resent = True
                self._requeue(text)

    def _close(self, claims: Sequence[int]) -> list[Text]:
        return [text for i in claims if i in self.claims for text in self.claims.pop(i)[1].values()]

    def _requeue(self, text: Text) -> None:
        text.state = State.QUEUED
        self.queued[text.number] = text

    def _doubt(self, text: Text, at: float) -> None:
        text.state, text.doubted, text.was_doubted = State.IN_DOUBT, at, True
        self.doubtful[text.number] = text


CHANGES: dict[str, Callable[[Queue, Any], None]] = {
    "message": Queue._accept,
    "claim": Queue._claim,
    "settle": Queue._settle,
    "give-up": Queue._give_up,
    "return": Queue._return,
    "resend": Queue._resend,
}
