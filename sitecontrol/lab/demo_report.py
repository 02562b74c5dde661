"""What the demo found, as a table of facts, each with its check."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from sitecontrol.drills.measure import Duplicates

PAUSE_LIMIT = 5.0  # seconds, as in the drills of a lost site


@dataclass(frozen=True, kw_only=True)
class Findings:
    customers: int
    accepted: int
    refused: int
    unanswered: int
    delivered: int
    not_final: int
    lost: int
    in_doubt: int
    doubles: Duplicates
    at_carriers: int  # different texts in the carriers' logs
    missing_at_carriers: int  # accepted, but in no carrier's log
    unknown_at_carriers: int  # in a carrier's log, but never accepted
    stale: int
    pause_s: float | None
    two_site_again_s: float | None
    home_again: bool
    missed: tuple[str, ...]

    @property
    def checks(self) -> list[tuple[str, str, bool | None]]:
        """(fact, how much, whether it is as it must be); None: it is only told."""
        pause, again = self.pause_s, self.two_site_again_s
        return [
            ("customers to tell", str(self.customers), None),
            ("accepted", str(self.accepted), self.accepted == self.customers and self.unanswered == 0),
            ("delivered", str(self.delivered), self.delivered == self.accepted and self.not_final == 0),
            ("acknowledged and lost", str(self.lost), self.lost == 0),
            ("listed as in doubt", str(self.in_doubt), None),
            (
                "received twice (of these declared)",
                f"{self.doubles.copies} ({self.doubles.declared})",
                not self.doubles.undeclared,
            ),
            ("requests refused, and repeated until accepted", str(self.refused), None),
            ("in the carriers' own logs", str(self.at_carriers), self.unknown_at_carriers == 0),
            ("accepted, but not in those logs", str(self.missing_at_carriers), self.missing_at_carriers == 0),
            ("acknowledged by a leader of the past", str(self.stale), self.stale == 0),
            (
                "longest pause that a client saw",
                "-" if pause is None else f"{pause:.2f} s",
                pause is not None and pause <= PAUSE_LIMIT,
            ),
            (
                "until both sites were in step again",
                "never" if again is None else f"{again:.1f} s",
                again is not None,
            ),
            ("production is home again", "yes" if self.home_again else "no", self.home_again),
        ]

    @property
    def ok(self) -> bool:
        return not self.missed and all(holds is not False for _, _, holds in self.checks)


VERDICTS = {True: "[green]holds[/]", False: "[bold red]does not hold[/]", None: "[dim]-[/]"}


def print_report(console: Console, findings: Findings, *, took: float) -> None:
    table = Table(title="What became of it", title_justify="left")
    table.add_column("what")
    table.add_column("how much", justify="right")
    table.add_column("check")
    for fact, how_much, holds in findings.checks:
        table.add_row(fact, how_much, VERDICTS[holds])
    console.print(table)
    for sentence in findings.missed:
        console.print(f"[red]{sentence}[/]")
    verdict = "[bold green]Nothing was lost.[/]" if findings.ok else "[bold red]Not every check held.[/]"
    console.print(f"{verdict} It took {took:.0f} s.")
