"""`python -m dispatcher`: a dispatcher as a process, and the administration of its schema and accounts.

python -m dispatcher --config FILE --name NAME     (SIGHUP: FILE is read again for its carriers)
python -m dispatcher migrate --config FILE
python -m dispatcher account add --config FILE --account NAME --program NAME --source SHORTCODE [--expires 90d]
python -m dispatcher account list --config FILE [--account NAME]
python -m dispatcher account revoke --config FILE KEY
python -m dispatcher doubts list --config FILE --term TERM
python -m dispatcher doubts decide --config FILE --term TERM --resend|--let-go
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from dispatcher.accounts import add_account_by_settings
from dispatcher.carrying_out import CONFIG, carry_out, print_json
from dispatcher.doubts_command import doubts
from dispatcher.keys import expiry, list_keys_by_settings, revoke_key_by_settings
from dispatcher.migrate import migrate as bring_up_to_date
from dispatcher.model import MessageClass, OnDoubt
from dispatcher.process import run_dispatcher
from sitecontrol.logging import configure


@click.group(invoke_without_command=True)
@CONFIG
@click.option("--name", help="Which of [[dispatcher.instances]] this process is.")
@click.pass_context
def main(context: click.Context, config: Path | None, name: str | None) -> None:
    """Run a dispatcher (without a command), or administer its schema and accounts."""
    context.obj = config
    if context.invoked_subcommand is None:
        if name is None:
            raise click.UsageError("--name is missing: which of [[dispatcher.instances]] is this?")
        configure(f"dispatcher {name}")
        carry_out(config, lambda settings, secrets: run_dispatcher(settings, secrets, name, config))


@main.command()
@CONFIG
@click.option("--post", is_flag=True, help="Also what must wait until the last old version has stopped.")
@click.pass_obj
def migrate(parent: Path | None, config: Path | None, *, post: bool) -> None:
    """Bring the schema at the leader up to date. Safe to repeat."""
    configure("dispatcher migrate")
    report = carry_out(
        config or parent, lambda settings, secrets: bring_up_to_date(settings, secrets, post=post)
    )
    print_json({"applied": report.applied, "already": report.already, "waiting": report.waiting})


class ExpiryType(click.ParamType[datetime]):
    name = "90d|12h|TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return expiry(value, datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@main.group()
def account() -> None:
    """Accounts, their programs and keys."""


@account.command()
@CONFIG
@click.option("--account", required=True)
@click.option("--program", required=True)
@click.option("--source", required=True, help="The short code that the program sends from.")
@click.option(
    "--on-doubt",
    type=click.Choice([choice.value for choice in OnDoubt]),
    default=OnDoubt.HOLD.value,
    show_default=True,
)
@click.option(
    "--class",
    "message_class",
    type=click.Choice([c.name.lower() for c in MessageClass]),
    default=MessageClass.SERVICE.name.lower(),
    show_default=True,
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="The key is read from here, or made and written here (mode 600).",
)
@click.option(
    "--expires",
    type=ExpiryType(),
    help="Until when the key opens: days or hours from now, or a time. Else a key that is known stays as it is,"
    " and a new one has no end.",
)
@click.pass_obj
def add(
    parent: Path | None,
    *,
    config: Path | None,
    account: str,
    program: str,
    source: str,
    on_doubt: str,
    message_class: str,
    key_file: Path | None,
    expires: datetime | None,
) -> None:
    """Create an account with a program and a key, as far as they are not there. Prints them as JSON."""
    configure("dispatcher account")
    created = carry_out(
        config or parent,
        lambda settings, secrets: add_account_by_settings(
            settings,
            secrets,
            name=account,
            program=program,
            source=source,
            on_doubt=OnDoubt(on_doubt),
            message_class=MessageClass[message_class.upper()],
            key_file=key_file,
            expires_at=expires,
        ),
    )
    print_json(created.as_json())


@account.command("list")
@CONFIG
@click.option("--account", help="Only this one's.")
@click.pass_obj
def list_(parent: Path | None, *, config: Path | None, account: str | None) -> None:
    """The keys there are, as JSON: whose, their first characters, until when, revoked or not; never a key itself."""
    configure("dispatcher account")
    found = carry_out(
        config or parent, lambda settings, secrets: list_keys_by_settings(settings, secrets, account=account)
    )
    print_json({"keys": [key.as_json() for key in found]})


@account.command()
@CONFIG
@click.argument("key")
@click.pass_obj
def revoke(parent: Path | None, *, config: Path | None, key: str) -> None:
    """End a KEY, named by its number or its first characters (see `account list`). Every dispatcher refuses it within
    seconds. Safe to repeat.
    """
    configure("dispatcher account")
    revoked = carry_out(
        config or parent, lambda settings, secrets: revoke_key_by_settings(settings, secrets, named=key)
    )
    print_json(revoked.as_json())


main.add_command(doubts)

if __name__ == "__main__":
    main()
