"""What an answer means. Pure.

Only Hotsite's own words count as a refusal: what a proxy or a wrong address says is no answer. And of what may have
been carried out, nothing is ever said to have failed.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Final, Generic, TypeVar

from hotsite_client import decoding
from hotsite_client.errors import ApiError, Problem, refusal

T = TypeVar("T")

# Worth another try, by status or by the problem's kind (a body that broke off on its way).
_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
_AGAIN_SLUGS: Final = frozenset({"bad-request"})
# Turned away before the request was read: nothing can have been carried out.
_UNREAD: Final = frozenset({"too-many-requests", "too-many-streams", "too-many-connections"})


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a site said, as far as it came. Header names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    broken: str | None = None  # why the rest did not come


@dataclass(frozen=True, kw_only=True)
class Good(Generic[T]):
    value: T


@dataclass(frozen=True, kw_only=True)
class Refused:
    error: ApiError


@dataclass(frozen=True, kw_only=True)
class Again:
    """No answer that settles anything."""

    why: str
    unsent: bool = False  # the request was provably not carried out
    retry_after_s: float = 0.0  # infinite: the same would come again


def hear(
    answer: Answer | Again, decode: Callable[[Any], T], reference: str | None
) -> Good[T] | Refused | Again:
    """What the answer to a request for one JSON document means."""
    if isinstance(answer, Again):
        return answer
    if answer.broken is not None:
        return Again(why=f"the answer broke off: {answer.broken}")
    if 200 <= answer.status < 300:
        try:
            return Good(value=decode(json.loads(answer.body)))
        except (ValueError, KeyError, TypeError, AttributeError):
            return foreign(answer)
    return told(answer, reference)


def told(answer: Answer, reference: str | None) -> Refused | Again:
    """What an answer other than 2xx means."""
    problem = problem_in(answer)
    if problem is None:
        return foreign(answer)
    if not worth_another_try(problem):
        return Refused(error=refusal(problem, reference))
    return Again(
        why=f"{problem.title} ({problem.status}): {problem.detail}",
        unsent=problem.slug in _UNREAD,
        retry_after_s=retry_after_s(answer.headers),
    )


def worth_another_try(problem: Problem) -> bool:
    return problem.status in _AGAIN or problem.slug in _AGAIN_SLUGS


def unread(problem: Problem) -> bool:
    return problem.slug in _UNREAD


def problem_in(answer: Answer) -> Problem | None:
    if not answer.headers.get("content-type", "").startswith("application/problem+json"):
        return None
    try:
        return decoding.problem(json.loads(answer.body))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def foreign(answer: Answer) -> Again:
    """What stands there is not Hotsite, or stands before it."""
    kind = answer.headers.get("content-type", "no content type")[:60]
    return Again(
        why=f"it answered {answer.status} ({kind}) and not as Hotsite does: is the address right?",
        retry_after_s=retry_after_s(answer.headers) if answer.status in _AGAIN else inf,
    )


def retry_after_s(headers: Mapping[str, str]) -> float:
    """A number of seconds; a date, which Hotsite does not write, counts as none."""
    try:
        seconds = float(headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
    return max(0.0, seconds) if isfinite(seconds) else 0.0
