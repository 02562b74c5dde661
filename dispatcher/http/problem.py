"""What is told to a caller whose request cannot be served: RFC 9457, `application/problem+json`.

`KINDS` is the whole list; `/docs` shows it and each problem's `type` points there. A problem names every field
that is wrong, in `errors`, not only the first.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from dispatcher.store import DispatcherError

CONTENT_TYPE: Final = "application/problem+json"
SHOWN_CHARACTERS: Final = 60  # of a refused value


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One sort of problem. `advice` is for the page: what a caller does about it."""

    slug: str
    status: int
    title: str
    advice: str


NOT_HTTP = Kind(
    slug="bad-request",
    status=400,
    title="This is not a request that can be read",
    advice="The detail says what is wrong with the request line, the headers, or the chunks of the body.",
)
MALFORMED = Kind(
    slug="malformed-json",
    status=400,
    title="The body is not JSON",
    advice="The detail says at which line and column reading failed.",
)
INVALID = Kind(
    slug="invalid-request",
    status=422,
    title="The request has wrong or missing fields",
    advice="`errors` lists each field with what is wrong and what would do.",
)
UNAUTHORIZED = Kind(
    slug="unauthorized",
    status=401,
    title="A valid API key is needed",
    advice="Send `Authorization: Bearer KEY`. Keys can be unknown, expired or revoked.",
)
NOT_FOUND = Kind(
    slug="not-found",
    status=404,
    title="There is no such thing here",
    advice="A message of another account does not exist for you either.",
)
METHOD = Kind(
    slug="method-not-allowed",
    status=405,
    title="This address does not serve that method",
    advice="The `Allow` header lists the methods that it serves.",
)
TIMEOUT = Kind(
    slug="request-timeout",
    status=408,
    title="The request did not arrive in time",
    advice="Send the body without pauses, and repeat the request.",
)
CONFLICT = Kind(
    slug="reference-conflict",
    status=409,
    title="The reference was used for another message",
    advice="A reference stands for one content for ever. Use a new one for a new message.",
)
LEFT = Kind(
    slug="already-left",
    status=409,
    title="The message has left and cannot be canceled",
    advice="Look at its state: what was handed to a carrier cannot be called back.",
)
NOT_NOW = Kind(
    slug="not-in-this-state",
    status=409,
    title="The campaign is in a state in which this cannot be done",
    advice="The detail says why, and what can be done instead.",
)
WEBHOOK_NOT_NOW = Kind(
    slug="webhook-not-now",
    status=409,
    title="This cannot be done with webhooks as they are",
    advice="The detail says why: the account has as many as it may have, or this one is switched off.",
)
TOO_OLD = Kind(
    slug="cursor-too-old",
    status=410,
    title="What follows this cursor is not kept any more",
    advice="Events are kept for ten days. Ask without a cursor to go on from now, and look at your messages for what "
    "lies between.",
)
TOO_LARGE = Kind(
    slug="too-large",
    status=413,
    title="The body is too large",
    advice="One message is small. Send many with POST /v1/messages/bulk, which has no limit.",
)
MEDIA_TYPE = Kind(
    slug="unsupported-media-type",
    status=415,
    title="The body is of a type or an encoding that is not taken here",
    advice="Send JSON, or for bulk one JSON object a line, in UTF-8 and not compressed.",
)
TOO_MANY = Kind(
    slug="too-many-requests",
    status=429,
    title="Too many failed attempts",
    advice="Wait as long as `Retry-After` says. Requests with a good key are served meanwhile.",
)
TOO_MANY_STREAMS = Kind(
    slug="too-many-streams",
    status=429,
    title="Too many bulk requests of this account are being served",
    advice="Nothing was read. Send more lines in each request instead, or come again after `Retry-After`.",
)
INTERNAL = Kind(
    slug="internal-error",
    status=500,
    title="A defect in this service",
    advice="Nothing was acknowledged. Repeat with the same reference; tell us the request id.",
)
UNAVAILABLE = Kind(
    slug="unavailable",
    status=503,
    title="The request could not be served in time",
    advice="It may or may not have been stored. Repeat it with the same reference after `Retry-After`.",
)
TOO_MANY_CONNECTIONS = Kind(
    slug="too-many-connections",
    status=503,
    title="Too many connections are open",
    advice="Nothing was read. Keep connections open and use them again, or send many texts in one bulk request.",
)
ONE_SITE = Kind(
    slug="one-site-only",
    status=503,
    title="The message is stored at one site only",
    advice="This system promises two sites or nothing. Repeat with the same reference after `Retry-After`.",
)

KINDS: Final = (
    NOT_HTTP,
    MALFORMED,
    INVALID,
    UNAUTHORIZED,
    NOT_FOUND,
    METHOD,
    TIMEOUT,
    CONFLICT,
    LEFT,
    NOT_NOW,
    WEBHOOK_NOT_NOW,
    TOO_OLD,
    TOO_LARGE,
    MEDIA_TYPE,
    TOO_MANY,
    TOO_MANY_STREAMS,
    INTERNAL,
    UNAVAILABLE,
    ONE_SITE,
    TOO_MANY_CONNECTIONS,
)


@dataclass(frozen=True, kw_only=True)
class FieldError:
    field: str  # "to", or "vars.name"; empty for the request as a whole
    message: str
    value: str | None = None  # shortened

    def as_json(self) -> dict[str, str]:
        shown = {} if self.value is None else {"value": self.value}
        return {"field": self.field, "message": self.message, **shown}


@dataclass(kw_only=True, eq=False)
class Problem(DispatcherError):  # the standard's word for it
    """The answer to a request that cannot be served; raised anywhere below a handler."""

    kind: Kind
    detail: str
    errors: Sequence[FieldError] = ()
    retry_after_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False  # the rest of the request is not worth reading

    def as_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "type": f"/docs#{self.kind.slug}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [error.as_json() for error in self.errors]
        return document


def invalid(*errors: FieldError, more: int = 0) -> Problem:
    """The request's fields are wrong: these, and `more` that are not worth listing."""
    first = errors[0]
    rest = f" (and {len(errors) - 1 + more} more, see `errors`)" if len(errors) > 1 else ""
    return Problem(
        kind=INVALID, detail=f"{first.field or 'the request'}: {first.message}{rest}", errors=errors
    )


def shorten(value: object) -> str:
    """A refused value as it is shown back to its sender: a text as it is, anything else as JSON writes it."""
    text = value if isinstance(value, str) else _as_json(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… ({len(text)} characters)"


def _as_json(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):  # it did not come from JSON
        return repr(value)
