"""Which site is asked next, when, and until when. Pure: the time and the dice are passed in.

A site that failed is asked again after a wait that doubles, with jitter, and never before its `Retry-After`; the
other one is asked meanwhile, at once if it has not failed itself.
"""

from dataclasses import dataclass, fields
from math import inf


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How long and how often a call is tried. Seconds. Raises ValueError for what cannot work."""

    total_s: float = (
        60.0  # a call; of a bulk, each request. A synchronous answer that drips in may pass it by answer_s
    )
    attempts: int = 30
    connect_s: float = 3.0
    answer_s: float = 15.0  # a site holds a request for up to 10 s while production moves
    first_wait_s: float = 0.25
    longest_wait_s: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) < inf:
                raise ValueError(f"{field.name} = {getattr(self, field.name)}: must be above 0, and finite")


class Rotation:
    """The turns of one call."""

    def __init__(self, policy: Policy, *, sites: int, first: int, now: float) -> None:
        self._policy = policy
        self._ends_at = now + policy.total_s
        self._left = policy.attempts
        self._order = [(first + n) % sites for n in range(sites)]
        self._ready_at = dict.fromkeys(self._order, now)
        self._failures = dict.fromkeys(self._order, 0)

    def next(self, now: float) -> tuple[int, float] | None:
        """The site, and how long to wait before; None when there is no turn left."""
        site = min(self._order, key=lambda site: max(now, self._ready_at[site]))
        wait_s = max(0.0, self._ready_at[site] - now)
        if self._left == 0 or now + wait_s >= self._ends_at:
            return None
        self._left -= 1
        return site, wait_s

    def left_s(self, now: float) -> float:
        return max(0.001, self._ends_at - now)

    def failed(self, site: int, *, now: float, dice: float, retry_after_s: float = 0.0) -> None:
        """`dice` from 0 to 1; `retry_after_s` may be infinite: not again in this call."""
        policy = self._policy
        most = min(policy.longest_wait_s, policy.first_wait_s * 2.0 ** min(self._failures[site], 30))
        self._failures[site] += 1
        self._ready_at[site] = now + max(retry_after_s, most * (1 + dice) / 2)
