"""`node quarantine list / show / replay / settle`: what a returning node alone held, and what becomes of it.

The files lie on the node's own disk, in its `state_dir`: this is done there, with that place's settings. In a lab both
sites' are shown.
"""

import getpass
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from sitecontrol import quarantine as files
from sitecontrol.cli.agents import DEFAULT_TIMEOUT, settings_of
from sitecontrol.cli.replaying import DEALT_WITH, Outcome, Replay, Verdict, accounts_of, messages_of
from sitecontrol.cli.session import Exit, Globals, Problem, leave, typed, with_globals
from sitecontrol.cli.tables import outcome_lines, set_aside_lines, set_aside_rows
from sitecontrol.lab.layout import LabDir
from sitecontrol.quarantine import NotReadable, SetAside
from sitecontrol.settings import Settings, SettingsError, load
from sitecontrol.tls import client_context

KEY_VARIABLE = "HOTSITE_ACCOUNT_KEY"


@click.group()
def quarantine() -> None:
    """What a returning node alone held, set aside before its history was replaced by the leader's.

    These messages were never acknowledged as accepted by two sites, or nobody knows whether they were: their senders
    were told nothing, or were told to ask again, and may have done so.
    """


@quarantine.command("list")
@with_globals
def list_files(options: Globals) -> None:
    """Every file, oldest first; those that are dealt with, too."""
    found = _found(options)
    if options.as_json:
        options.emit([_as_json(file) for file in found])
    elif found:
        options.console.print(set_aside_lines(found))
    else:
        options.console.print("Nothing is set aside.")


@quarantine.command()
@click.argument("name", metavar="FILE")
@with_globals
def show(options: Globals, *, name: str) -> None:
    """The rows of FILE, a name as `list` shows it, or a path."""
    file = _file(options, name)
    rows = _rows(file)
    if options.as_json:
        options.emit(_as_json(file) | {"rows": rows})
    else:
        options.console.print(set_aside_rows(file, rows))


@quarantine.command()
@click.argument("name", metavar="FILE")
@click.option("--account", help="Whose messages; may be left out when all are of one account.")
@click.option("--key-file", type=click.Path(path_type=Path), help=f"Its key; else it is in {KEY_VARIABLE}.")
@click.option("--dry-run", is_flag=True, help="Only tell which of them would be sent.")
@with_globals
def replay(options: Globals, *, name: str, account: str | None, key_file: Path | None, dry_run: bool) -> None:
    """Offer the messages of FILE to the dispatchers again, each with its reference. Safe to repeat.

    First it is told which of them are there already and which would be sent. A message that a carrier may have is
    never sent again. A file whose messages are all dealt with is settled.
    """
    file, settings = _file(options, name), settings_of(options)
    messages = messages_of(_rows(file))
    if not messages:
        raise Problem(
            f"{file.name} holds no messages; `sitectl node quarantine settle` ends its alarm", Exit.REFUSED
        )
    replaying = _replaying(options, settings, _account(messages, account), _key(options, key_file))
    planned = list(replaying.outcomes(messages, dry_run=True))
    to_send = sum(outcome.verdict is Verdict.WOULD_BE_SENT for outcome in planned)
    if dry_run or to_send == 0:
        _end(options, file, planned, dry_run=dry_run)
    if not options.yes:
        if not options.as_json:
            options.console.print(outcome_lines([outcome.as_json() for outcome in planned]))
        question = f"{to_send} messages will be sent to customers. Type that number to go on"
        if not typed(question, str(to_send)):  # nobody types it without having seen it
            raise Problem("not confirmed; nothing was sent (--yes goes on without asking)", Exit.REFUSED)
    _end(options, file, list(replaying.outcomes(messages, dry_run=False)), dry_run=False)


@quarantine.command()
@click.argument("name", metavar="FILE")
@click.option("--dry-run", is_flag=True, help="Only tell what it holds and what would become of it.")
@with_globals
def settle(options: Globals, *, name: str, dry_run: bool) -> None:
    """FILE is dealt with: it is kept, and raises no alarm any more. `replay` takes it afterwards, too."""
    file = _file(options, name)
    if dry_run:
        _tell_settling(options, file)
        return
    settled = files.settle(file, getpass.getuser())
    if options.as_json:
        options.emit(_as_json(settled))
    else:
        options.console.print(Text(f"{settled.name} is settled; it is kept as {settled.path}"))


def _tell_settling(options: Globals, file: SetAside) -> None:
    kept = files.settled_path(file)
    if options.as_json:
        options.emit({**_as_json(file), "dry_run": True, "would": "settle", "kept_as": str(kept)})
        return
    held = ", ".join(f"{count} {table}" for table, count in file.header.counts.items() if count) or "no rows"
    if file.settled:
        options.console.print(Text(f"{file.name} ({held}) is settled already: nothing would change."))
    else:
        options.console.print(
            Text(f"{file.name} ({held}) would raise no alarm any more, and be kept as {kept}"), soft_wrap=True
        )


def _end(options: Globals, file: SetAside, outcomes: Sequence[Outcome], *, dry_run: bool) -> None:
    """Tell what became of each, settle the file if nothing of it is left to do, and leave."""
    verdicts = {outcome.verdict for outcome in outcomes}
    settled = file.settled
    if not dry_run and verdicts <= DEALT_WITH:
        settled = files.settle(file, getpass.getuser()).settled
    told = [outcome.as_json() for outcome in outcomes]
    if options.as_json:
        options.emit({"file": file.name, "dry_run": dry_run, "settled": settled, "messages": told})
    else:
        options.console.print(outcome_lines(told))
        if settled:
            options.console.print(Text(f"{file.name} is settled."))
    if Verdict.NO_ANSWER in verdicts:
        leave(Exit.TIMED_OUT)
    leave(Exit.FAILED if Verdict.REFUSED in verdicts else Exit.DONE)


def _folders(options: Globals) -> list[Path]:
    """Of the place whose settings were named; in a lab of all its places."""
    if options.config is not None:
        places = [settings_of(options)]
    else:
        settings = settings_of(options)
        lab = LabDir.at(options.lab)
        configs = [lab.config(place.name) for place in settings.place]
        places = [_load(config) for config in configs if config.exists()]
    return [files.folder_in(place.site.state_dir) for place in places]


def _load(config: Path) -> Settings:
    try:
        return load(config)
    except SettingsError as error:
        raise Problem(str(error), Exit.USAGE) from error


def _found(options: Globals) -> list[SetAside]:
    return [file for folder in _folders(options) for file in files.found(folder)]


def _file(options: Globals, name: str) -> SetAside:
    named = next((file for file in _found(options) if file.name == name), None)
    if named is not None:
        return named
    if not Path(name).is_file():
        raise Problem(f"there is no file {name}; `sitectl node quarantine list` shows them", Exit.USAGE)
    try:
        return files.read(Path(name))
    except NotReadable as error:
        raise Problem(str(error), Exit.USAGE) from error


def _rows(file: SetAside) -> list[dict[str, Any]]:
    try:
        return list(file.rows())
    except (NotReadable, OSError) as error:
        raise Problem(str(error)) from error


def _account(messages: Sequence[Any], named: str | None) -> str:
    known = accounts_of(messages)
    if named is None and len(known) > 1:
        raise Problem(f"--account is missing; there are messages of: {', '.join(known)}", Exit.USAGE)
    if named is not None and named not in known:
        raise Problem(
            f"--account {named}: none of its messages is here; there are those of: {', '.join(known)}",
            Exit.USAGE,
        )
    return named or (known[0] if known else "")


def _key(options: Globals, file: Path | None) -> str:
    if file is None and KEY_VARIABLE in os.environ:
        return os.environ[KEY_VARIABLE].strip()
    if file is None and options.config is None:
        file = LabDir.at(options.lab).key_file
    if file is None:
        raise Problem(
            f"the account's key is missing: name its file with --key-file, or set {KEY_VARIABLE}", Exit.USAGE
        )
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"--key-file {file}: {error}", Exit.USAGE) from error


def _replaying(options: Globals, settings: Settings, account: str, key: str) -> Replay:
    places = sorted(settings.place, key=lambda place: place.name != settings.site.name)
    urls = [dispatcher.url for place in places for dispatcher in place.dispatchers]
    if not urls:
        raise Problem("the settings name no dispatchers: add them as [[place.dispatchers]]", Exit.USAGE)
    try:
        tls = client_context(settings.security)
    except SettingsError as error:
        raise Problem(str(error), Exit.USAGE) from error
    timeout = options.timeout or settings.dispatcher.hold_for + DEFAULT_TIMEOUT
    return Replay(urls=urls, key=key, account=account, timeout=timeout, tls=tls)


def _as_json(file: SetAside) -> dict[str, Any]:
    return {
        "file": file.name,
        "path": str(file.path),
        "settled": file.settled,
        **file.header.model_dump(mode="json"),
    }
