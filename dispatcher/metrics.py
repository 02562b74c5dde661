"""Counters of one dispatcher, in Prometheus' names and units.

What happens per batch is observed here as it happens; per-message paths only add to plain integers, which are
read when somebody scrapes (`dispatcher.http.health`).
"""

from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Histogram

from dispatcher.model import SubmitOutcome, SubmitResult

PREFIX = "hotsite_dispatcher_"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.commit_seconds = Histogram(
            PREFIX + "commit_seconds",
            "Time of one transaction at the leader, its synchronous commit included",
            ["lane"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._group_size = Histogram(
            PREFIX + "group_size",
            "Rows that were committed together",
            ["kind"],
            buckets=SIZES,
            registry=self.registry,
        )
        self.accepted = 0  # new messages acknowledged
        self.by_outcome: Tally[SubmitOutcome] = Tally()  # results known to be stored
        self.receipts = 0  # stored, repeats included
        self.replies = 0
        self.reply_parts = 0
        self.given_up = 0  # segments that became in doubt because nobody settled their claim
        self.dropped_results = 0  # that the database would never take
        self.unknown_commits = 0  # each was run again

    def group(self, kind: str, rows: int) -> None:
        self._group_size.labels(kind).observe(rows)

    def totals(self) -> dict[str, int]:
        """Ever-growing numbers of this process, by name."""
        return {
            "accepted": self.accepted,
            "submitted": self.by_outcome[SubmitOutcome.SUBMITTED],
            "failed": self.by_outcome[SubmitOutcome.FAILED],
            "in_doubt": self.by_outcome[SubmitOutcome.IN_DOUBT] + self.given_up,
            "returned": self.by_outcome[SubmitOutcome.QUEUED],
            "receipts": self.receipts,
            "replies": self.replies,
            "reply_parts": self.reply_parts,
            "unknown_commits": self.unknown_commits,
            "dropped_results": self.dropped_results,
        }

    def outcomes(self, results: Sequence[SubmitResult]) -> None:
        self.by_outcome.update(result.outcome for result in results)
