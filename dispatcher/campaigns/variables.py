"""The values that stand in a template: what is taken for one of a type, and how it is written. Pure.

A list says `2026-01-31` and a text says `Jan 31`: the type knows both. Nothing here depends on a locale or a clock, so
a row makes the same text wherever and whenever it is read.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date
from enum import StrEnum
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import urlsplit

import phonenumbers

from dispatcher.http import numbers
from dispatcher.store import DispatcherError

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
MOST_LENGTH: Final = 500
USUAL_LENGTH: Final = {"text": 60, "url": 100}
MOST_DECIMALS: Final = 6
MOST_DIGITS: Final = 15
MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

_CONTROL: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_NUMBER: Final = re.compile(rf"(-?)0*([0-9]{{1,{MOST_DIGITS}}})(?:\.([0-9]{{1,{MOST_DECIMALS}}}))?", re.ASCII)
_AMOUNT: Final = re.compile(
    r"(-?)(?:[^\w\s.,-]|[A-Z]{3} )?([0-9]{1,12}|[0-9]{1,3}(?:,[0-9]{3}){1,3})(?:\.([0-9]{2}))?", re.ASCII
)
_TIME: Final = re.compile(r"([0-9]{1,2})(?::([0-9]{2}))?(?::[0-9]{2})?(?: ?([AaPp])\.?[Mm]\.?)?", re.ASCII)
_URL: Final = re.compile(r"https://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_US_PHONE: Final = re.compile(r"\+1([0-9]{3})([0-9]{3})([0-9]{4})", re.ASCII)


class Unfit(DispatcherError):
    """The value is not one of its variable's type. The message says what is."""


class Type(StrEnum):
    TEXT = "text"  # as it is given, without control characters
    NUMBER = "number"  # digits, with a point for the decimals
    AMOUNT = "amount"  # of money: two decimals, thousands apart, with the currency's sign
    DATE = "date"
    TIME = "time"  # of a day
    URL = "url"  # https only
    PHONE = "phone"  # E.164; written as people of its country dial it


class Currency(StrEnum):
    USD = "USD"
    CAD = "CAD"
    MXN = "MXN"
    EUR = "EUR"
    GBP = "GBP"


class Reading(StrEnum):
    """How a list writes its dates."""

    ISO = "YYYY-MM-DD"
    US = "MM/DD/YYYY"
    DOTS = "DD.MM.YYYY"


class Style(StrEnum):
    """How a text writes a date or a time."""

    SHORT = "short"  # Jan 31
    LONG = "long"  # January 31, 2026
    WEEKDAY = "weekday"  # Sat, Jan 31
    ISO = "iso"  # 2026-01-31
    HALF_DAY = "12h"  # 5:30 pm, 5 pm
    WHOLE_DAY = "24h"  # 17:30


SIGNS: Final = {
    Currency.USD: "$",
    Currency.CAD: "CA$",
    Currency.MXN: "MX$",
    Currency.EUR: "€",
    Currency.GBP: "£",
}
STYLES: Final[Mapping[Type, tuple[Style, ...]]] = {
    Type.DATE: (Style.SHORT, Style.LONG, Style.WEEKDAY, Style.ISO),
    Type.TIME: (Style.HALF_DAY, Style.WHOLE_DAY),
}
OPTIONS: Final[Mapping[Type, frozenset[str]]] = {
    Type.TEXT: frozenset({"max_length"}),
    Type.NUMBER: frozenset({"decimals"}),
    Type.AMOUNT: frozenset({"currency"}),
    Type.DATE: frozenset({"reading", "style"}),
    Type.TIME: frozenset({"style"}),
    Type.URL: frozenset({"max_length"}),
    Type.PHONE: frozenset(),
}
# What each type makes at most: characters, for those without a `max_length`.
LONGEST: Final[Mapping[Type, int]] = {
    Type.NUMBER: 1 + MOST_DIGITS + 1 + MOST_DECIMALS,
    Type.AMOUNT: len("-MX$999,999,999,999.99"),
    Type.DATE: len("September 30, 2026"),
    Type.TIME: len("12:30 pm"),
    Type.PHONE: 25,
}
OF_READING: Final[Mapping[Reading, tuple[re.Pattern[str], tuple[int, int, int]]]] = {
    Reading.ISO: (re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})", re.ASCII), (1, 2, 3)),
    Reading.US: (re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})", re.ASCII), (3, 1, 2)),
    Reading.DOTS: (re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})", re.ASCII), (3, 2, 1)),
}


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A declared variable. What is None takes the type's usual; a `default` stands in for an empty value."""

    name: str
    type: Type = Type.TEXT
    default: str | None = None
    max_length: int | None = None
    decimals: int | None = None
    currency: Currency | None = None
    reading: Reading | None = None
    style: Style | None = None

    @property
    def longest(self) -> int:
        """Characters that it takes at most in a text."""
        return LONGEST.get(self.type) or self.max_length or USUAL_LENGTH[self.type]

    def as_json(self) -> dict[str, Any]:
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in told.items() if value is not None}


def from_json(told: Mapping[str, Any]) -> Variable:
    """What `as_json` made."""
    kinds: Mapping[str, Callable[[Any], Any]] = {
        "type": Type,
        "currency": Currency,
        "reading": Reading,
        "style": Style,
    }
    read: dict[str, Any] = {name: kinds.get(name, _as_it_is)(value) for name, value in told.items()}
    return Variable(**read)


def _as_it_is(value: Any) -> Any:
    return value


def faults(variable: Variable) -> Iterator[tuple[str, str]]:
    """What is wrong with a declaration: the field, and a sentence."""
    if NAME.fullmatch(variable.name) is None:
        yield "name", "must be a small letter, then small letters, digits or _, at most 40 in all"
    for option in ("max_length", "decimals", "currency", "reading", "style"):
        if getattr(variable, option) is not None and option not in OPTIONS[variable.type]:
            yield option, f"is nothing that a variable of type {variable.type} has"
    if variable.max_length is not None and not 1 <= variable.max_length <= MOST_LENGTH:
        yield "max_length", f"must be from 1 to {MOST_LENGTH}"
    if variable.decimals is not None and not 0 <= variable.decimals <= MOST_DECIMALS:
        yield "decimals", f"must be from 0 to {MOST_DECIMALS}"
    styles = STYLES.get(variable.type)
    if styles is not None and variable.style is not None and variable.style not in styles:
        yield "style", f"must be one of {', '.join(styles)}"
    if variable.default:
        try:
            writer(variable)(variable.default)
        except Unfit as unfit:
            yield "default", str(unfit)


def writer(variable: Variable) -> Callable[[str], str]:
    """From a value as it is given to the same as a text has it. What it makes raises Unfit for what does not fit."""
    write: Callable[[str], str]
    match variable.type:
        case Type.NUMBER:
            write = partial(_number, decimals=variable.decimals)
        case Type.AMOUNT:
            write = partial(_amount, sign=SIGNS[variable.currency or Currency.USD])
        case Type.DATE:
            write = partial(
                _date, reading=variable.reading or Reading.ISO, style=variable.style or Style.SHORT
            )
        case Type.TIME:
            write = partial(_time, style=variable.style or Style.HALF_DAY)
        case Type.URL:
            write = partial(_url, most=variable.longest)
        case Type.PHONE:
            write = _phone
        case _:
            write = partial(_text, most=variable.longest)
    return partial(_or_default, write=write, default=variable.default)


def _or_default(value: str, *, write: Callable[[str], str], default: str | None) -> str:
    value = value.strip()
    if value:
        return write(value)
    if default is None:
        raise Unfit("must not be empty")
    return write(default) if default else ""


def _text(value: str, *, most: int) -> str:
    if len(value) > most:
        raise Unfit(f"has {len(value)} characters, and at most {most} are taken")
    if not value.isprintable() and (found := _CONTROL.search(value)) is not None:
        raise Unfit(f"holds U+{ord(found[0]):04X} at index {found.start()}, which no telephone shows")
    return value


def _number(value: str, *, decimals: int | None) -> str:
    found = _NUMBER.fullmatch(value)
    if found is None:
        raise Unfit(f"is not a number such as 1234.5, with at most {MOST_DIGITS} digits before the point")
    sign, whole, part = found[1], found[2], found[3] or ""
    if decimals is not None:
        if len(part.rstrip("0")) > decimals:
            raise Unfit(f"has more than {decimals} decimals")
        part = part[:decimals].ljust(decimals, "0")
    written = f"{whole}.{part}" if part else whole
    return sign + written if written.strip("0.") else written


def _amount(value: str, *, sign: str) -> str:
    found = _AMOUNT.fullmatch(value)
    if found is None:
        raise Unfit("is not an amount such as 1234.50 or 1,234.50, with two decimals or none")
    minus, whole, cents = found[1], int(found[2].replace(",", "")), found[3] or "00"
    return f"{minus}{sign}{whole:,}.{cents}"


@lru_cache(maxsize=5_000)  # a list has a few days in it, each a thousand times
def _date(value: str, *, reading: Reading, style: Style) -> str:
    pattern, order = OF_READING[reading]
    found = pattern.fullmatch(value)
    try:
        day = date(*(int(found[group]) for group in order)) if found is not None else None
    except ValueError:
        day = None
    if day is None:
        raise Unfit(f"is not a day written {reading}")
    month = MONTHS[day.month - 1]
    match style:
        case Style.LONG:
            return f"{month} {day.day}, {day.year}"
        case Style.WEEKDAY:
            return f"{DAYS[day.weekday()]}, {month[:3]} {day.day}"
        case Style.ISO:
            return day.isoformat()
        case _:
            return f"{month[:3]} {day.day}"


@lru_cache(maxsize=5_000)
def _time(value: str, *, style: Style) -> str:
    found = _TIME.fullmatch(value)
    if found is None or (found[2] is None and found[3] is None):
        raise Unfit("is not a time of day such as 17:30 or 5:30 pm")
    hour, minute, half = int(found[1]), int(found[2] or 0), (found[3] or "").lower()
    if half:
        if not 1 <= hour <= 12:
            raise Unfit("is not a time of day: with am or pm its hour is from 1 to 12")
        hour = hour % 12 + (12 if half == "p" else 0)
    if hour > 23 or minute > 59:
        raise Unfit("is not a time of day: the last one is 23:59")
    if style is Style.WHOLE_DAY:
        return f"{hour:02}:{minute:02}"
    minutes = f":{minute:02}" if minute else ""
    return f"{(hour - 1) % 12 + 1}{minutes} {'pm' if hour >= 12 else 'am'}"


def _url(value: str, *, most: int) -> str:
    if len(value) > most:
        raise Unfit(f"has {len(value)} characters, and at most {most} are taken")
    if _URL.fullmatch(value) is None:
        raise Unfit(
            "is not an address that begins with https://, in the characters that RFC 3986 has for one"
        )
    try:
        split = urlsplit(value)
        host, _ = split.hostname, split.port
    except ValueError:
        host = None
    if not host:
        raise Unfit("is not an address: its host or port cannot be")
    return value


def _phone(value: str) -> str:
    fault = numbers.fault(value, any_possible=True)
    if fault is not None:
        raise Unfit(fault)
    if (american := _US_PHONE.fullmatch(value)) is not None:
        return "-".join(american.groups())
    return phonenumbers.format_number(phonenumbers.parse(value), phonenumbers.PhoneNumberFormat.INTERNATIONAL)
