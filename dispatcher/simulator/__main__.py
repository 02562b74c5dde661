"""`python -m dispatcher.simulator`: one simulated carrier as a process."""

import asyncio
import ipaddress
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import structlog
import uvloop
from aiohttp import web

from dispatcher.simulator.control import create_app
from dispatcher.simulator.faults import Faults, Stat, parse_outcome
from dispatcher.simulator.server import Esme
from dispatcher.simulator.smsc import Smsc
from dispatcher.simulator.submit_log import SubmitLog

MAX_PASSWORD: Final = 8
GOODBYE_S: Final = 0.2  # for unbind to reach the ESMEs

log = structlog.get_logger()


def address(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """HOST:PORT."""
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise click.BadParameter(f"{value!r} is not HOST:PORT, for example 127.0.0.1:2775")
    return host.strip("[]"), int(port)


def outcome(_context: click.Context, _option: click.Parameter, value: str) -> dict[Stat, float]:
    """DELIVRD, or weights."""
    try:
        return parse_outcome(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: give DELIVRD, or DELIVRD=9,UNDELIV=1") from error


@dataclass(frozen=True, kw_only=True)
class Options:
    listen: tuple[str, int]
    control: tuple[str, int] | None
    system_id: str
    password: str
    log: Path
    faults: Faults


async def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when an address or the log cannot be used."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    smsc = Smsc(
        passwords={options.system_id: options.password}, log=SubmitLog(options.log), faults=options.faults
    )
    runner = web.AppRunner(create_app(smsc), access_log=None)
    await runner.setup()
    server: asyncio.Server | None = None
    try:
        server = await loop.create_server(lambda: Esme(smsc), *options.listen)
        if options.control:
            await web.TCPSite(runner, *options.control, shutdown_timeout=GOODBYE_S).start()
        log.info("listening", smpp=options.listen, control=options.control)
        await stopping.wait()
    finally:
        if server:
            server.close()
        await smsc.goodbye(GOODBYE_S)
        await runner.cleanup()
        smsc.close()


@click.command()
@click.option("--listen", metavar="HOST:PORT", callback=address, required=True, help="Where ESMEs bind.")
@click.option("--system-id", required=True, help="Who may bind.")
@click.option("--password-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option(
    "--log",
    "log_file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Append a JSON line for every submit received.",
)
@click.option("--receipt-delay-ms", type=click.FloatRange(0, 3_600_000), default=50.0, show_default=True)
@click.option(
    "--receipt-outcome",
    metavar="OUTCOME",
    callback=outcome,
    default="DELIVRD",
    show_default=True,
    help="Or weights: DELIVRD=9,UNDELIV=1",
)
@click.option(
    "--control",
    metavar="HOST:PORT",
    callback=address,
    help="Loopback address of the HTTP endpoint for faults.",
)
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Submits a second; more are throttled."
)
def main(
    *,
    listen: tuple[str, int],
    system_id: str,
    password_file: Path,
    log_file: Path,
    receipt_delay_ms: float,
    receipt_outcome: dict[Stat, float],
    control: tuple[str, int] | None,
    rate: float | None,
) -> None:
    """A carrier's SMSC that accepts binds, answers texts, sends receipts, and fails when told to."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer(),
        ],
    )
    if control and not _is_loopback(control[0]):
        raise click.BadParameter(f"{control[0]} is not on loopback; use 127.0.0.1", param_hint="--control")
    password = password_file.read_text().strip()
    if len(password.encode()) > MAX_PASSWORD:
        raise click.BadParameter(f"SMPP carries {MAX_PASSWORD} octets at most", param_hint="--password-file")
    faults = Faults(receipt_delay_ms=receipt_delay_ms, outcome=receipt_outcome, rate=rate)
    options = Options(
        listen=listen,
        control=control,
        system_id=system_id,
        password=password,
        log=log_file,
        faults=faults,
    )
    try:
        uvloop.run(run(options))
    except OSError as error:
        click.echo(f"simulator: {error}", err=True)
        sys.exit(2)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    main()
