"""The outcome of one drill: the JSON of docs/interfaces.md, and which invariants held."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One line of the timeline. `t`: seconds, 0 is when the fault struck."""

    t: float
    what: str
    where: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Durations in seconds. None: it did not happen."""

    drill: str
    seed: int
    site: str  # where the fault struck
    started_at: str  # UTC, ISO 8601
    fault_at: str
    healed_at: str | None  # None: there was nothing to mend
    quick: bool  # it was shorter than the fault matrix has it
    in_swap: bool  # it struck in the middle of a planned swap
    rate: float  # texts asked for per second, all clients together; 0: idle
    pause_s: float | None  # the longest gap between acknowledgements that any client saw; None: idle
    pause_limit_s: float
    pause_from_s: float  # where that gap began, from the fault on
    first_ack_after_fault_s: float | None  # of a text that was first sent after the fault
    first_submit_after_fault_s: float | None  # of such a text, as its carrier received it
    accepted: int  # messages acknowledged
    refused: int  # answers that were neither 2xx nor a broken connection
    connections_broken: int  # requests without an answer: refused, broken off, or too late
    connections_broken_unexpectedly: int  # of these, by dispatchers that the story did not kill
    unanswered: int  # texts for which nobody had a 2xx in time: nothing was promised
    acknowledged_lost: int
    not_final: int  # acknowledged, known, but not settled within the time of the accounting
    in_doubt: int  # messages that were listed as in doubt at any time
    duplicates_at_carrier: int
    duplicates_declared: int
    not_delivered: int  # acknowledged, and settled in another way than `delivered`
    by_state: dict[str, int]  # what the system says of those acknowledged; their sum is `accepted`
    at_carriers: int | None  # different texts in the carriers' own logs; None: they are not simulators
    two_site_again_s: float | None  # from the healing on; from the fault where nothing is healed
    fencing_ms: dict[
        str, float
    ]  # where the fault struck, of its first fencing: until each step, from its last proof on
    live_before: str | None
    live_after: str | None
    term_before: int
    term_after: int
    held: dict[str, bool]
    timeline: list[Moment]
    acks_per_tenth: list[tuple[float, int]] = field(
        default_factory=list
    )  # (t, how many in the 0.1 s from t on)
    notes: list[str] = field(default_factory=list)  # why an invariant did not hold, in words

    @property
    def ok(self) -> bool:
        return all(self.held.values())

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}
