"""When a group of messages leaves for the database, and what its answer means for each message. Pure.

One synchronous commit serves every message of a group, so that a second copy at the other site costs latency
and not throughput. A group leaves as soon as it may:

* at most `in_flight` groups are under way, and fewer where commits are quick: a group costs both sites much
  the same whether one row is in it or twenty, so more are under way only when the line is what they wait for;
* two groups leave at least `wait_s` apart, and one leaves no sooner than `wait_s` after another came back: those
  who were just answered are the ones who ask again. A message that comes after a pause waits for nobody;
* while others are under way departures are spread evenly over the time that a commit takes: over a line of
  35 ms groups sent in a bunch would come back in a bunch, and a message that has just missed them would wait
  for nearly a whole round trip;
* a full group leaves at once;
* lines of bulk requests alone wait until their group is full or nothing is under way: nobody waits for one
  of them, and fewer, fuller groups cost both sites less.

Two messages with one reference never travel in two groups at a time. The second *rides* with the first: their
contents and the first one's fate nearly always say what the database would say of the second.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from dispatcher.model import Accepted, NewMessage, Verdict

T = TypeVar("T")

SLOWEST_COMMIT_S: Final = 0.25  # a commit that took longer met trouble and says nothing about the next
SMOOTHING: Final = 0.2  # weight of the newest commit in the running mean
QUICK_COMMIT_S: Final = 0.012  # one group under way for each of these that the line itself takes
FORGETTING: Final = 0.02  # how fast the quickest commit gives way to slower ones


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How groups are sent off."""

    wait_s: float  # least time between two groups, and after one came back
    max_rows: int
    in_flight: int


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What is under way. Times are seconds of `Clock.now()`."""

    in_flight: int = 0
    last_left: float = float("-inf")
    last_back: float = float("-inf")
    commit_s: float = 0.0  # running mean of how long a commit takes
    quickest_s: float = (
        0.0  # the quickest of late: what the line takes, without the queue before a busy machine
    )


def departure(pace: Pace, traffic: Traffic, *, now: float, single: int, bulk: int) -> float | None:
    """When the next group leaves; None while there is nothing to send before more comes or a group is back."""
    most = min(pace.in_flight, 1 + int(traffic.quickest_s / QUICK_COMMIT_S))
    if single + bulk == 0 or traffic.in_flight >= pace.in_flight:
        return None
    if single + bulk >= pace.max_rows:
        return now
    if traffic.in_flight >= most or (single == 0 and traffic.in_flight):
        return None
    apart = max(pace.wait_s, traffic.commit_s / most) if traffic.in_flight else pace.wait_s
    return max(now, traffic.last_left + apart, traffic.last_back + pace.wait_s)


def left(traffic: Traffic, *, now: float) -> Traffic:
    return replace(traffic, in_flight=traffic.in_flight + 1, last_left=now)


def returned(traffic: Traffic, *, now: float, took_s: float | None) -> Traffic:
    """A group is back; `took_s` is how long its commit took, None if it failed."""
    commit_s, quickest_s = traffic.commit_s, traffic.quickest_s
    if took_s is not None:
        newest = min(took_s, SLOWEST_COMMIT_S)
        commit_s = newest if commit_s == 0 else commit_s + SMOOTHING * (newest - commit_s)
        quickest_s = (
            newest if quickest_s == 0 else min(newest, quickest_s + FORGETTING * (newest - quickest_s))
        )
    return replace(
        traffic, in_flight=traffic.in_flight - 1, last_back=now, commit_s=commit_s, quickest_s=quickest_s
    )


@dataclass(frozen=True)
class Queues(Generic[T]):
    """What waits to leave. Single requests go before the lines of bulk requests, which only fill the room."""

    single: deque[T]
    bulk: deque[T]

    def __len__(self) -> int:
        return len(self.single) + len(self.bulk)

    def both(self) -> tuple[deque[T], deque[T]]:
        return self.single, self.bulk

    def take(self, most: int) -> list[T]:
        """Remove and return the next group, oldest first."""
        group = [self.single.popleft() for _ in range(min(most, len(self.single)))]
        group += [self.bulk.popleft() for _ in range(min(most - len(group), len(self.bulk)))]
        return group


def lock_order(row: NewMessage) -> tuple[int, str]:
    """The order of rows in a group: two dispatchers with the same references never wait in a ring."""
    return row.account_id, row.reference or ""


def own(row: NewMessage, fate: Accepted) -> Accepted:
    """A row found under the very id that we gave it is no duplicate: an earlier attempt of ours got through."""
    found_again = fate.verdict is Verdict.DUPLICATE and fate.id == row.id
    return replace(fate, verdict=Verdict.NEW) if found_again else fate


def ride(first: NewMessage, fate: Accepted, second: NewMessage) -> Accepted | None:
    """What became of `second`, which has the reference of `first`. None: only the database can tell."""
    same = first.fingerprint == second.fingerprint
    if fate.verdict is Verdict.CONFLICT:
        # What is stored differs from `first`. It differs from an equal `second` too; from another, who knows.
        return fate if same else None
    return replace(fate, verdict=Verdict.DUPLICATE if same else Verdict.CONFLICT)
