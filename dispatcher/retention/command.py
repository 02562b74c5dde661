"""`python -m dispatcher retention`: partitions, what was retired, and rounds of upkeep by hand."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from dispatcher.carrying_out import CONFIG, carry_out, give_up, print_json
from dispatcher.migrate import at_leader
from dispatcher.retention import archive, decide
from dispatcher.retention.carry_out import Place, one_round
from dispatcher.retention.forgetting import forget_campaigns, forget_replies
from dispatcher.retention.model import Period, Picture, Round
from dispatcher.retention.store import RetentionStore, term_of
from dispatcher.retention.upkeep import REFERENCES_AT_ONCE
from dispatcher.store import DispatcherError
from sitecontrol.cli.tables import Column, table_of
from sitecontrol.clock import SystemClock
from sitecontrol.logging import configure
from sitecontrol.settings import Secrets, Settings

REFUSED = 4  # as `sitectl` has it: nothing was changed
CLOCKS_APART = timedelta(seconds=60)
JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


class ClocksDisagreeError(DispatcherError):
    """This machine's clock and the leader's disagree: nothing goes by a clock that may be wrong."""


class BusyError(DispatcherError):
    """A dispatcher of the live site does upkeep just now; it comes round every minute."""


@asynccontextmanager
async def store_at_leader(settings: Settings, secrets: Secrets) -> AsyncIterator[RetentionStore]:
    async with at_leader(settings, secrets) as session:
        yield RetentionStore(session, await term_of(session), SystemClock())


async def look(settings: Settings, secrets: Secrets) -> Picture:
    async with store_at_leader(settings, secrets) as store:
        return await store.picture()


async def run_by_settings(settings: Settings, secrets: Secrets, *, most: int) -> Round:
    """A round with all that is due, references too. Raises ClocksDisagreeError, BusyError."""
    async with store_at_leader(settings, secrets) as store:
        if not await store.begin():
            raise BusyError
        picture = await store.picture()
        if abs(picture.now - datetime.now(UTC)) > CLOCKS_APART:
            raise ClocksDisagreeError
        done = await one_round(store, settings.retention, Place.of(settings, os.environ), most=most)
        forgotten = 0
        reached: tuple[int, str] | None = (0, "")
        before = decide.forget_before(picture, settings.retention)
        while reached is not None:
            some, reached = await store.forget(before, reached, REFERENCES_AT_ONCE)
            forgotten += some
        clock, calls = SystemClock(), 1_000_000  # all of them
        old = decide.forget_replies_before(picture, settings.retention)
        replies = await forget_replies(store, clock, old, calls=calls)
        old = decide.forget_campaigns_before(picture, settings.retention)
        campaigns = await forget_campaigns(store, clock, old, calls=calls)
        return replace(done, forgotten=forgotten, replies=replies, campaigns=campaigns)


@click.group()
def retention() -> None:
    """Partitions of messages, and what becomes of old ones."""


@retention.command("list")
@CONFIG
@JSON
@click.pass_obj
def list_(parent: Path | None, *, config: Path | None, as_json: bool) -> None:
    """Periods with their sizes, what was retired, and what is wrong."""
    configure("dispatcher retention")
    found: dict[str, Any] = {}

    async def work(settings: Settings, secrets: Secrets) -> Picture:
        picture = await look(settings, secrets)
        found["due"] = {period.name for period in decide.to_retire(picture, settings.retention)}
        found["problems"] = decide.problems(picture, settings.retention)
        return picture

    picture = carry_out(config or parent, work)
    if as_json:
        print_json(
            {
                "at": _told(picture.now),
                "periods": [_period_json(one, found["due"]) for one in picture.periods],
                "odd_rows": picture.odd_rows,
                "retired": [
                    {
                        name: _told(value) if isinstance(value, datetime) else value
                        for name, value in asdict(one).items()
                        if name != "manifest"
                    }
                    for one in picture.retired
                ],
                "problems": found["problems"],
            }
        )
        return
    show(picture, found["due"], found["problems"])


@retention.command()
@CONFIG
@JSON
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option("--most", type=click.IntRange(min=1), default=1_000, help="Periods that are taken out at most.")
@click.option("--yes", is_flag=True, help="Go on without asking.")
@click.pass_obj
def run(
    parent: Path | None, *, config: Path | None, as_json: bool, dry_run: bool, most: int, yes: bool
) -> None:
    """Make partitions, archive and drop what is due, delete what is old: what dispatchers do by themselves, now."""
    configure("dispatcher retention")
    file = config or parent
    planned: dict[str, Any] = {}

    async def plan(settings: Settings, secrets: Secrets) -> None:
        picture = await look(settings, secrets)
        due = decide.to_retire(picture, settings.retention)[:most]
        planned["make"] = [
            f"{one.in_table} from {one.since:%Y-%m-%d}" for one in decide.to_make(picture, settings.retention)
        ]
        planned["drop"] = [period.name for period in due]
        planned["archive"] = settings.retention.archive
        planned["replies_before"] = _told(decide.forget_replies_before(picture, settings.retention))
        planned["campaigns_before"] = _told(decide.forget_campaigns_before(picture, settings.retention))

    carry_out(file, plan)
    if dry_run:
        print_json({"dry_run": True, **planned}) if as_json else _say_plan(planned)
        return
    if planned["drop"] and not yes and not confirmed(planned):
        click.echo("dispatcher: not confirmed; nothing was changed (--yes goes on without asking)", err=True)
        raise SystemExit(REFUSED)
    done = carry_out(file, lambda settings, secrets: run_by_settings(settings, secrets, most=most))
    if as_json:
        print_json({"dry_run": False, **asdict(done)})
        return
    for what, names in (("made", done.made), ("dropped", done.dropped), ("archive", done.archives)):
        for name in names:
            click.echo(f"{what}: {name}")
    click.echo(f"references forgotten: {done.forgotten}; replies deleted: {done.replies}")
    click.echo(f"campaigns deleted: {done.campaigns}")
    for problem in done.problems:
        click.echo(f"problem: {problem}")


@retention.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(folders: tuple[Path, ...]) -> None:
    """Hold archives (their FOLDERS) against their manifests. Ends with 1 when one is not what was written."""
    found = [fault for folder in folders for fault in archive.faults(folder)]
    if found:
        give_up(DispatcherError("; ".join(found)), 1)
    click.echo(f"{len(folders)} whole")


def confirmed(planned: dict[str, Any]) -> bool:
    what = "archived and dropped" if planned["archive"] else "DROPPED WITHOUT AN ARCHIVE"
    try:
        answer = click.prompt(f"{', '.join(planned['drop'])}: {what}. Type drop to go on", err=True)
    except click.Abort:
        return False
    return bool(answer == "drop")


def show(picture: Picture, due: set[str], problems: list[str]) -> None:
    console = Console()
    columns = [Column(title=title, whole=True) for title in ("PERIOD", "SINCE", "UNTIL", "ROWS", "SIZE", "")]
    rows = [
        [
            Text(cell)
            for cell in (
                period.name,
                "-" if period.since is None else f"{period.since:%Y-%m-%d}",
                f"{period.until:%Y-%m-%d}",
                f"~{sum(p.rows_estimated for p in period.tables.values()):,}",
                size(period.bytes),
                "due" if period.name in due else "" if period.until > picture.now else "kept",
            )
        ]
        for period in picture.periods
    ]
    console.print(table_of(columns, rows))
    for retired in picture.retired[:20]:
        state = "being taken out" if retired.dropped_at is None else f"dropped {retired.dropped_at:%Y-%m-%d}"
        console.print(
            Text(f"{retired.period}: {state}; archive: {retired.folder or 'none'} ({retired.site})")
        )
    for problem in problems:
        console.print(Text(f"problem: {problem}"))


def size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1_000:
            return f"{amount:.0f} {unit}"
        amount /= 1_000
    return f"{amount:.1f} TB"


def _period_json(period: Period, due: set[str]) -> dict[str, Any]:
    return {
        "period": period.name,
        "since": _told(period.since),
        "until": _told(period.until),
        "bytes": period.bytes,
        "rows_estimated": {name: one.rows_estimated for name, one in period.tables.items()},
        "attached": period.attached,
        "due": period.name in due,
    }


def _say_plan(planned: dict[str, Any]) -> None:
    for name in planned["make"]:
        click.echo(f"would make: {name}")
    for name in planned["drop"]:
        click.echo(f"would {'archive and ' if planned['archive'] else ''}drop: {name}")
    if not planned["make"] and not planned["drop"]:
        click.echo("no partition to make or to drop")
    click.echo(f"would delete: replies stored before {planned['replies_before']}")
    click.echo(f"would delete: campaigns that ended before {planned['campaigns_before']}")


def _told(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="seconds")
