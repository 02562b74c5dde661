"""When to try a lost link again: exponential backoff with jitter, lest all links return to a carrier in step.

"Equal jitter" of https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/: half of the delay
is fixed and half is random. tenacity's waits want a retry state of their own and would be longer than this.
"""

from random import Random


def delay(failures: int, *, shortest: float, longest: float, random: Random) -> float:
    """Seconds to wait after the `failures`-th failure in a row (from 1)."""
    ceiling = min(longest, shortest * 2.0 ** min(failures - 1, 30))
    return ceiling / 2 + random.uniform(0, ceiling / 2)
