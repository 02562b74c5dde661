"""The rules of sending, each taken out by itself: what keeps a text from leaving twice."""

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from dispatcher import gate
from dispatcher.engine import doubt, outcome, sender
from dispatcher.model import Claim, SubmitResult
from dispatcher.smpp.link import Answer
from tests.simulation import queue
from tests.simulation.mutation import Mutation
from tests.simulation.queue import Queue
from tests.simulation.scenarios import carrier_silent, dispatcher_lost, dispatcher_stopped, moves_and_losses
from tests.simulation.sending import SimulatedDispatcher

TWICE = frozenset({"sent-once", "no-stale-claim"})


def _no_deadline() -> AbstractContextManager[Any]:
    return patch.object(sender, "MARGIN", -100.0)


def _given_up_early() -> AbstractContextManager[Any]:
    return patch.object(doubt, "MARGIN_S", -4.0)


def _issued_forgotten() -> AbstractContextManager[Any]:
    real = doubt.judge
    return patch.object(doubt, "judge", lambda claims, **more: real(claims, **{**more, "issued": ()}))


def _no_row(rule: str) -> AbstractContextManager[Any]:
    return patch.object(gate, "TABLE", tuple(row for row in gate.TABLE if row.rule != rule))


def _writes_with_the_gate_shut() -> AbstractContextManager[Any]:
    def withdraw(self: sender.Sender) -> None:
        for item in self._backlog.withdraw(self._clock.now()):
            self._results.put(outcome.never_written(item.claim))

    return patch.object(sender.Sender, "_withdraw", withdraw)


def _no_answer_is_no() -> AbstractContextManager[Any]:
    real = outcome.of_answer

    def of_answer(claim: Claim, carrier: str, answer: Answer) -> SubmitResult:
        return outcome.never_written(claim) if answer.doubt else real(claim, carrier, answer)

    return patch.object(outcome, "of_answer", of_answer)


def _given_up_is_queued() -> AbstractContextManager[Any]:
    def give_up(self: Queue, payload: Any) -> None:
        for text in self._close(payload[0]):
            self._requeue(text)

    return patch.dict(queue.CHANGES, {"give-up": give_up})


def _resent_again() -> AbstractContextManager[Any]:
    real = Queue.due

    def due(self: Queue, before: float) -> tuple[int, ...]:
        for text in self.doubtful.values():
            text.resent = False
        return real(self, before)

    return patch.object(Queue, "due", due)


def _one_name_for_all_lives() -> AbstractContextManager[Any]:
    return patch.object(SimulatedDispatcher, "_name", lambda self, _life: f"{self.place}-1")


SENDING = (
    Mutation(
        name="claims have no deadline",
        rule="nothing is written past its claim's deadline",
        breaks=TWICE,
        patch=_no_deadline,
        scenario=dispatcher_stopped,
    ),
    Mutation(
        name="claims are given up before their end",
        rule="a claim is given up when it was seen open for its whole length and a margin",
        breaks=TWICE,
        patch=_given_up_early,
        scenario=dispatcher_stopped,
    ),
    Mutation(
        name="a claim that arrived is returned as one that was lost",
        rule="only a claim that never reached its dispatcher goes back to the queue",
        breaks=TWICE,
        patch=_issued_forgotten,
    ),
    Mutation(
        name="claims of a predecessor are one's own",
        rule="the identity in a claim is unique to one life of a process",
        breaks=TWICE,
        patch=_one_name_for_all_lives,
        scenario=dispatcher_lost,
    ),
    Mutation(
        name="both sites send",
        rule="only the live site sends",
        breaks=frozenset({"one-site-sends"}),
        patch=lambda: _no_row("open-elsewhere"),
    ),
    Mutation(
        name="texts leave while the gate is shut",
        rule="nothing is written while the gate does not let this site send",
        breaks=frozenset({"one-site-sends"}),
        patch=_writes_with_the_gate_shut,
        scenario=moves_and_losses,
    ),
    Mutation(
        name="no answer is a no",
        rule="no answer is doubt, never failure",
        breaks=TWICE,
        patch=_no_answer_is_no,
    ),
    Mutation(
        name="what was given up is queued",
        rule="what is still unsettled of a claim that is given up is in doubt",
        breaks=TWICE,
        patch=_given_up_is_queued,
        scenario=dispatcher_lost,
    ),
    Mutation(
        name="a text in doubt is sent again and again",
        rule="a text in doubt is sent once more, and only where its program says so",
        breaks=TWICE,
        patch=_resent_again,
        scenario=carrier_silent,
    ),
)
