"""Every mistake in a settings file, in one line each: where it is, what is wrong, and what would do.

    columbus.toml:31: failover.lease_ttl = 1: must be a whole number, at least 2 and at most 60; \
for example: lease_ttl = 2
    columbus.toml:32: failover.renew_evry: there is no such setting; did you mean renew_every?
    columbus.toml:7: place[0].nodes[0].agent is missing; add: agent = "http://127.0.0.1:8008"

Where comes from `settings_lines`, the rule and the cure from `settings_forms`. This knows nothing of any single
setting: the model is an argument.
"""

import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sitecontrol.settings_forms import are_sections, example, is_section, kind_at, kind_of, toml, words
from sitecontrol.settings_lines import Path, lines_of, nearest

LONGEST_VALUE = 60  # characters of a wrong value that are shown


class Misfit(ValueError):
    """For validators: the setting at `path`, seen from the validated section, breaks `rule` (with its cure)."""

    def __init__(self, path: Path, rule: str) -> None:
        super().__init__(rule)
        self.path = path
        self.rule = rule


def explain(error: ValidationError, *, file: str, text: str, model: type[BaseModel]) -> list[str]:
    """One line for each mistake, in the order of the file. `text` is what `model` refused, and is valid TOML."""
    data, lines = tomllib.loads(text), lines_of(text)
    found: dict[Path, tuple[int, str]] = {}
    for details in error.errors(include_url=False):
        path = _path(details, data)
        if path in found or _follows_from_another(details):
            continue
        found[path] = (nearest(lines, path), _sentence(details, path, data, model))
    return [f"{file}:{line}: {sentence}" for line, sentence in sorted(found.values())]


def dotted(path: Path) -> str:
    """As people write it: place[0].nodes[1].name"""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _path(details: ErrorDetails, data: dict[str, Any]) -> Path:
    """Where the mistake is. pydantic adds the names of a union's branches, which are no places in the file."""
    path: Path = details["loc"]
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, Misfit):
        return (*path, *cause.path)
    if details["type"] == "missing":
        return path
    while path and not _exists(data, path):
        path = path[:-1]
    return path


def _exists(data: Any, path: Path) -> bool:
    try:
        _value(data, path)
    except (LookupError, TypeError):
        return False
    return True


def _value(data: Any, path: Path) -> Any:
    for step in path:
        data = data[step]
    return data


def _follows_from_another(details: ErrorDetails) -> bool:
    """A list counts only its elements without a mistake, and then complains of being too short; a default that depends
    on other settings is not made when one of them is wrong.
    """
    if details["type"] == "default_factory_not_called":
        return True
    return details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]


def _sentence(details: ErrorDetails, path: Path, data: dict[str, Any], model: type[BaseModel]) -> str:
    match details["type"]:
        case "missing":
            return f"{dotted(path)} is missing; {_addition(model, path)}"
        case "extra_forbidden":
            return f"{dotted(path)}: there is no such setting; {_alternative(model, path)}"
        case "value_error":
            return f"{_shown(path, data)}: {details['ctx']['error']}"
    kind = kind_at(model, path)
    if kind is None:
        return f"{_shown(path, data)}: {details['msg']}"
    if is_section(kind):
        return f"{dotted(path)} must be a section, headed [{_header(path)}]"
    if are_sections(kind):
        return f"{dotted(path)} must be one or more sections, each headed [[{_header(path)}]]"
    return f"{_shown(path, data)}: must be {words(kind)}{_example(path, example(kind))}"


def _shown(path: Path, data: dict[str, Any]) -> str:
    """The setting with the value that it was given, unless that is long."""
    if not path or not _exists(data, path):
        return dotted(path)
    value = toml(_value(data, path))
    if len(value) > LONGEST_VALUE:
        value = value[:LONGEST_VALUE] + "…"
    return f"{dotted(path)} = {value}"


def _example(path: Path, value: str | None) -> str:
    if value is None:
        return ""
    return f"; for example: {path[-1]} = {value}" if isinstance(path[-1], str) else f"; for example: {value}"


def _header(path: Path) -> str:
    return ".".join(step for step in path if isinstance(step, str))


def _addition(model: type[BaseModel], path: Path) -> str:
    kind = kind_at(model, path)
    if kind is not None and is_section(kind):
        return f"add a section [{_header(path)}]"
    if kind is not None and are_sections(kind):
        return f"add a section [[{_header(path)}]]"
    value = None if kind is None else example(kind)
    return f"add: {path[-1]} = {value or '…'}"


def _alternative(model: type[BaseModel], path: Path) -> str:
    """What may have been meant by a name that does not exist."""
    name = str(path[-1])
    section = kind_at(model, path[:-1])
    known = sorted(section.base.model_fields) if section is not None and is_section(section) else []
    elsewhere = [place for place in _places(model) if place[-1] == name]
    if elsewhere:
        return (
            f"it belongs to [{dotted(elsewhere[0][:-1])}]"
            if len(elsewhere[0]) > 1
            else "it stands at the top"
        )
    close = get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known here: {', '.join(known)}" if known else "this section has none; remove it"


def _places(model: type[BaseModel], above: Path = ()) -> Iterator[Path]:
    """The paths of all settings, but those inside lists and tables of names."""
    for name, field in model.model_fields.items():
        yield (*above, name)
        kind = kind_of(field.annotation)
        if is_section(kind):
            yield from _places(kind.base, (*above, name))
