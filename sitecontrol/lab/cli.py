"""`sitectl lab` and `sitectl demo`: a whole system on this machine, started, looked at, broken, ended."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from sitecontrol.cli.session import Amount, Exit, Globals, Problem, leave, with_globals
from sitecontrol.lab import startup
from sitecontrol.lab.arguments import BasePort, CarrierType
from sitecontrol.lab.control import LabControl, read_lab
from sitecontrol.lab.errors import LabError, LabUnreachableError
from sitecontrol.lab.faults import FAULTS, heal, site_for
from sitecontrol.lab.lab_file import read_lab_file
from sitecontrol.lab.layout import LabDir
from sitecontrol.lab.plan import (
    BUFFERS_MB,
    QUOTA_MB,
    SMALLEST_BUFFERS_MB,
    SMALLEST_QUOTA_MB,
    ExternalCarrier,
    Plan,
)
from sitecontrol.lab.ports import DEFAULT_BASE, MAX_CARRIERS, MAX_DISPATCHERS, MAX_NODES, PLACES
from sitecontrol.lab.shutdown import bring_down
from sitecontrol.lab.starting import start
from sitecontrol.lab.status import is_whole, status_of, status_table
from sitecontrol.lab.volumes import SMALLEST
from sitecontrol.settings import SettingsError

POLL = 0.2

T = TypeVar("T")


@contextmanager
def told() -> Iterator[None]:
    """What the lab refuses becomes one line on stderr and its exit code."""
    try:
        yield
    except LabError as error:
        raise Problem(str(error), Exit(error.exit_code)) from error


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    with told():
        return asyncio.run(coroutine)


@click.group()
def lab() -> None:
    """A whole system on this machine: two sites, a witness, carriers, the lines between them."""


@lab.command()
@click.option("--base-port", type=BasePort(), help=f"First of 100 ports. [{DEFAULT_BASE}]")
@click.option("--wan-ms", type=Amount(0, 10_000), help="Round trip between the places. [35]")
@click.option("--dispatchers", type=click.IntRange(1, MAX_DISPATCHERS), help="Dispatchers per site. [2]")
@click.option(
    "--nodes-per-site", type=click.IntRange(1, MAX_NODES), help="PostgreSQLs with an agent, per site. [1]"
)
@click.option(
    "--volume-mb",
    type=click.IntRange(SMALLEST),
    help="A volume of that size for each node's data, to be filled by drills; needs root. [none]",
)
@click.option(
    "--etcd-quota-mb",
    type=click.IntRange(SMALLEST_QUOTA_MB),
    help=f"How large etcd's store may grow. [{QUOTA_MB}]",
)
@click.option(
    "--shared-buffers-mb",
    type=click.IntRange(SMALLEST_BUFFERS_MB),
    help=f"Memory that each PostgreSQL keeps pages in. [{BUFFERS_MB}]",
)
@click.option("--simulators", type=click.IntRange(1, MAX_CARRIERS), help="Simulated carriers. [2]")
@click.option(
    "--carrier",
    "carriers",
    multiple=True,
    type=CarrierType(),
    help="An SMSC that runs already, instead of simulators. Its password: HOTSITE_SECRET_CARRIER_<NAME>,"
    " or --carrier-password-file, else `hotsite`.",
)
@click.option(
    "--carrier-password-file",
    "password_files",
    multiple=True,
    metavar="NAME=FILE",
    help="Where a carrier's password stands.",
)
@click.option("--no-restart", is_flag=True, help="Do not start again what dies.")
@click.option("--fresh", is_flag=True, help="Forget what an earlier lab in this folder kept.")
@click.option("--detach", is_flag=True, help="Come back when everything is up; `lab down` ends it.")
@with_globals
def up(
    options: Globals,
    *,
    carriers: tuple[ExternalCarrier, ...],
    password_files: tuple[str, ...],
    no_restart: bool,
    fresh: bool,
    detach: bool,
    **numbers: float | None,
) -> None:
    """Start a lab. Without --detach it runs until Ctrl-C. Data of an earlier run in the folder are kept.

    With --config FILE as the file says (see configs/lab.toml), unless a flag says otherwise.
    """
    wanted: dict[str, Any] = {"restart": True, **_from_file(options.config)}
    wanted |= {name: value for name, value in numbers.items() if value is not None}
    if no_restart:
        wanted["restart"] = False
    if carriers:
        _refuse_unfit(carriers)
        wanted["carriers"] = carriers
    passwords = _passwords(wanted.get("carriers", ()), password_files)
    with told():
        plan = startup.prepare(options.lab, wanted, passwords, fresh=fresh)
    start(options, plan, foreground=not detach)
    if not detach:
        _stay(options, plan)


def _from_file(config: Path | None) -> dict[str, Any]:
    """What the lab's file sets, if one is named."""
    if config is None:
        return {}
    try:
        return read_lab_file(config).options()
    except SettingsError as error:
        raise Problem(str(error), Exit.USAGE) from error


def _refuse_unfit(carriers: tuple[ExternalCarrier, ...]) -> None:
    names = [carrier.name for carrier in carriers]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Problem(f"--carrier: two are called {twice!r}; give each a name of its own", Exit.USAGE)
    if len(names) > MAX_CARRIERS:
        raise Problem(f"--carrier: a lab has at most {MAX_CARRIERS}, not {len(names)}", Exit.USAGE)


def _passwords(carriers: tuple[ExternalCarrier, ...], files: tuple[str, ...]) -> dict[str, str]:
    passwords = {}
    for carrier in carriers:
        variable = "HOTSITE_SECRET_CARRIER_" + carrier.name.upper().replace("-", "_")
        if variable in os.environ:
            passwords[carrier.name] = os.environ[variable]
    for entry in files:
        name, _, file = entry.partition("=")
        if name not in {carrier.name for carrier in carriers}:
            raise Problem(f"--carrier-password-file {entry}: no --carrier is called {name!r}", Exit.USAGE)
        try:
            passwords[name] = Path(file).read_text().strip()
        except OSError as error:
            raise Problem(f"--carrier-password-file {entry}: {error.strerror}", Exit.USAGE) from error
    return passwords


def _stay(options: Globals, plan: Plan) -> None:
    """In the foreground: until Ctrl-C, SIGTERM or the end of the supervisor."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options.console.print("Ctrl-C ends it.")
    try:
        while plan.directory.is_running:
            time.sleep(POLL)
    except KeyboardInterrupt:
        options.console.print("ending the lab")
    bring_down(plan.directory)


@lab.command()
@with_globals
def status(options: Globals) -> None:
    """Every process, the lines, who leads. Exit code 6 when something is down or one site is not in step."""
    document = run(_status(options))
    if options.as_json:
        options.emit(document)
    else:
        options.console.print(status_table(document))
    leave(Exit.DONE if is_whole(document) else Exit.DEGRADED)


async def _status(options: Globals) -> dict[str, Any]:
    async with LabControl.open(options.lab) as control:
        return await status_of(control)


@lab.command()
@click.option("--purge", is_flag=True, help="Also remove the lab's folder and data.")
@with_globals
def down(options: Globals, *, purge: bool) -> None:
    """End the lab: nothing of it runs afterwards, also when its supervisor had crashed or its record is damaged."""
    with told():
        lab_dir = LabDir.at(options.lab)
        if not lab_dir.is_ours:
            raise LabUnreachableError(f"no lab in {lab_dir.root}: name its folder with --dir")
        with options.console.status("ending the lab"):
            stragglers = bring_down(lab_dir)
        if purge:
            startup.remove(options.lab)
    if options.as_json:
        options.emit({"dir": str(lab_dir.root), "stragglers": stragglers, "purged": purge})
    else:
        also = f"; {stragglers} processes were left over from a crash" if stragglers else ""
        options.console.print(f"Nothing of the lab in {lab_dir.root} runs any more{also}.")


@lab.command()
@click.argument("process")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=50, show_default=True, help="How many of the last lines."
)
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is added, until Ctrl-C.")
@with_globals
def logs(options: Globals, process: str, *, lines: int, follow: bool) -> None:
    """The log of one process: a name of `lab status`, or supervisor."""
    with told():
        files = read_lab(options.lab).logs
    if process not in files:
        raise Problem(
            f"no process of this lab is called {process!r}; there are: {', '.join(files)}", Exit.USAGE
        )
    file = files[process]
    if not file.exists():
        raise Problem(f"{process} has no log yet: it was never started", Exit.FAILED)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and tail would complain of `| head`
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), str(file)])  # noqa: S606 # tail does it best


@lab.command(epilog="Faults: " + ", ".join(FAULTS))
@click.argument("name", type=click.Choice(list(FAULTS)), metavar="NAME")
@click.option(
    "--site", type=click.Choice(PLACES), help="Where; else the site that the fault's name speaks of."
)
@click.option("--for", "seconds", type=Amount(0, 86_400), help="Heal after so many seconds.")
@with_globals
def fault(options: Globals, name: str, *, site: str | None, seconds: float | None) -> None:
    """Break one thing, by hand. `lab heal` mends it.

    Nothing asks for confirmation: it reaches nothing but a lab, and a lab is there to be broken.
    """
    where = run(_strike(options, name, site))
    if not options.as_json:
        options.console.print(f"{name} at {where}: {FAULTS[name].summary}")
    if seconds is not None:
        time.sleep(seconds)
        run(_heal(options))
    if options.as_json:
        options.emit({"fault": name, "site": where, "healed": seconds is not None})


async def _strike(options: Globals, name: str, site: str | None) -> str:
    async with LabControl.open(options.lab) as control:
        where = await site_for(control, FAULTS[name], site)
        await FAULTS[name].strike(control, where)
        return where


@lab.command("heal")
@with_globals
def heal_command(options: Globals) -> None:
    """Mend every line, continue what was stopped, start what was held down."""
    run(_heal(options))
    if options.as_json:
        options.emit({"healed": True})
    else:
        options.console.print("Every line is mended, everything may run again.")


async def _heal(options: Globals) -> None:
    async with LabControl.open(options.lab) as control:
        await heal(control)


@click.command()
@click.option("--keep", is_flag=True, help="Leave the lab running afterwards.")
@click.option(
    "--customers",
    type=click.IntRange(1, 100_000),
    default=5_000,
    show_default=True,
    help="How many are told of the outage.",
)
@click.option(
    "--base-port", type=BasePort(), default=DEFAULT_BASE, show_default=True, help="First of 100 ports."
)
@with_globals
def demo(options: Globals, *, keep: bool, customers: int, base_port: int) -> None:
    """Both sites, real traffic, the live site killed in the middle, nothing lost: and the proof."""
    from sitecontrol.lab.demo import run_demo  # noqa: PLC0415 # the drills' machinery, needed by this command only

    try:
        with told():
            held = run_demo(options, keep=keep, customers=customers, base_port=base_port)
    except KeyboardInterrupt:
        sys.exit(130)
    leave(Exit.DONE if held else Exit.FAILED)
