"""What must be reached, and what comes out of it."""

from dataclasses import dataclass

from bench.measure import Result


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One number that is asked for."""

    of: str  # the measurement's name
    what: str  # a field of Result
    bound: float
    at_least: bool = True
    must: bool = True  # else it is told, and fails nothing

    def holds(self, result: Result) -> bool:
        found = float(getattr(result, self.what))
        return found >= self.bound if self.at_least else found <= self.bound


SINGLES_HERE, SINGLES_FAR = "singles, 0 ms, 64 clients", "singles, 35 ms, 256 clients"
ANSWER_HERE, ANSWER_FAR = "answers at 1,000/s, 0 ms", "answers at 1,000/s, 35 ms"
BULK = "bulk, 0 ms"
CAMPAIGN = "campaign, 0 ms"

GOALS = (
    *(Goal(of=of, what=what, bound=1_000)
      for of in (SINGLES_HERE, SINGLES_FAR) for what in ("accepted_rate", "sent_rate")),
    Goal(of=BULK, what="accepted_rate", bound=8_000),
    Goal(of=BULK, what="sent_rate", bound=3_000),
    Goal(of=CAMPAIGN, what="accepted_rate", bound=15_000),
    Goal(of=CAMPAIGN, what="sent_rate", bound=4_000),
    *(Goal(of=of, what="lost", bound=0, at_least=False) for of in (SINGLES_HERE, SINGLES_FAR, BULK, CAMPAIGN)),
    Goal(of=ANSWER_HERE, what="p50_ms", bound=15, at_least=False, must=False),
    Goal(of=ANSWER_HERE, what="p99_ms", bound=80, at_least=False, must=False),
    Goal(of=ANSWER_FAR, what="p50_ms", bound=60, at_least=False, must=False),
    Goal(of=ANSWER_FAR, what="p99_ms", bound=150, at_least=False, must=False),
)  # fmt: skip


def verdicts(results: list[Result]) -> list[tuple[Goal, Result, bool]]:
    by_name = {result.name: result for result in results}
    return [(goal, by_name[goal.of], goal.holds(by_name[goal.of])) for goal in GOALS if goal.of in by_name]
