"""What can go wrong. Three things are kept apart: refused, not sent, and not known.

    HotsiteError
      ApiError             Hotsite said no, and says to which field: repeating it as it is does not help
        InvalidRequest       400, 413, 415, 422
        Unauthorized         401, 403
        NotFound             404
        ReferenceConflict    409: the reference stands for another text
        AlreadyLeft          409: too late to cancel
      Unreachable          no site took the request: nothing was sent
      OutcomeUnknown       it may or may not have been accepted: repeat it with the same reference
      BulkStopped          a bulk ended early: what came after was not sent

Each says what to do next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class FieldProblem:
    field: str  # empty for the request as a whole
    message: str
    value: str | None = None  # what was refused, shortened


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Hotsite's own words (RFC 9457, application/problem+json)."""

    type: str  # "/docs#invalid-request"
    title: str
    status: int
    detail: str
    instance: str | None = None  # names this very request; Hotsite's logs know it
    errors: tuple[FieldProblem, ...] = ()

    @property
    def slug(self) -> str:
        return self.type.rpartition("#")[2]


class HotsiteError(Exception):
    """The root of this package's errors."""


class ApiError(HotsiteError):
    """Hotsite refused the request: `problem` says why, `reference` of which message."""

    advice = ""

    def __init__(self, problem: Problem, reference: str | None = None) -> None:
        self.problem = problem
        self.reference = reference
        more = "; ".join(f"{error.field}: {error.message}" for error in problem.errors[1:])
        words = [f"{problem.title} ({problem.status}): {problem.detail}"]
        words += [word for word in (more, self.advice) if word]
        if problem.instance is not None:
            words.append(f"request {problem.instance}")
        super().__init__("; ".join(words))

    @property
    def status(self) -> int:
        return self.problem.status


class InvalidRequest(ApiError):
    """Fields are wrong or missing: `problem.errors` has each."""


class Unauthorized(ApiError):
    """The key is unknown, has expired, or was revoked."""


class NotFound(ApiError):
    """There is no such message of this account."""


class ReferenceConflict(ApiError):
    """The reference was used before, with other content. This text was not sent; the first one stays as it was."""

    advice = "find(reference) shows the first one; another text needs a reference of its own"


class AlreadyLeft(ApiError):
    """The message was handed to a carrier, or is final: it cannot be canceled any more."""


_CONFLICTS: Final[Mapping[str, type[ApiError]]] = {
    "reference-conflict": ReferenceConflict,
    "already-left": AlreadyLeft,
}
_BY_STATUS: Final[Mapping[int, type[ApiError]]] = {
    **dict.fromkeys((400, 413, 415, 422), InvalidRequest),
    **dict.fromkeys((401, 403), Unauthorized),
    404: NotFound,
}


def refusal(problem: Problem, reference: str | None = None) -> ApiError:
    kind = _CONFLICTS.get(problem.slug) or _BY_STATUS.get(problem.status, ApiError)
    return kind(problem, reference)


class Unreachable(HotsiteError):
    """No site took the request in time. Nothing was sent; it is safe to try again later."""

    def __init__(self, heard: str, reference: str | None = None) -> None:
        self.reference = reference
        super().__init__(f"no site took the request, nothing was sent: {heard}")


class OutcomeUnknown(HotsiteError):
    """The request left and no good answer came: it may or may not have been carried out.

    It is not a failure. To settle it, call again with the same `reference` (a message that was accepted is answered
    with `duplicate` and never sent twice), or look with `find(reference)`.
    """

    def __init__(self, heard: str, *, reference: str | None = None, message_id: UUID | None = None) -> None:
        self.reference = reference
        self.message_id = message_id
        if message_id is not None:
            what, cure = f"message {message_id} was canceled", "cancel again, or look with get(id)"
        else:
            what = f"the message was accepted (reference {reference!r})"
            cure = (
                "send it again with this reference, which never sends it twice, or look with find(reference)"
            )
        super().__init__(f"it is not known whether {what}: {heard}; to find out, {cure}")


class BulkStopped(HotsiteError):
    """No site answered any more: the messages after `line` were not sent. Its cause is the last error."""

    def __init__(self, line: int, heard: str) -> None:
        self.line = line
        super().__init__(f"stopped after message {line}, those after it were not sent: {heard}")
