"""The proof, by the settings alone, that the durations fit together: every relation of `timing` with its numbers. Pure.

Each relation is linear in the setting that a refusal would have changed, so a value that would do is found from its
slack and its slope.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sitecontrol.leadership.timing import RELATIONS, Relation, Seconds, Sum, Weight
from sitecontrol.settings import SettingsError

TINY = 1e-9  # seconds: what sums of decimal fractions may be off by


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a relation comes to with certain settings."""

    relation: Relation
    takes: Sum
    fits: Sum
    setting: str  # the one that a refusal would have changed
    present: float  # its value
    good: float | None  # the value nearest to it that would do; None: it holds, or this alone does not help

    @property
    def slack(self) -> float:
        return _total(self.fits) - _total(self.takes)

    @property
    def holds(self) -> bool:
        return self.slack >= -TINY

    @property
    def refused(self) -> bool:
        return not self.holds and self.relation.weight is not Weight.PROMISE

    @property
    def told(self) -> str:
        """The inequality with its numbers."""
        sign = "<=" if self.holds else "is more than"
        return f"{_told(self.takes)} {sign} {_told(self.fits)}"


def prove(seconds: Seconds) -> tuple[Finding, ...]:
    """Every relation with its sum, in the order of the table."""
    return tuple(_finding(relation, seconds) for relation in RELATIONS)


def _finding(relation: Relation, seconds: Seconds) -> Finding:
    good = _cure(relation, seconds)
    setting, value = good or (relation.cures[0], None)
    return Finding(
        relation=relation,
        takes=relation.takes(seconds),
        fits=relation.fits(seconds),
        setting=setting,
        present=seconds[setting],
        good=value,
    )


def complaints(findings: Iterable[Finding]) -> list[str]:
    """A line for each relation that is refused."""
    return [complaint(finding) for finding in findings if finding.refused]


def complaint(finding: Finding) -> str:
    """The setting, the relation with its sum, and what would do instead."""
    relation = finding.relation
    if finding.good is None:
        cure = f"change {' and '.join(relation.cures)}"
    else:
        cure = f"use at {'least' if finding.good > finding.present else 'most'} {finding.good:g}"
    return (
        f"{finding.setting} = {finding.present:g}: {relation.name} does not hold. {relation.sentence}"
        f" But {finding.told}; {cure}"
    )


def check(seconds: Seconds) -> None:
    """Raises SettingsError with a line for each relation that is refused."""
    refused = complaints(prove(seconds))
    if refused:
        raise SettingsError("\n".join(refused))


def _slack(relation: Relation, seconds: Seconds) -> float:
    return _total(relation.fits(seconds)) - _total(relation.takes(seconds))


def _cure(relation: Relation, seconds: Seconds) -> tuple[str, float] | None:
    """The first of the relation's settings that alone can be changed so that it holds, and the value that would do."""
    if _slack(relation, seconds) < -TINY:
        for name in relation.cures:
            value = _good_value(relation, name, seconds)
            if value is not None:
                return name, value
    return None


def _good_value(relation: Relation, name: str, seconds: Seconds) -> float | None:
    """The value next to the present one with which the relation holds; None: there is none, or not by this alone."""
    present, slack = seconds[name], _slack(relation, seconds)
    slope = _slack(relation, {**seconds, name: present + 1}) - slack
    if abs(slope) < TINY:
        return None
    value = _round(present - slack / slope, up=slope > 0, whole=name == "failover.lease_ttl")
    return value if value > 0 and _slack(relation, {**seconds, name: value}) >= -TINY else None


def _round(value: float, *, up: bool, whole: bool) -> float:
    unit = 1 if whole else 100
    scaled = round(value * unit, 6)
    return (math.ceil(scaled) if up else math.floor(scaled)) / unit


def _total(parts: Sum) -> float:
    return math.fsum(seconds for _, seconds in parts)


def _told(parts: Sum) -> str:
    """`lease_ttl 2 - lease_margin 0.5 = 1.5 s`"""
    said = "".join(
        f"{' - ' if seconds < 0 else ' + '}{name} {abs(seconds):g}" for name, seconds in parts
    ).removeprefix(" + ")
    return f"{said} = {_total(parts):.4g} s" if len(parts) > 1 else f"{said or 'nothing: 0'} s"
