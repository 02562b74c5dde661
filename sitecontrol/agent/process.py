"""Puts the agent together from the settings and runs it until SIGTERM or SIGINT."""

import asyncio
import signal
import ssl
from pathlib import Path

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from replication.errors import DataDirectoryInUse, ToolsMissing
from replication.session import Session, Target
from sitecontrol import quarantine
from sitecontrol.agent.agent import Agent
from sitecontrol.agent.api import AgentApi
from sitecontrol.agent.bootstrap import Bootstrapper
from sitecontrol.agent.chronicle import Chronicle
from sitecontrol.agent.executor import Executor, Scribe
from sitecontrol.agent.keeper import Keeper, place_of
from sitecontrol.agent.memory import Memory
from sitecontrol.agent.metrics import AgentCollector
from sitecontrol.agent.monitor import Monitor
from sitecontrol.agent.neighbours import Neighbours, statuses
from sitecontrol.agent.own_postgres import OwnPostgres
from sitecontrol.agent.row import Row
from sitecontrol.agent.steps import Steps
from sitecontrol.etcd.connect import connect
from sitecontrol.lab_clock import clock_of
from sitecontrol.leadership.proof import check, complaint, prove
from sitecontrol.leadership.timing import seconds_of_place
from sitecontrol.logging import configure
from sitecontrol.settings import Environment, Secrets, Settings, SettingsError
from sitecontrol.tls import client_context, server_context
from sitecontrol.traffic.adapters import adapters_of
from sitecontrol.traffic.mover import Mover
from sitecontrol.view import ClusterView

log = structlog.get_logger()

CONNECT_WITHIN = 2.0  # seconds


def split_address(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS for the agent's API; outside a lab there is no way around it."""
    context = server_context(settings.security)
    if context is None and settings.site.environment is not Environment.LAB:
        raise SettingsError(
            "security.tls_cert_file and security.tls_key_file: missing; outside a lab the agent speaks TLS only."
            " Name a certificate and its key (PEM)"
        )
    return context


async def run_agent(settings: Settings) -> None:
    """Run until told to stop. Raises SettingsError when the settings cannot work on this machine."""
    if settings.replication is None or settings.agent is None or settings.site.node is None:
        raise SettingsError("an agent needs site.node, [replication] and [agent]; the witness runs no agent")
    check(seconds_of_place(settings))
    client_context(
        settings.security
    )  # a file that cannot be used is refused here, not when it is first needed
    configure(f"agent {settings.site.node}")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    state_dir = settings.site.state_dir
    state_dir.mkdir(parents=True, exist_ok=True)
    try:
        postgres = OwnPostgres(
            settings, Secrets.of(settings), clock_of(settings), marker=state_dir / "bootstrapping"
        )
        await postgres.take()
    except (ToolsMissing, DataDirectoryInUse) as error:
        raise SettingsError(str(error)) from error
    try:
        await _run(settings, settings.site.node, settings.agent.listen, postgres, state_dir, stop)
    finally:
        await postgres.release()


async def _run(
    settings: Settings, node: str, listen: str, postgres: OwnPostgres, state_dir: Path, stop: asyncio.Event
) -> None:
    clock, secrets = clock_of(settings), Secrets.of(settings)
    mover = Mover(adapters_of(settings, secrets), check_every=settings.traffic.check_every, clock=clock)
    etcd = connect(settings.etcd, secrets, clock)
    view = ClusterView(etcd, settings.prefix, clock)
    keeper = Keeper(etcd, clock, settings.failover, state_dir / "lease", place=place_of(state_dir))
    memory, wake = Memory(), asyncio.Event()
    monitor = Monitor(
        postgres.connect, postgres.at_rest, postgres.running, wake.set, clock, settings.failover
    )
    row, scribe = Row(postgres.connect), Scribe(etcd, view, settings)

    def repaired() -> None:
        memory.repairs += 1

    def join_failed(standby: str) -> None:
        memory.note_failed_join(standby, clock.now())

    async def connect_monitor(name: str) -> Session:
        known = settings.node(name)
        if known is None:
            raise LookupError(name)
        host, port = split_address(known.postgres)
        target = Target(
            host=host,
            port=port,
            user="hotsite_monitor",
            password=secrets.get("postgres-monitor"),
            database="hotsite",
            application_name=f"agent {node}",
        )
        return await Session.connect(target, timeout=CONNECT_WITHIN)

    executor = Executor(
        etcd=etcd,
        scribe=scribe,
        postgres=postgres,
        bootstrapper=Bootstrapper(
            postgres=postgres,
            writer=scribe.writer,
            write=scribe.write,
            secrets=secrets,
            marker=postgres.marker,
            others_with_data=lambda: other_with_data(settings, node),
            clock=clock,
        ),
        steps=Steps(postgres, row, scribe.writer, scribe.write, join_failed),
        row=row,
        look=monitor.poll,
        repaired=repaired,
        proved=monitor.proved,
        hands_over=memory.note_hand_over,
        clock=clock,
        settings=settings,
    )
    agent = Agent(
        settings=settings,
        node=node,
        etcd=etcd,
        clock=clock,
        view=view,
        keeper=keeper,
        monitor=monitor,
        neighbours=Neighbours(settings, etcd, connect_monitor, clock),
        executor=executor,
        memory=memory,
        mover=mover,
        wake=wake,
        chronicle=Chronicle(
            scribe=scribe,
            etcd=etcd,
            settings=settings,
            clock=clock,
            files=lambda: quarantine.found(quarantine.folder_in(state_dir)),
        ),
    )
    agent.state.ask_others = lambda: statuses(settings, node)
    registry = CollectorRegistry()
    registry.register(AgentCollector(agent.state))
    api = AgentApi(agent.state, etcd, secrets.get("operator-token"), registry)
    runner = web.AppRunner(api.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await _listen(runner, listen, tls_context(settings))
        log.info("agent_started", node=node, listen=listen)
        for finding in prove(seconds_of_place(settings)):
            if not finding.holds:
                log.warning("promise_not_kept", why=complaint(finding))
        await _until_stopped(agent, stop)
    finally:
        await runner.cleanup()
        await etcd.aclose()


async def other_with_data(settings: Settings, own: str) -> str | None:
    """A configured node whose agent says that it has data; those that do not answer are not known to have any. What a
    first start has left unfinished is none: else two of them would wait for each other for ever.
    """
    for other, told in (await statuses(settings, own)).items():
        held = told["postgres"] if told is not None else {}
        if held.get("incarnation") is not None and not held.get("unfinished"):
            return other
    return None


async def _listen(runner: web.AppRunner, listen: str, context: ssl.SSLContext | None) -> None:
    host, port = split_address(listen)
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
    except OSError as error:
        raise SettingsError(
            f"agent.listen = {listen!r}: {error.strerror}; free the port or choose another"
        ) from error


async def _until_stopped(agent: Agent, stop: asyncio.Event) -> None:
    """An unexpected end of the agent's tasks ends the process loudly: a supervisor starts it anew."""
    running = asyncio.create_task(agent.run(), name="agent")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not running.done():
        running.cancel()
    await asyncio.gather(running, return_exceptions=stop.is_set())
