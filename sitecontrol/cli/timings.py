"""How the proof that the durations fit is shown: a table for people, a list for `--json`."""

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from sitecontrol.cli.tables import Column, table_of
from sitecontrol.leadership.proof import Finding
from sitecontrol.leadership.timing import Sum

COLUMNS = (
    Column(title="relation", whole=True),
    Column(title="by these settings"),
    Column(title="slack", whole=True),
)


def timing_lines(findings: Sequence[Finding]) -> RenderableType:
    return table_of(COLUMNS, [_row(finding) for finding in findings])


def _row(finding: Finding) -> tuple[Text, Text, Text]:
    style = "" if finding.holds else "red" if finding.refused else "yellow"
    word = "" if finding.holds else "REFUSED " if finding.refused else "not kept "
    return (
        Text(finding.relation.name, style=style),
        Text(finding.told),
        Text(f"{word}{finding.slack:.2f} s", style=style),
    )


def timings(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "name": finding.relation.name,
            "sentence": finding.relation.sentence,
            "rests": finding.relation.weight.value,
            "takes": _parts(finding.takes),
            "fits": _parts(finding.fits),
            "slack_s": round(finding.slack, 4),
            "holds": finding.holds,
            "refused": finding.refused,
        }
        for finding in findings
    ]


def _parts(parts: Sum) -> dict[str, float]:
    return {name: round(seconds, 4) for name, seconds in parts}
