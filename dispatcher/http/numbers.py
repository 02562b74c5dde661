"""Whether a telephone number is one, without paying for it each time.

`phonenumbers` (the port of Google's libphonenumber) decides; it takes some 40 µs a number, which would be the
dearest step of accepting a message. Two shortcuts give the same verdict: a North American number that matches
the library's own pattern for US lines is what the library would find valid, and other verdicts are remembered.
"""

import re
from functools import lru_cache
from typing import Final

import phonenumbers
from phonenumbers import PhoneMetadata

REMEMBERED: Final = 20_000
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
_GUESS_REGION: Final = "US"  # for a number without country code, when we suggest how to write it


def _us_lines() -> re.Pattern[str]:
    metadata = PhoneMetadata.metadata_for_region("US")
    if metadata is None or metadata.fixed_line is None or metadata.general_desc is None:
        raise RuntimeError("phonenumbers carries no metadata for the US")
    general, lines = (
        metadata.general_desc.national_number_pattern,
        metadata.fixed_line.national_number_pattern,
    )
    return re.compile(rf"\+1(?=(?:{general})\Z)(?:{lines})\Z", re.ASCII)


_US_LINE: Final = _us_lines()


def fault(number: str, *, any_possible: bool) -> str | None:
    """What is wrong with a number in a sentence, or None when it can be texted.

    It must be E.164 with its plus sign, and in a range that is in use; with `any_possible` (a lab, where
    numbers belong to nobody) the right length for its country is enough.
    """
    if _US_LINE.match(number) is not None:
        return None
    if _E164.fullmatch(number) is None:
        return "is not a telephone number in E.164 form, such as +16145550123" + _suggestion(number)
    return _looked_up(number, any_possible=any_possible)


@lru_cache(maxsize=REMEMBERED)
def _looked_up(number: str, *, any_possible: bool) -> str | None:
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return "begins with a country code that does not exist"
    if (meant := phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)) != number:
        return f"has a prefix that is dialled within its country only; did you mean {meant}?"
    if not phonenumbers.is_possible_number(parsed):
        return f"does not have as many digits as a number of country code {parsed.country_code} has"
    if not any_possible and not phonenumbers.is_valid_number(parsed):
        return "is in a range that is not in use"
    return None


def _suggestion(number: str) -> str:
    if len(number) > 40:
        return ""
    try:
        parsed = phonenumbers.parse(number, _GUESS_REGION)
    except phonenumbers.NumberParseException:
        return ""
    meant = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    if not phonenumbers.is_possible_number(parsed) or _E164.fullmatch(meant) is None:
        return ""
    return f"; did you mean {meant}?"
