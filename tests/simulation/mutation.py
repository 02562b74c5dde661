"""A safety rule that is taken out: what is patched, and which invariants of it are seen to break."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.simulation.faults import ANY, Fault, Kind, schedule
from tests.simulation.returning import Failback
from tests.simulation.run import Outcome, run

SAFETY = frozenset(
    {
        "acked-survives",
        "only-in-step-leads",
        "one-writer",
        "no-stale-claim",
        "label-true",
        "sent-once",
    }
)


def whatever_fails(rng: random.Random) -> tuple[Fault, ...]:
    """All but what somebody writes into etcd: few of the rules are about that."""
    return schedule(rng, tuple(kind for kind in ANY if kind is not Kind.GARBAGE))


@dataclass(frozen=True, kw_only=True)
class Mutation:
    name: str
    rule: str  # where the rule stands in docs/failover.md, in words
    breaks: frozenset[str]
    patch: Callable[[], AbstractContextManager[Any]]
    scenario: Callable[[random.Random], tuple[Fault, ...]] = whatever_fails  # what is likely to need the rule
    failback: Failback | None = None  # the settings of it that need the rule; None: as each seed has it


def is_missed(mutation: Mutation, tries: int = 600, *, once: Callable[..., Outcome] = run) -> None:
    """Fails unless an invariant breaks without the rule, and holds with it in the very same schedule, by `once`."""
    if mutation.failback is not None:
        once = partial(once, failback=mutation.failback)
    with mutation.patch():
        outcomes = (once(seed, mutation.scenario(random.Random(seed))) for seed in range(tries))
        found = next((outcome for outcome in outcomes if outcome.violation is not None), None)
    assert found is not None, f"nothing broke without: {mutation.rule}"
    assert found.violation is not None
    assert found.violation.invariant in mutation.breaks
    again = once(found.seed, found.faults)
    assert again.violation is None, f"it breaks with the rule, too: {again.violation}"
