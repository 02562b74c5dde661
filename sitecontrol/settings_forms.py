"""What a setting may be, in words, and a value that would do: read off the type that its model declares.

So a rule is written once, as a type, and both the check and its explanation come from it. A text with a shape of
its own carries a `Form` in its annotation.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sitecontrol.settings_lines import Path


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a text must look like, for people. To be placed beside its pattern in an Annotated type."""

    words: str
    example: str


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A type taken apart: what it is, what limits it, and its default (None: it has none to show)."""

    base: Any
    limits: tuple[Any, ...] = ()
    default: Any = None


def kind_of(annotation: Any, limits: tuple[Any, ...] = (), default: Any = None) -> Kind:
    """Without `Annotated` and without `| None`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_of(arguments[0], (*limits, *_spread(arguments[1:])), default)
    if origin in (Union, UnionType):
        real = [argument for argument in arguments if argument is not NoneType]
        if len(real) == 1:
            return kind_of(real[0], limits, default)
    return Kind(base=annotation, limits=limits, default=default)


def _spread(metadata: tuple[Any, ...]) -> Iterator[Any]:
    """Single limits, out of what can hold several."""
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from _spread(tuple(item.metadata))
        elif isinstance(item, StringConstraints):
            yield from item
        else:
            yield item


def kind_at(model: type[BaseModel], path: Path) -> Kind | None:
    """The kind of the setting at `path`, or None when the model has none there."""
    kind = Kind(base=model)
    for step in path:
        below = _below(kind, step)
        if below is None:
            return None
        kind = below
    return kind


def _below(kind: Kind, step: str | int) -> Kind | None:
    if is_section(kind):
        field = kind.base.model_fields.get(step)
        if field is None:
            return None
        return kind_of(field.annotation, tuple(_spread(tuple(field.metadata))), _default(field))
    origin, arguments = get_origin(kind.base), get_args(kind.base)
    if origin is tuple and isinstance(step, int):
        return kind_of(arguments[0])
    if origin is dict and isinstance(step, str):
        return kind_of(arguments[1])
    return None


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True, validated_data={})
    return None if default is PydanticUndefined else default


def is_section(kind: Kind) -> bool:
    return isinstance(kind.base, type) and issubclass(kind.base, BaseModel)


def are_sections(kind: Kind) -> bool:
    """Whether it is a list of sections, written `[[name]]`."""
    return get_origin(kind.base) is tuple and is_section(kind_of(get_args(kind.base)[0]))


def words(kind: Kind) -> str:
    """What it must be, to follow "must be"."""
    form = _form(kind)
    if form is not None:
        return form.words
    choices = _choices(kind)
    if choices:
        return _either([toml(choice) for choice in choices])
    origin, arguments = get_origin(kind.base), get_args(kind.base)
    if origin in (Union, UnionType):
        return _either([words(kind_of(argument)) for argument in arguments])
    if origin is tuple:
        return f"a list, each {words(kind_of(arguments[0]))}" + _limited(kind)
    if origin is dict:
        return f"a table of names, each {words(kind_of(arguments[1]))}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}
    if kind.base in names:
        return names[kind.base] + _limited(kind)
    return "a path in quotes" if issubclass(kind.base, PurePath) else "a section of its own"


def example(kind: Kind) -> str | None:
    """A value that would do, as TOML; None for what is no single value."""
    if is_section(kind) or are_sections(kind):
        return None
    form = _form(kind)
    if form is not None:
        return toml(form.example)
    choices = _choices(kind)
    if kind.default not in (None, (), {}) or kind.default is False:
        return toml(kind.default)
    if choices:
        return toml(choices[0])
    origin, arguments = get_origin(kind.base), get_args(kind.base)
    if origin in (Union, UnionType):
        return example(kind_of(arguments[0]))
    if origin is tuple:
        inner = example(kind_of(arguments[0]))
        return None if inner is None else f"[{inner}]"
    if kind.base in (int, float):
        return toml(_lowest(kind))
    simple = {bool: True, str: "text"}
    if kind.base in simple:
        return toml(simple[kind.base])
    if isinstance(kind.base, type) and issubclass(kind.base, PurePath):
        return toml("/etc/hotsite/file")
    return None


def toml(value: Any) -> str:
    """A plain value as TOML writes it, which is as JSON does, but for what JSON cannot write."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _form(kind: Kind) -> Form | None:
    return next((limit for limit in kind.limits if isinstance(limit, Form)), None)


def _choices(kind: Kind) -> list[Any]:
    if isinstance(kind.base, type) and issubclass(kind.base, Enum):
        return [member.value for member in kind.base]
    return list(get_args(kind.base)) if get_origin(kind.base) is Literal else []


def _lowest(kind: Kind) -> int | float:
    for limit in kind.limits:
        match limit:
            case annotated_types.Ge(ge=bound):
                return bound  # type: ignore[return-value]  # limits of numbers are numbers
            case annotated_types.Gt(gt=bound):
                return bound + 1  # type: ignore[operator]  # same
    return 1


def _limited(kind: Kind) -> str:
    """The limits in words, to follow the noun."""
    unit = "" if kind.base in (int, float) else " characters" if kind.base is str else " of them"
    said = []
    for limit in kind.limits:
        match limit:
            case annotated_types.Ge(ge=bound):
                said.append(f"at least {bound}")
            case annotated_types.Gt(gt=bound):
                said.append(f"more than {bound}")
            case annotated_types.Le(le=bound):
                said.append(f"at most {bound}")
            case annotated_types.Lt(lt=bound):
                said.append(f"less than {bound}")
            case annotated_types.MinLen(min_length=bound):
                said.append(f"at least {bound}{unit}")
            case annotated_types.MaxLen(max_length=bound):
                said.append(f"at most {bound}{unit}")
    return ", " + " and ".join(said) if said else ""


def _either(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])}, or {items[-1]}"
