"""`hotsite-send`: a CSV to Hotsite. Run it again after whatever happened: nothing is sent twice."""

import csv
import json
import os
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO

import click

from hotsite_client import csv_rows
from hotsite_client.client import Client
from hotsite_client.csv_rows import LONGEST_BATCH, Bad, Plan, Row, Table, Unusable
from hotsite_client.errors import ApiError, BulkStopped, OutcomeUnknown
from hotsite_client.model import Message, Result
from hotsite_client.retry import Policy

SHOWN: Final = 20  # bad rows on the terminal; a file of rejects has them all

HELP: Final = """Send a text to each row of FILE, a CSV with a header.

\b
  hotsite-send outage.csv --program outages \\
    --template 'Power is out on {street}. Back by {eta}.' \\
    --url https://columbus.example --url https://denver.example \\
    --key-file ~/.hotsite-key --rejects rejects.csv

Rows that are refused are told with line, column and reason, and the others go on. Whatever happens, run the same
command again: each row has a reference, made from the batch's name and the row, and no reference is sent twice.
Another sending of the same file needs another --batch.

\b
Exit codes: 0 all rows accepted, 1 a file cannot be read or written, 2 usage,
3 rows (or all) were refused, 4 of some rows it is not known: run it again,
5 no site could be reached, the rest was not sent: run it again, 130 Ctrl-C.
"""


def stop(code: int, text: str) -> NoReturn:
    click.echo(f"Error: {text}", err=True)
    raise click.exceptions.Exit(code)


@dataclass(kw_only=True)
class Tally:
    """What became of the rows; as `--json` shows it."""

    file: str
    program: str
    batch: str
    dry_run: bool
    rows: int = 0
    good: int = 0  # rows that make a message
    accepted: int = 0
    duplicate: int = 0  # of the accepted: by an earlier run, or twice in the file; not sent anew
    two_site: int = 0  # of the accepted, on disk at both sites when acknowledged
    segments: int = 0  # of the accepted, duplicates left out
    refused: int = 0
    unknown: int = 0  # may or may not have been accepted
    not_sent: int = 0  # that were read; what was not read is not counted
    stopped: str | None = None  # why it ended early
    rejects: str | None = None
    bad: list[Bad] = field(default_factory=list)  # the first few

    def as_json(self) -> dict[str, Any]:
        document = asdict(self)
        del document["bad"]
        return document

    @property
    def code(self) -> int:
        if self.unknown:
            return 4
        if self.stopped is not None or self.not_sent:
            return 5
        return 3 if self.refused else 0


def moment(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise click.BadParameter(f"{value!r} is no time with its zone, such as 2026-01-31T17:00:00-05:00")
    return time


def one_character(_: click.Context, __: click.Parameter, value: str) -> str:
    value = "\t" if value in {"tab", "\\t"} else value
    if len(value) != 1 or value in '"\r\n':
        raise click.BadParameter(f"{value!r} is not one character; for example ';' or tab")
    return value


def known_encoding(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        "x".encode(value)
    except LookupError:
        raise click.BadParameter(f"{value!r} is not known; for example utf-8, cp1252, utf-16") from None
    return "utf-8-sig" if value.lower().replace("_", "-") in {"utf-8", "utf8"} else value


FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    "hotsite-send",
    help=HELP,
    context_settings={"max_content_width": 120, "help_option_names": ["-h", "--help"]},
)
@click.argument("file", type=FILE)
@click.option("--program", required=True, help="The program that the texts belong to.")
@click.option(
    "--to-column", default="to", show_default=True, help="The column of the numbers (+16145550123)."
)
@click.option("--body-column", help="The column of the texts.")
@click.option("--template", help="The text, with columns in braces: 'Power is out on {street}.'")
@click.option("--template-file", type=FILE, help="The same, from a file (UTF-8).")
@click.option("--url", "urls", multiple=True, envvar="HOTSITE_URL", show_envvar=True,
              help="A site's address; give both, the nearest first.")  # fmt: skip
@click.option("--key-file", type=FILE, help="The file of the API key; else the variable HOTSITE_KEY is read.")
@click.option(
    "--batch", help="What this sending is called: no row goes out twice in it.  [default: the file's name]"
)
@click.option("--reference-column", help="A column that names each row for good, instead of all its cells.")
@click.option(
    "--topic-column",
    help="A column of topics, such as outages: a newer text of one takes an older, unsent one's place.",
)
@click.option("--class", "class_", type=click.Choice(["emergency", "service", "marketing"]),
              help="What goes first; the program's if left out.")  # fmt: skip
@click.option("--send-at", callback=moment, help="Not before this time, with its zone.")
@click.option("--expires-at", callback=moment, help="Not after this time, with its zone.")
@click.option("--on-doubt", type=click.Choice(["resend", "hold"]),
              help="When it is not known whether a text left; the program's if left out.")  # fmt: skip
@click.option("--encoding", default="utf-8", show_default=True, callback=known_encoding, help="Of FILE.")
@click.option(
    "--delimiter", default=",", show_default=True, callback=one_character, help="Of FILE; 'tab' is one."
)
@click.option("--rejects", type=click.Path(dir_okay=False, path_type=Path),
              help="Write refused rows here, as a CSV with the reason; mended, it can be sent.")  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, help="Read all rows, show the first text, send nothing. Needs no key."
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.option("--no-progress", is_flag=True, help="No progress bar (there is none without a terminal).")
@click.option("--timeout", type=click.FloatRange(min=1), default=60.0, show_default=True,
              help="Seconds that each part of the rows is tried for.")  # fmt: skip
@click.option("--ca-file", type=FILE, help="Certificate authorities to trust beside the system's.")
@click.option(
    "--allow-http", is_flag=True, help="Allow http:// to other machines, which shows the key on the way."
)
@click.version_option(package_name="hotsite-client")
@click.pass_context
def main(ctx: click.Context, /, file: Path, **options: Any) -> None:
    plan = plan_of(file, options)
    dry_run, rejects = options["dry_run"], options["rejects"]
    if rejects is not None and rejects.exists() and rejects.samefile(file):
        raise click.UsageError("--rejects is FILE itself: it would be overwritten while it is read")
    tally = Tally(
        file=str(file),
        program=plan.program,
        batch=plan.batch,
        dry_run=dry_run,
        rejects=rejects and str(rejects),
    )
    try:
        with ExitStack() as stack:
            client = None if dry_run else stack.enter_context(client_of(options))
            opened = stack.enter_context(csv_rows.opened(file, options["encoding"]))
            table = Table(opened, encoding=options["encoding"], delimiter=options["delimiter"])
            plan.check(table.columns)
            bad = rejects_writer(stack, rejects, table.columns)
            show = progress(stack, opened, file, hidden=options["no_progress"])
            sending = Sending(plan=plan, tally=tally, report=bad, show=show)
            sending.run(table, client)
    except Unusable as error:
        stop(2, f"{file}: {error}")
    except UnicodeError as error:
        stop(1, f"{file} is not {options['encoding']}: {error}")
    except OSError as error:
        stop(1, str(error))
    tell(tally, sending.first, as_json=options["as_json"])
    ctx.exit(130 if tally.stopped == "interrupted" else sending.refused_all or tally.code)


def plan_of(file: Path, options: dict[str, Any]) -> Plan:
    given = [name for name in ("body_column", "template", "template_file") if options[name] is not None]
    if len(given) != 1:
        raise click.UsageError("give the texts once: --body-column, --template or --template-file")
    template = options["template"]
    if options["template_file"] is not None:
        try:
            template = options["template_file"].read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            stop(1, f"{options['template_file']}: {error}")
    batch = options["batch"]
    if batch is not None and not (batch.isprintable() and 0 < len(batch) <= LONGEST_BATCH):
        raise click.BadParameter(f"must have 1 to {LONGEST_BATCH} printable characters", param_hint="--batch")
    names = (
        "program",
        "to_column",
        "body_column",
        "reference_column",
        "topic_column",
        "class_",
        "send_at",
        "expires_at",
        "on_doubt",
    )
    return Plan(
        batch=batch or file.name.encode("ascii", "replace").decode(),
        own_batch=batch is not None,
        template=template,
        **{name: options[name] for name in names},
    )


def client_of(options: dict[str, Any]) -> Client:
    if not options["urls"]:
        raise click.UsageError(
            "give both sites' addresses: --url https://columbus.example --url https://denver.example"
        )
    if options["key_file"] is not None:
        key = options["key_file"].read_text(encoding="utf-8", errors="replace")
    elif (key := os.environ.get("HOTSITE_KEY", "")) == "":
        raise click.UsageError("there is no key: --key-file FILE, or the variable HOTSITE_KEY")
    verify = None
    if options["ca_file"] is not None:
        verify = ssl.create_default_context()
        try:
            verify.load_verify_locations(options["ca_file"])
        except ssl.SSLError as error:
            stop(1, f"{options['ca_file']}: {error}")
    try:
        policy = Policy(total_s=options["timeout"])
        return Client(options["urls"], key, policy=policy, verify=verify, allow_http=options["allow_http"])
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@dataclass(kw_only=True)
class Sending:
    """One run over the table."""

    plan: Plan
    tally: Tally
    report: Callable[[Bad], None]
    show: Callable[[], None]
    first: Message | None = None
    refused_all: int = 0  # the exit code, when everything was refused at once
    _rows: dict[str, list[Row]] = field(default_factory=dict)  # on their way, by reference

    def run(self, table: Table, client: Client | None) -> None:
        try:
            if client is None:
                for _ in self._messages(table):
                    pass
                return
            for result in client.bulk(self._messages(table)):
                self._settle(result)
        except ApiError as error:
            self.tally.stopped, self.refused_all = str(error), 3
        except BulkStopped as error:
            self.tally.stopped = f"{error.__cause__}; run the same command again to go on"
        except KeyboardInterrupt:
            self.tally.stopped = "interrupted"

    def _messages(self, table: Table) -> Iterator[Message]:
        for row in table:
            self.tally.rows += 1
            made = row if isinstance(row, Bad) else csv_rows.message(row, self.plan)
            if isinstance(made, Bad):
                self._refuse(made)
            elif isinstance(row, Row):
                self.first = self.first or made
                self.tally.good += 1
                self._rows.setdefault(made.reference or "", []).append(row)
                yield made
            self.show()

    def _refuse(self, bad: Bad) -> None:
        self.tally.refused += 1
        if len(self.tally.bad) < SHOWN:
            self.tally.bad.append(bad)
        self.report(bad)

    def _settle(self, result: Result) -> None:
        reference = result.message.reference or ""
        row = self._rows[reference].pop(0)
        if not self._rows[reference]:
            del self._rows[reference]
        if result.accepted is not None:
            self.tally.accepted += 1
            self.tally.two_site += result.accepted.two_site
            self.tally.duplicate += result.accepted.duplicate
            self.tally.segments += 0 if result.accepted.duplicate else result.accepted.segments
        elif isinstance(result.error, ApiError):
            self._refuse(refused(row, result.error, self.plan))
        elif isinstance(result.error, OutcomeUnknown):
            self.tally.unknown += 1
        else:
            self.tally.not_sent += 1


def refused(row: Row, error: ApiError, plan: Plan) -> Bad:
    errors = error.problem.errors
    column = csv_rows.column_of(errors[0].field, plan) if errors else ""
    reason = "; ".join(each.message for each in errors) or error.problem.detail
    if error.problem.slug == "reference-conflict":
        reason = (
            f"was accepted before with another text, as {error.reference!r}: a new text needs a new --batch"
        )
    return Bad(line=row.line, column=column, reason=reason, cells=row.cells)


def rejects_writer(stack: ExitStack, path: Path | None, columns: list[str]) -> Callable[[Bad], None]:
    if path is None:
        return lambda _: None
    own = [column for column in columns if column not in csv_rows.ERROR_COLUMNS]
    opened = stack.enter_context(path.open("w", encoding="utf-8", errors="replace", newline=""))
    writer = csv.writer(opened)
    writer.writerow([*own, *csv_rows.ERROR_COLUMNS])

    def write(bad: Bad) -> None:
        writer.writerow([*(bad.cells.get(column, "") for column in own), bad.line, bad.column, bad.reason])

    return write


def progress(stack: ExitStack, opened: TextIO, file: Path, *, hidden: bool) -> Callable[[], None]:
    """A bar by the bytes that were read; nothing where nobody looks."""
    if hidden or not sys.stderr.isatty():
        return lambda: None
    bar = stack.enter_context(click.progressbar(length=file.stat().st_size, label=file.name, file=sys.stderr))
    return lambda: bar.update(opened.buffer.tell() - bar.pos)


def tell(tally: Tally, first: Message | None, *, as_json: bool) -> None:
    """The outcome: rows that are bad to stderr, the summary to stdout."""
    for bad in tally.bad:
        where = f"{tally.file}:{bad.line}: " + (f"{bad.column}: " if bad.column else "")
        click.echo(where + bad.reason, err=True)
    if tally.refused > len(tally.bad):
        all_ = tally.rejects or "--rejects FILE gets them all"
        click.echo(f"and {tally.refused - len(tally.bad)} more refused rows: {all_}", err=True)
    if as_json:
        click.echo(json.dumps(tally.as_json()))
        return
    if tally.dry_run:
        click.echo(f"dry run: {tally.good} of {tally.rows} rows would be sent, {tally.refused} are bad")
        if first is not None:
            click.echo(f"the first: {first.to}: {first.body}")
        return
    lines = [
        f"{tally.rows} rows read, batch {tally.batch!r}",
        f"{tally.accepted:>9} accepted, {tally.two_site} of them on disk at both sites",
        f"{tally.duplicate:>9} of these were accepted before and not sent anew (a new --batch would)"
        * bool(tally.duplicate),
        f"{tally.refused:>9} refused" * bool(tally.refused),
        f"{tally.unknown:>9} may or may not have been accepted: run the same command again"
        * bool(tally.unknown),
        f"{tally.not_sent:>9} not sent" * bool(tally.not_sent),
    ]
    click.echo("\n".join(line for line in lines if line))
    if tally.stopped is not None:
        click.echo(f"stopped before the end: {tally.stopped}", err=True)


if __name__ == "__main__":
    main()
