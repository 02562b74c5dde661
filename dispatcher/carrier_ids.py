"""How two writings of one carrier's message id are recognised as the same id.

A carrier names a text in its answer to submit_sm and again in the receipt, and often not in the same way: other
case, leading zeros, and, by old custom, hexadecimal in the answer and decimal in the receipt (or the
reverse). `10` in a receipt may then mean `10` or `a`. So an id has one canonical form, by which it is stored,
and up to two other readings, which are tried only when no canonical form fits, and believed only when
exactly one text fits. Being the same is symmetric: `b.canonical in readings(a)` whenever `a.canonical in
readings(b)`, so it does not matter which of the two came first.
"""

import re
from dataclasses import dataclass

_HEXADECIMAL = re.compile(r"(?:0x)?0*([0-9a-f]+)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class CarrierId:
    """An id as written, and what it may be compared by. `canonical` is empty when there is no id."""

    written: str
    canonical: str  # without case, surrounding space, `0x` and leading zeros
    as_hex: str | None  # the canonical form of the same number in hexadecimal, when it reads as decimal
    as_decimal: str | None  # the same in decimal, when it reads as hexadecimal

    @property
    def readings(self) -> frozenset[str]:
        return frozenset({self.canonical, self.as_hex, self.as_decimal} - {None, ""})  # type: ignore[arg-type] # None is taken out


def carrier_id(written: str) -> CarrierId:
    text = written.strip().lower()
    match = _HEXADECIMAL.fullmatch(text)
    if match is None:
        return CarrierId(written=written, canonical=text, as_hex=None, as_decimal=None)
    canonical = match.group(1)
    return CarrierId(
        written=written,
        canonical=canonical,
        as_hex=f"{int(canonical):x}" if canonical.isdecimal() else None,
        as_decimal=str(int(canonical, 16)),
    )
