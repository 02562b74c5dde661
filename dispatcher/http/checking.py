"""From what a caller sent to a checked request, or to a problem that names every wrong field. Pure."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from itertools import islice
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dispatcher.http.problem import MALFORMED, FieldError, Problem, invalid, shorten

M = TypeVar("M", bound=BaseModel)

TOLD: Final = 50  # wrong fields: a body has room for thousands of unknown ones, and each is told at length

# Fields that callers of similar services expect, and what to do instead.
NOT_HERE: Final[Mapping[str, str]] = {
    "vars": "come with the name of a `template`, in the place of `body`",
    "from": "is not chosen here: a text goes out under its program's short code",
    "sender": "is not chosen here: a text goes out under its program's short code",
}
# What they call the fields that are here.
ALSO_CALLED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("text", "message", "content", "short_message"), "body"),
    **dict.fromkeys(("recipient", "destination", "phone", "phone_number", "number", "msisdn"), "to"),
    **dict.fromkeys(("idempotency_key", "external_id", "client_ref", "id"), "reference"),
    **dict.fromkeys(("schedule_at", "scheduled_at", "schedule_time"), "send_at"),
    **dict.fromkeys(("ttl", "validity", "validity_period", "valid_until"), "expires_at"),
    "priority": "class",
    "campaign": "program",
}

# pydantic's error types in our words; {…} are filled from the error's context.
WORDS: Final[Mapping[str, str]] = {
    "missing": "is required",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "list_type": "must be a list",
    "uuid_type": "must be an id such as 01920f3e-7c1a-7e5b-9d3a-0123456789ab",
    "uuid_parsing": "must be an id such as 01920f3e-7c1a-7e5b-9d3a-0123456789ab",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number, and not one of thousands of digits",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "datetime_type": "must be a time such as 2026-01-31T17:00:00Z",
    "datetime_parsing": "must be a time such as 2026-01-31T17:00:00Z",
    "datetime_from_date_parsing": "must be a time such as 2026-01-31T17:00:00Z",
    "datetime_object_invalid": "must be a time such as 2026-01-31T17:00:00Z",
    "timezone_aware": "must carry a time zone: 2026-01-31T17:00:00Z, or 2026-01-31T12:00:00-05:00",
}


def read_json(model: type[M], raw: bytes) -> M:
    """The request in `raw`. Raises Problem."""
    try:
        request = model.model_validate_json(raw)
    except ValidationError as error:
        raise _problem(model, error.errors(include_url=False)) from None
    if twice := _given_twice(model, raw):
        # Which of them counts would be our guess: JSON does not say.
        raise invalid(*(FieldError(field=name, message="is given twice") for name in twice))
    return request


def read_query(model: type[M], pairs: Iterable[tuple[str, str]]) -> M:
    """The request in a query string. Raises Problem."""
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise invalid(FieldError(field=name, message="is given twice", value=shorten(value)))
        values[name] = value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _problem(model, error.errors(include_url=False)) from None


def _given_twice(model: type[BaseModel], raw: bytes) -> list[str]:
    """The fields that stand more than once in one object of `raw`, which holds a sound request."""
    found = _keys(model).findall(raw)
    flat = raw.count(b"{") == 1
    if (
        flat
        and len(found) == len(set(found))
        and (b"\\u00" not in raw or _ESCAPED_LETTER.search(raw) is None)
    ):
        return []  # nearly always, and in a microsecond
    twice: dict[str, None] = {}

    def look(pairs: list[tuple[str, Any]]) -> None:
        twice.update((name, None) for name, count in Counter(name for name, _ in pairs).items() if count > 1)

    json.loads(raw, object_pairs_hook=look)
    return list(twice)


@cache
def _keys(model: type[BaseModel]) -> re.Pattern[bytes]:
    """Finds the keys of a request in its JSON. Inside a text there is no such thing: its quotes are escaped."""
    return re.compile(rb'"(' + "|".join(field_names(model)).encode() + rb')"[ \t\r\n]*:')


_ESCAPED_LETTER: Final = re.compile(rb"\\u00(?:5[fF]|[67][0-9a-fA-F])")  # of a key that is written in escapes


def field_names(model: type[BaseModel]) -> list[str]:
    """The names that callers use."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _problem(model: type[BaseModel], details: list[ErrorDetails]) -> Problem:
    first = details[0]
    if first["type"] == "json_invalid":
        why = str(first.get("ctx", {}).get("error", "it cannot be read"))
        if first["input"] in {"", b""}:
            why = f"the body is empty; a JSON object is expected ({why})"
        return Problem(kind=MALFORMED, detail=why, errors=(FieldError(field="", message=why),))
    return invalid(
        *(_field_error(model, detail) for detail in islice(details, TOLD)), more=max(0, len(details) - TOLD)
    )


def _field_error(model: type[BaseModel], detail: ErrorDetails) -> FieldError:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "missing":
        return FieldError(field=name, message=_missing(model, name))
    if detail["type"] == "extra_forbidden":
        return FieldError(field=shorten(name), message=_unknown(model, name), value=shorten(detail["input"]))
    return FieldError(field=name, message=_words(detail), value=shorten(detail["input"]))


def _unknown(model: type[BaseModel], name: str) -> str:
    known, said = field_names(model), name[:100].lower()
    if said in NOT_HERE and "to" in known:
        return NOT_HERE[said]
    meant = ALSO_CALLED.get(said)
    close = [meant] if meant in known else get_close_matches(said, known, n=1)
    return (
        f"is not a field of this request; did you mean `{close[0]}`?"
        if close
        else (f"is not a field of this request; it has {', '.join(known)}")
    )


def _missing(model: type[BaseModel], name: str) -> str:
    """With what belongs there, in the words of the description."""
    told = {field.alias or key: field.description for key, field in model.model_fields.items()}.get(name)
    return f"{WORDS['missing']}: {told[0].lower()}{told[1:].rstrip('.')}" if told else WORDS["missing"]


def _words(detail: ErrorDetails) -> str:
    context: dict[str, Any] = detail.get("ctx", {})
    words = WORDS.get(detail["type"])
    return words.format(**context) if words is not None else detail["msg"]
