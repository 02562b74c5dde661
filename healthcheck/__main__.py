"""`python -m healthcheck --config FILE`: the health-check daemon of one place. SIGTERM stops it cleanly."""

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

import click
import structlog
import uvloop
from aiohttp import web

from healthcheck.daemon import Daemon
from healthcheck.probes.result import host_port
from healthcheck.web import application
from sitecontrol.etcd.connect import connect
from sitecontrol.lab_clock import clock_of
from sitecontrol.logging import configure
from sitecontrol.settings import HealthSettings, Secrets, SecuritySettings, Settings, SettingsError, load
from sitecontrol.tls import server_context

log = structlog.get_logger()

STOP_WITHIN = 0.5  # seconds for requests that are under way; watchers of the page come back by themselves


@click.command()
@click.option("--config", type=click.Path(path_type=Path), required=True, help="This place's TOML file.")
def main(config: Path) -> None:
    """Look at everything from this place, publish what is seen, serve the NOC page."""
    try:
        settings = load(config)
        configure(f"healthcheck {settings.site.name}")
        uvloop.run(run(settings, section_of(settings, config)))
    except SettingsError as error:
        click.echo(" ".join(str(error).split("\n")), err=True)
        sys.exit(2)


def section_of(settings: Settings, config: Path) -> HealthSettings:
    if settings.healthcheck is None:
        raise SettingsError(f'{config}: [healthcheck] is missing; add it with listen = "127.0.0.1:8008"')
    return settings.healthcheck


async def run(settings: Settings, health: HealthSettings) -> None:
    """Run until SIGTERM or SIGINT. Raises SettingsError when the settings cannot work on this machine."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clock, secrets = clock_of(settings), Secrets.of(settings)
    etcd = connect(settings.etcd, secrets, clock)
    daemon = Daemon(settings, health, etcd, secrets, clock)
    runner = web.AppRunner(application(daemon, clock), access_log=None, shutdown_timeout=STOP_WITHIN)
    await runner.setup()
    try:
        await listen(runner, health.listen, settings.security)
        log.info("healthcheck_started", place=settings.site.name, listen=health.listen)
        await _until_stopped(daemon, stop)
    finally:
        await runner.cleanup()
        await daemon.aclose()
        await etcd.aclose()
    log.info("healthcheck_stopped", place=settings.site.name)


async def listen(runner: web.AppRunner, address: str, security: SecuritySettings) -> None:
    """With TLS when the settings name a certificate; the page changes nothing, so plain HTTP is allowed."""
    host, port = host_port(address)
    try:
        await web.TCPSite(runner, host, port, ssl_context=server_context(security)).start()
    except OSError as error:
        raise SettingsError(
            f"healthcheck.listen = {address!r}: {error.strerror}; free the port or choose another"
        ) from error


async def _until_stopped(daemon: Daemon, stop: asyncio.Event) -> None:
    """An unexpected end of a task ends the process loudly: a supervisor starts it anew."""
    running = asyncio.create_task(daemon.run(), name="daemon")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if stop.is_set():
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    else:
        await running


if __name__ == "__main__":
    main()
