"""Jasmin as its authors ship it: jasmind, with a RabbitMQ and a Redis of its own, and no receipts asked for.

It is installed from PyPI into a virtual environment outside the project, made when it is first needed. It answers 200
when RabbitMQ's memory has the text. Connector, user and route are made over its console. Receipts are left out in its
favour: 0.11.1 cannot tell which text they belong to (https://github.com/jookies/jasmin/issues/1236).
"""

import asyncio
import configparser
import contextlib
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from bench.lab import BenchError
from bench.peers.gateway import TEXT, Gateway, NotInstalledError
from bench.peers.programs import CARRIER_ID, CARRIER_PASSWORD, carrier, listens, program, running
from sitecontrol.lab.numbers import fictional_number

VERSION = "0.11.1"
PASSWORD = "loopback"  # noqa: S105 # of a gateway that lives for a minute
MEANS = "in RabbitMQ's memory on one machine"
CONSOLE_WITHIN = 20.0
INSTALL_WITHIN = 300.0
SPEC = "lib/python3*/site-packages/txamqp/specs/standard/amqp0-9-1.stripped.xml"  # Jasmin's own is not in its package
RABBITMQ = "/usr/lib/rabbitmq/bin"  # of Debian; what it has in /usr/sbin changes the user
GREETED = b"Session ref: "
PROMPTS = (b"\njcli : ", b"\n> ")
QUIET = (
    "amqp-broker", "redis-client", "http-api", "jcli", "client-management", "sm-listener", "dlr", "router",
    "smpp-server", "smpp-server-pb", "service-smppclient",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ports:
    carrier: int
    amqp: int
    erlang: int
    epmd: int
    redis: int
    http: int
    console: int
    router: int
    clients: int
    smpp: int  # its own SMPP server, that nobody uses; jasmind does not start without it
    smpp_control: int

    @classmethod
    def of(cls, base: int) -> "Ports":
        return cls(carrier=base, amqp=base + 1, erlang=base + 2, epmd=base + 3, redis=base + 4, http=base + 5,
                   console=base + 6, router=base + 7, clients=base + 8, smpp=base + 9,
                   smpp_control=base + 10)  # fmt: skip


def configuration(ports: Ports, spec: Path) -> str:
    """jasmin.cfg: everything on loopback, and no line of log for each text."""
    parser = configparser.RawConfigParser()
    for section in QUIET:
        parser[section] = {
            "log_level": "CRITICAL"
        }  # an error for each answer of the carrier: the issue named above
    parser["amqp-broker"].update({"host": "127.0.0.1", "port": str(ports.amqp), "spec": str(spec)})
    parser["redis-client"].update({"host": "127.0.0.1", "port": str(ports.redis)})
    for section, port in (
        ("http-api", ports.http),
        ("jcli", ports.console),
        ("router", ports.router),
        ("client-management", ports.clients),
        ("smpp-server", ports.smpp),
        ("smpp-server-pb", ports.smpp_control),
    ):
        parser[section].update({"bind": "127.0.0.1", "port": str(port)})
    parser["http-api"]["access_log"] = os.devnull
    parser["jcli"]["authentication"] = "no"
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


def console_lines(ports: Ports) -> list[str]:
    """What an operator types: a carrier without a limit of its rate, a user, and one route."""
    connector: dict[str, str | int] = {
        "cid": "carrier", "host": "127.0.0.1", "port": ports.carrier, "username": CARRIER_ID,
        "password": CARRIER_PASSWORD, "bind": "transceiver", "submit_throughput": 0, "loglevel": 40,
    }  # fmt: skip
    asked: list[tuple[str, dict[str, str | int]]] = [
        ("smppccm -a", connector),
        ("group -a", {"gid": "bench"}),
        ("user -a", {"username": "bench", "password": PASSWORD, "gid": "bench", "uid": "bench"}),
        ("mtrouter -a", {"type": "DefaultRoute", "connector": "smppc(carrier)", "rate": "0.00"}),
    ]
    lines = [
        line
        for command, keys in asked
        for line in (command, *(f"{key} {value}" for key, value in keys.items()), "ok")
    ]
    return [*lines, "smppccm -1 carrier"]


def request(host: str, number: int) -> bytes:
    query = urlencode(
        {
            "username": "bench",
            "password": PASSWORD,
            "from": "55501",
            "to": fictional_number(number),
            "content": TEXT,
            "dlr": "no",
        }
    )
    return f"GET /send?{query} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def rabbit_environment(ports: Ports, folder: Path) -> dict[str, str]:
    """A node of its own on loopback, that neither reads nor writes the system's files."""
    home = folder / "rabbitmq"
    return {
        "HOME": str(home),
        "RABBITMQ_NODENAME": "peer@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(ports.amqp),
        "RABBITMQ_DIST_PORT": str(ports.erlang),
        "ERL_EPMD_PORT": str(ports.epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "none.conf"),
        "RABBITMQ_CONFIG_FILE": str(home / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
    }


async def installed(environment: Path) -> Path:
    """The folder of Jasmin's programs, installed there unless it is. Raises NotInstalledError."""
    programs = environment / "bin"
    if not (programs / "jasmind.py").exists():
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for argv in ([sys.executable, "-m", "venv", str(environment)], [*pip, f"jasmin=={VERSION}"]):
            try:
                done = await asyncio.to_thread(
                    subprocess.run, argv, capture_output=True, text=True, check=False, timeout=INSTALL_WITHIN
                )
            except subprocess.TimeoutExpired as error:
                raise NotInstalledError(f"installing jasmin=={VERSION} from PyPI took too long") from error
            if done.returncode:
                raise NotInstalledError(
                    f"jasmin=={VERSION} could not be installed from PyPI: {done.stderr.strip()[-300:]}"
                )
    return programs


async def type_in(port: int, lines: list[str]) -> None:
    """Each line when the console asks for it. Raises BenchError with what it said when it refuses one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(CONSOLE_WITHIN):
            await reader.readuntil(GREETED)
            for line in lines:
                writer.write(f"{line}\r\n".encode())
                if refused(line, said := await _prompt(reader)):
                    raise BenchError(f"Jasmin's console refused {line!r}: {said.strip()}")
    except (TimeoutError, asyncio.IncompleteReadError) as error:
        raise BenchError("Jasmin's console did not answer") from error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def refused(line: str, said: str) -> bool:
    """A line that ends something must be told to have succeeded; the others only collect."""
    return (line == "ok" or line.startswith("smppccm -1")) and "Successfully" not in said


async def _prompt(reader: asyncio.StreamReader) -> str:
    said = b""
    while not said.endswith(PROMPTS):
        said += await reader.readexactly(1)
    return said.decode(errors="replace")


@asynccontextmanager
async def running_jasmin(folder: Path, base: int, environment: Path) -> AsyncIterator[Gateway]:
    """Bound to its carrier and taking texts. Raises NotInstalledError, BenchError."""
    rabbitmq = program("rabbitmq-server", "rabbitmq-server", first=RABBITMQ)
    epmd = program("epmd", "rabbitmq-server")
    redis = program("redis-server", "redis-server")
    programs = await installed(environment)
    ports = Ports.of(base)
    for name in ("rabbitmq", "log", "store"):
        (folder / name).mkdir()
    rabbit = rabbit_environment(ports, folder)
    (folder / "rabbitmq" / "plugins").write_text("[].\n")
    settings = folder / "jasmin.cfg"
    settings.write_text(configuration(ports, next(environment.glob(SPEC))))  # noqa: ASYNC240 # nothing else runs yet
    paths = {"CONFIG_PATH": str(folder), "LOG_PATH": str(folder / "log"), "STORE_PATH": str(folder / "store")}
    with ExitStack() as stack:

        def start(name: str, *argv: str | Path, env: dict[str, str] | None = None) -> int:
            return stack.enter_context(running(argv, folder, name=name, env=env))

        log = stack.enter_context(carrier(folder, ports.carrier))
        kinds = {
            start("epmd", epmd, "-port", str(ports.epmd), "-address", "127.0.0.1"): "RabbitMQ",
            start("redis", redis, "--port", str(ports.redis), "--bind", "127.0.0.1", "--save", ""): "Redis",
        }
        await listens(ports.epmd, "epmd", folder)
        broker = start("rabbitmq", rabbitmq, env=rabbit)
        kinds[broker] = "RabbitMQ"
        for port, what in ((ports.redis, "Redis"), (ports.amqp, "RabbitMQ"), (ports.carrier, "the carrier")):
            await listens(port, what, folder)
        daemon = start("jasmind", programs / "python", programs / "jasmind.py", "-c", settings, env=paths)
        kinds[daemon] = "jasmind"
        for port in (ports.console, ports.http):
            await listens(port, "jasmind", folder, pid=daemon)
        await type_in(ports.console, console_lines(ports))
        yield Gateway(
            name=f"Jasmin {VERSION}",
            accepted_means=MEANS,
            doors=[("127.0.0.1", ports.http)],
            request=request,
            kinds=kinds,
            carrier_logs=[log],
            yes=200,
        )
